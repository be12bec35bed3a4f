"""Arrays as memory maps. Each map holds a descriptor, so where these run short an array is read into memory instead."""

import mmap
import threading
import weakref
from typing import BinaryIO

import numpy as np

from bb.store.files.descriptors import is_shortage, limit, nearly_all_taken

_maps: "weakref.WeakSet[mmap.mmap]" = weakref.WeakSet()
_lock = threading.Lock()


def map_numbers(file: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of a file that holds just these, read-only; copied where descriptors are short.

    They are short when memory maps hold half of them, or when few are left with all else that is open.
    """
    with _lock:
        crowded = len(_maps) >= limit() // 2 or nearly_all_taken(file)
    if not crowded:
        try:
            array = np.memmap(file, dtype=dtype, mode="r", shape=shape)
            assert isinstance(array.base, mmap.mmap)
        except OSError as error:
            if not is_shortage(error):
                raise
        else:
            with _lock:
                _maps.add(array.base)
            return array
    file.seek(0)
    copy = np.fromfile(file, dtype=dtype).reshape(shape)
    copy.flags.writeable = False
    return copy
