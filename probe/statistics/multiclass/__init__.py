"""Metrics of tasks of any number of classes, and their intervals."""
