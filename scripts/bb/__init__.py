"""The command line. Each verb turns words into a library call and its result into words; work is done in the layers.

    console < settings < options, stores, … < cluster < verbs; cli.py has the tree of verbs

Nothing heavy is imported before a verb needs it, so that `bb --help` answers at once and without torch.
"""

import os
import sys

INTERRUPTED = 130  # what typer makes of Ctrl-C


def main() -> None:
    """Runs the command line; a person's mistake ends in a message and status 1 or 2, never in a traceback."""
    from bb.cli import app
    from bb.console import warn
    from bb.store.errors import BBError

    try:
        app()
    except SystemExit as done:
        if done.code != INTERRUPTED:
            raise
        warn("bb: stopped. What was finished is in the store; the same command goes on from there.")
        sys.exit(1)
    except BBError as error:
        warn(f"bb: {error}")
        sys.exit(error.exit_status)
    except BrokenPipeError:  # `bb … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        remedy = "The cache was removed while bb ran: rerun" if _cache_is_gone(error) else "Fix this and rerun"
        warn(f"bb: {where}{error.strerror or error}. {remedy} the command.")
        sys.exit(1)


def _cache_is_gone(error: OSError) -> bool:
    from bb.store.errors import UsageError
    from bb.store.files.cache_folder import cache_folder

    try:
        folder = cache_folder()
    except UsageError:
        return False
    return isinstance(error, FileNotFoundError) and str(error.filename).startswith(f"{folder}{os.sep}")
