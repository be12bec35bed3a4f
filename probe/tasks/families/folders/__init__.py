"""Families whose labels are a folder for each class."""
