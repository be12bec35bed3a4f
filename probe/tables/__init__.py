"""Tables as people make them, read and checked."""
