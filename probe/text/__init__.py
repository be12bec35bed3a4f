"""Stored vectors of texts against stored features of images: zero-shot classification, search, and their scores."""
