"""numba's compiler with a cache on disk that can be written, also in a container whose install and home can't be."""

import atexit
import inspect
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import config

from bb.store.errors import UsageError
from bb.store.files.cache_folder import cache_folder


def compiled(*signature: object, **options: object) -> Callable[[Callable[..., Any]], Any]:
    """numba's njit, kept on disk and without the interpreter lock.

    Tests have jaxtyping wrap every function to check its annotations; what is compiled is the function inside.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        plain = inspect.unwrap(function)
        try:
            return _njit(plain, signature, options)
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
            _use(_writable_folder())
            return _njit(plain, signature, options)

    return decorate


def _njit(function: Callable[..., Any], signature: tuple[object, ...], options: dict[str, object]) -> Any:
    return njit(*signature, cache=True, nogil=True, error_model="numpy", **options)(function)


def _use(folder: str) -> None:
    """Has numba keep machine code there, in this process and those that it starts."""
    os.environ["NUMBA_CACHE_DIR"] = config.CACHE_DIR = folder


def _writable_folder() -> str:
    """A folder below bb's cache, else one that is removed when this process ends, with a message."""
    try:
        folder = cache_folder() / "numba"
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        return str(folder)
    except (OSError, UsageError):
        # A name that nobody can guess: numba unpickles what it finds there.
        temporary = tempfile.mkdtemp(prefix="bb-numba-")
    atexit.register(_remove, Path(temporary), os.getpid())
    logging.getLogger("bb").warning(
        "note: no cache for compiled code can be written, so it is compiled again in every process: "
        "set BB_CACHE to a folder that can be written"
    )
    return temporary


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a fork
        shutil.rmtree(folder, ignore_errors=True)
