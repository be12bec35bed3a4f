"""From a name that a user types to a backbone and its feature spaces."""
