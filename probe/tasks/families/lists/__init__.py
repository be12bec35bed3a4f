"""Families whose labels are lists of words, a line for each image."""
