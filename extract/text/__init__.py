"""All that decides the vector of a text, but text and weights: an edit here renews every text space's key."""
