"""Projection heads that are trained on stored features, and the feature spaces that they make."""
