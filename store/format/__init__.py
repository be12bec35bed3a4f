"""What the bytes of a store mean: records, keys and the shapes that are allowed."""
