"""Pairwise models that re-rank the nearest images: how they are learned, kept and compared."""
