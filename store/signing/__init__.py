"""Signed statements: keys, what they sign, what they revoke, whom to trust."""
