"""All that decides a vector of a text beside the text and the weights: an edit here renews every text space's key."""
