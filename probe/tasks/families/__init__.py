"""Readers of published data sets as they are on a disk after the publishers' download, by how they are read."""
