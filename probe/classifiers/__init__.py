"""Classifiers on frozen features, and the protocols that use them."""
