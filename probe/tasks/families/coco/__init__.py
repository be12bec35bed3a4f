"""Families whose labels are JSON in COCO's form."""
