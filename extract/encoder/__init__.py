"""Runs a backbone over batches on a device."""
