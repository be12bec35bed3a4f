"""The two errors that a person is meant to read; bb prints their message without a traceback."""


class BBError(Exception):
    """Work failed for a reason that a person can mend. The message names the value and the remedy."""

    exit_status = 1


class UsageError(BBError):
    """What was asked for makes no sense as it stands (unknown name, impossible number)."""

    exit_status = 2
