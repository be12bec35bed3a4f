"""Where image bytes are, and what they hash to."""
