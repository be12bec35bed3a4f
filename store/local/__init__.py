"""A store in a directory of this machine: segments, runs, indexes."""
