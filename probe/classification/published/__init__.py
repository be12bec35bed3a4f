"""The field's published protocols, each a short file and a line of the registry."""
