"""The two errors that a user is meant to read, which bb prints without a traceback, and one between modules."""


class BBError(Exception):
    """Work failed for a reason that a person can fix. The message names the value and the remedy."""

    exit_status = 1


class UsageError(BBError):
    """What was asked for makes no sense as it stands (unknown name, impossible number)."""

    exit_status = 2


class Malformed(Exception):
    """A short fact about bytes that are not what format 1 allows; `Segment` adds which, and what to do."""
