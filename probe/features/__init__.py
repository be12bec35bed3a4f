"""Which stored features a probe reads, and what is missing or damaged."""
