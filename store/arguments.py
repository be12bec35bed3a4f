"""Public calls parse their arguments by their own signatures: NumPy's numbers, one name for several, wrong types."""

import functools
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, SupportsIndex, TypeVar, Union, get_args, get_origin

import numpy as np

from bb.store.errors import UsageError

_P = ParamSpec("_P")
_T = TypeVar("_T")
_MISFIT = object()
_SHOWN = 60  # characters of a value


def parse_arguments(call: Callable[_P, _T]) -> Callable[_P, _T]:
    """The call, whose arguments become plain Python values of the types that its signature names.

    NumPy's numbers become Python's, and integers floats where a float is asked for. Any iterable, or one value alone,
    becomes a tuple where a sequence is asked for. None stands for nothing where that is the default.
    Errors: UsageError that names the argument, its value and what to give.
    """
    signature = inspect.signature(call)

    @functools.wraps(call)
    def parsed(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            parameter = signature.parameters[name]
            if parameter.kind is not parameter.VAR_KEYWORD:
                bound.arguments[name] = _parse(parameter, value)
        return call(*bound.args, **bound.kwargs)

    return parsed


def _parse(parameter: inspect.Parameter, value: Any) -> Any:
    types = _types(parameter.annotation)
    if value is None and isinstance(parameter.default, tuple) and not parameter.default:
        return ()
    found = next((fit for each in types if (fit := _fit(each, value)) is not _MISFIT), _MISFIT)
    words = list(dict.fromkeys(_words(each) for each in types if each not in (None, NoneType)))
    remedy = " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
    if found is _MISFIT:
        raise UsageError(f"{parameter.name}={_short(value)} is of type {type(value).__name__}: give {remedy}.")
    if isinstance(found, tuple) and not found and parameter.default != ():
        raise UsageError(f"{parameter.name}={_short(value)} is empty: give {remedy}, or leave it out.")
    return found


def _types(annotation: Any) -> list[Any]:
    is_union = get_origin(annotation) in (Union, UnionType)
    return [each for part in get_args(annotation) for each in _types(part)] if is_union else [annotation]


def _inner(kind: Any) -> list[Any]:
    """The types of a sequence's values."""
    return [each for part in get_args(kind) for each in _types(part) if each is not ...]


def _fit(kind: Any, value: Any) -> Any:
    """The value as one type takes it, _MISFIT where it does not."""
    origin = get_origin(kind)
    if kind is bool:
        return bool(value) if isinstance(value, bool | np.bool_) else _MISFIT
    if kind in (int, SupportsIndex):
        try:
            return _MISFIT if isinstance(value, bool | np.bool_) else operator.index(value)
        except TypeError:
            return _MISFIT
    if kind is float:
        return float(value) if isinstance(value, Real) and not isinstance(value, bool) else _MISFIT
    if origin is Literal:  # which of the words, the call says
        return value if isinstance(value, str) else _MISFIT
    if origin in (Sequence, tuple):
        if isinstance(value, Mapping):
            return _MISFIT
        types = _inner(kind)
        several = value if isinstance(value, Iterable) and not isinstance(value, str | bytes) else (value,)
        fits = [next((f for t in types if (f := _fit(t, one)) is not _MISFIT), _MISFIT) for one in several]
        return _MISFIT if any(each is _MISFIT for each in fits) else tuple(fits)
    try:
        return value if isinstance(value, NoneType if kind is None else origin or kind) else _MISFIT
    except TypeError:  # a type that can't be checked, such as Any or a protocol
        return value


def _words(kind: Any) -> str:
    """What to give for a type."""
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if get_origin(kind) in (Sequence, tuple):
        several = {"text": "texts", "a whole number": "whole numbers", "a number": "numbers"}
        inner = dict.fromkeys(_words(each) for each in _inner(kind))
        return f"a list of {' or '.join(several.get(words, words) for words in inner)}"
    words = {str: "text", int: "a whole number", SupportsIndex: "a whole number", float: "a number", None: "None",
             bool: "True or False", NoneType: "None"}  # fmt: skip
    frame = "a polars DataFrame (`pl.from_pandas(frame)`, `lazy.collect()`)"
    name = getattr(kind, "__name__", str(kind))
    return words.get(kind) or {"DataFrame": frame, "Path": "a path"}.get(name, f"a {name}")


def _short(value: Any) -> str:
    words = " ".join(repr(value).split())
    return words if len(words) <= _SHOWN else f"{words[: _SHOWN - 1]}…"
