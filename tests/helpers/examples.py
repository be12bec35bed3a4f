"""How many examples hypothesis tries: all that a test asks for in a thorough run, a tenth otherwise."""

from hypothesis import settings

FEWEST, ALL = 10, 100  # of the profiles; `scripts/test --all` loads the thorough one

settings.register_profile("quick", max_examples=FEWEST, deadline=None)
settings.register_profile("thorough", max_examples=ALL, deadline=None)
settings.load_profile("quick")


def examples(n: int) -> int:
    """For `max_examples`, by the profile that is loaded."""
    return max(FEWEST, n * settings.default.max_examples // ALL)
