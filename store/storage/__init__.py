"""Where a store may be: one backend per file, one contract."""
