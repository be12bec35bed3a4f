"""Intervals and tests of retrieval, with labels, sequences or queries as what was sampled."""
