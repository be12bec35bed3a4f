"""What decides a feature: an edit here changes the key of every feature."""

OWN_POOL = "own"
# What pools instead of the network itself, and the word for it in a feature space.
POOLS = {"max": "max over positions", "token": "first token"}
