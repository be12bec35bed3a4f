"""Keeping a store: verify, compact, collect garbage, sign, explain."""
