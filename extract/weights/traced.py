"""What timm's and open_clip's converters of foreign checkpoints do to the tensors: which go where, and whether any is
resampled."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional
from torch import Tensor
from torch.overrides import TorchFunctionMode

_RESAMPLE = (torch.nn.functional.interpolate, torch.nn.functional.grid_sample)


@dataclass(frozen=True)
class Conversion:
    """The tensors that a converter made of a state dict.

    sources: for each, the names of the tensors that its values come from
    resampled: whether anything was interpolated on the way
    """

    state: dict[str, Tensor]
    sources: dict[str, frozenset[str]]
    resampled: bool


def traced(convert: Callable[[dict[str, Tensor]], Mapping[str, Any]], state: Mapping[str, Tensor]) -> Conversion:
    """Run a converter on a copy of the mapping. Raises whatever the converter raises."""
    with _Trace() as trace, torch.no_grad():
        for name, tensor in state.items():
            trace.mark(tensor, {name})
        converted = {str(name): value for name, value in convert(dict(state)).items() if isinstance(value, Tensor)}
    sources = {name: trace.sources_of(tensor) for name, tensor in converted.items()}
    return Conversion(converted, sources, trace.resampled)


class Resampling(TorchFunctionMode):
    """Notices while it is entered whether a tensor is interpolated."""

    found = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found = self.found or func in _RESAMPLE
        return func(*args, **(kwargs or {}))


class _Trace(TorchFunctionMode):
    """Follows names of tensors through every operation on them."""

    def __init__(self) -> None:
        super().__init__()
        self.resampled = False
        self._sources: dict[int, tuple[Tensor, frozenset[str]]] = {}  # with the tensor, so that its id stays its own

    def mark(self, tensor: Tensor, names: set[str] | frozenset[str]) -> None:
        self._sources[id(tensor)] = (tensor, self.sources_of(tensor) | names)

    def sources_of(self, tensor: Tensor) -> frozenset[str]:
        return self._sources.get(id(tensor), (tensor, frozenset()))[1]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.resampled = self.resampled or func in _RESAMPLE
        names = frozenset().union(*(self.sources_of(tensor) for tensor in _tensors([args, kwargs])))
        if names:
            written = args[:1] if _writes(func) else ()
            for tensor in _tensors([result, written]):
                self.mark(tensor, names)
        return result


def _writes(func: Any) -> bool:
    """Whether an operation changes its first argument in place."""
    name = getattr(func, "__name__", "")
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _tensors(each)
