"""Checkpoint files, and fitting their tensors into a network."""
