"""Classifiers of any number of classes on frozen features, each fitted exactly."""
