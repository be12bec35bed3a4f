"""A data set on the Hugging Face Hub as a place for a store."""
