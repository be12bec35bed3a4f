"""What libtiff says of a damaged file: kept for the reason that a person reads, where it would print to the terminal.

Pillow gives "decoder error -2" and leaves the words to libtiff's handler, which writes to standard error.
https://libtiff.gitlab.io/libtiff/functions/TIFFError.html
"""

import ctypes
import functools
import threading
from typing import Any

from bb.extract.embedding.damage import jpeg_warning
from bb.extract.embedding.images import DecodedImage, UnreadableImage

_LONGEST = 200
_of_thread = threading.local()
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)


@functools.cache
def keep_messages() -> bool:
    """From now on libtiff prints nothing. False where Pillow's libtiff can't be reached; then it prints as before."""
    from PIL import Image

    try:
        library = ctypes.CDLL(Image.core.__file__)
        _set(library.TIFFSetErrorHandler, _keep)
        _set(library.TIFFSetWarningHandler, _keep_damage)
    except (AttributeError, OSError):
        return False
    return True


def with_message(error: UnreadableImage) -> UnreadableImage:
    """The same error with what libtiff said in this thread since the last call, if anything."""
    message = forget()
    return UnreadableImage(f"{error} ({message})") if message else error


def with_damage(decoded: DecodedImage) -> DecodedImage:
    """The same picture, damaged where libtiff reported an error in this thread, or libjpeg damage, since the last call:
    Pillow takes a strip for whole after an error in its JPEG data.
    """
    damage = getattr(_of_thread, "damage", "")
    damage = forget() or damage
    return decoded._replace(damage=damage) if damage and not decoded.damage else decoded


def forget() -> str:
    """What libtiff said in this thread, which is empty from now on."""
    message: str = getattr(_of_thread, "message", "")
    _of_thread.message = _of_thread.damage = ""
    return message


def _set(setter: Any, handler: object) -> None:
    setter.restype, setter.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    setter(ctypes.cast(handler, ctypes.c_void_p) if handler else None)  # type: ignore[arg-type]


@_HANDLER
def _keep(module: bytes | None, form: bytes, arguments: int | None) -> None:
    _of_thread.message = _text(form, arguments)


@_HANDLER
def _keep_damage(module: bytes | None, form: bytes, arguments: int | None) -> None:
    _of_thread.damage = jpeg_warning(ValueError(_text(form, arguments))) or getattr(_of_thread, "damage", "")


def _text(form: bytes, arguments: int | None) -> str:
    # A va_list is passed as a pointer on x86-64 and on ARM, so it can be handed on as it came.
    text = ctypes.create_string_buffer(_LONGEST)
    ctypes.CDLL(None).vsnprintf(text, ctypes.c_size_t(_LONGEST), form, ctypes.c_void_p(arguments))
    return " ".join(text.value.decode("utf-8", "replace").split())
