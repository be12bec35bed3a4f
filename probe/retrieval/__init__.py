"""Retrieval, re-identification: which labelled images lie nearest to which; needs no torch."""
