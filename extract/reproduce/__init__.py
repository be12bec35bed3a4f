"""Embed a sample again: to adopt old features or to check stored ones."""
