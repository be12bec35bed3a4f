"""What verbs print of results."""
