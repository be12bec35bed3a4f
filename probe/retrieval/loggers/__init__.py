"""Experiment loggers: one per file, one contract."""
