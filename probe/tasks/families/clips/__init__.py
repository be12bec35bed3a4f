"""Families whose labels are frames of clips."""
