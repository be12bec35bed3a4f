"""Families whose labels are a table with a row for each image."""
