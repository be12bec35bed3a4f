"""A module for each verb: its options, a call into a layer, words."""
