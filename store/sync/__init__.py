"""Push and pull: what is selected, planned, copied and published."""
