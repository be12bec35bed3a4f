"""Classifiers that gradient steps of torch train; what they have learned are arrays, so predicting needs no torch."""
