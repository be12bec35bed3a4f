"""Checkpoint files: read without running anything in them, and the state dicts that they hold.

A state dict is a mapping from dotted names to tensors. Files are safetensors, or what `torch.save` writes, read with
`weights_only=True`. What training scripts save next to the weights in common Python types (numbers of NumPy, paths,
parsed command lines) is replaced by an inert stand-in while it is read: neither the type's code nor its module is used.
Any other type is refused.
"""

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from bb.store.errors import BBError, UsageError

StateDict = dict[str, Tensor]

# Types whose objects are left out, as a pickle names them.
_IGNORED = (
    "argparse.Namespace",
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")),
    *(f"pathlib.{name}" for name in ("Path", "PurePath", "PurePosixPath", "PureWindowsPath")),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    "numpy.dtype",
    "numpy.ndarray",
    "datetime.datetime",
    "datetime.timedelta",
)

# What a file begins with, what it is then, and what to do.
_KINDS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL | re.IGNORECASE), words)
    for pattern, words in (
        (rb"\Z", "is empty. Download or save it again"),
        (rb"\x00+\Z", "begins with zeros alone, as after a download or copy that broke off. Download or save it again"),
        (
            rb"version https://git-lfs",
            "is a git-lfs pointer, not the file. Run `git lfs pull` in its repository",
        ),
        (
            rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)",
            "is a web page: the download got a login or error page instead of the file. Download it again, from the "
            "address of the raw file",
        ),
        (rb"\s*[{\[]\s*[\"{\[\]}]", "is JSON text, not weights. Give the file that holds the tensors"),
        (rb"\x89HDF\r\n", "is an HDF5 file (Keras, h5py). Convert it to safetensors with the architecture's names"),
        (rb"\x93NUMPY", "is a NumPy array. Convert it to safetensors with the architecture's names"),
        (rb"GGUF", "is a GGUF file. Give the weights as safetensors or a state dict of PyTorch"),
        (rb".{4}TFL3", "is a TensorFlow Lite model. Convert it to safetensors with the architecture's names"),
        (
            rb"\x08[\x01-\x20](\x12|\x1a|\x22|\x3a)",
            "is an ONNX model. Give the state dict that it was exported from",
        ),
        (rb"\x1f\x8b", "is compressed by gzip. Decompress it first"),
        (rb"BZh\d", "is compressed by bzip2. Decompress it first"),
        (rb"\xfd7zXZ", "is compressed by xz. Decompress it first"),
        (rb"\x28\xb5\x2f\xfd", "is compressed by zstd. Decompress it first"),
        (rb"7z\xbc\xaf", "is a 7z archive. Extract it and give the file of weights in it"),
        (rb".{257}ustar", "is a tar archive. Extract it and give the file of weights in it"),
        (rb"\x89PNG|\xff\xd8\xff|GIF8|%PDF", "is an image or document, not weights. Give a file of weights"),
    )
)

# What a file of some kilobytes may claim. Pickles and zip archives name one thing many times, and tensors may repeat
# one number without holding it again.
_MOST_ENTRIES = 100_000  # of all mappings together
_MOST_UNPACKED = 10  # times the archive's size; torch.save does not compress
_MOST_REPEATED = 2**26  # bytes


@dataclass(frozen=True)
class WeightsFile:
    """What a file holds.

    parts: state dicts by the keys that lead to them, joined with dots; "" is the file's top level
    ignored: the types, as the pickle names them, whose objects were left out
    """

    path: Path
    parts: dict[str, StateDict]
    ignored: tuple[str, ...] = ()


def locate(path: str) -> tuple[Path, str | None]:
    """The file that PATH or PATH#PART names, and the part. A file whose name holds a # is found as it is written."""
    file, mark, part = path.rpartition("#")
    if not mark or Path(path).expanduser().exists():
        return Path(path).expanduser(), None
    return Path(file).expanduser(), part


def read_checkpoint(path: Path) -> WeightsFile:
    """Raises BBError, saying what to do, for a file that is missing, damaged, of another kind, or a program."""
    content, ignored = _read(path)
    parts: dict[str, StateDict] = {}
    seen = 0
    for key, mapping in _mappings(content) if isinstance(content, Mapping) else ():
        if (seen := seen + 1 + len(mapping)) > _MOST_ENTRIES:
            raise BBError(f"'{path}' nests more than {_MOST_ENTRIES:,} entries. Save model.state_dict() alone")
        if state := {str(name): value for name, value in mapping.items() if isinstance(value, Tensor)}:
            parts[key] = state
    for name, tensor in ((name, tensor) for state in parts.values() for name, tensor in state.items()):
        if _repeats(tensor):
            raise BBError(
                f"'{path}' claims {list(tensor.shape)} numbers for {printable(name)} and holds "
                f"{tensor.untyped_storage().nbytes()} bytes of them. Save it as tensor.contiguous()"
            )
    if not parts:
        raise BBError(
            f"'{path}' holds {_describe(content, ignored)}, no tensors by name. Save model.state_dict() instead, "
            "tensors as PyTorch has them"
        )
    return WeightsFile(path, parts, ignored)


def summarize(names: object, at_most: int = 3) -> str:
    """The first names of many, fit to be printed."""
    shown = [printable(str(name)) for name in names]  # type: ignore[attr-defined]
    return ", ".join(shown[:at_most]) + (", …" if len(shown) > at_most else "")


def printable(name: str) -> str:
    """A name from a file, shortened, with what can't be printed escaped."""
    name = name if len(name) <= 120 else name[:119] + "…"
    return name if name.isprintable() else ascii(name)[1:-1]


def _read(path: Path) -> tuple[object, tuple[str, ...]]:
    start = _first_bytes(path)
    # A safetensors file begins with the length of its header, which is JSON; one of torch.save is a zip or a pickle.
    if start[8:9] == b"{":
        try:
            return safetensors.torch.load_file(path), ()
        except (safetensors.SafetensorError, OSError) as error:
            raise BBError(f"'{path}' is a damaged safetensors file ({error}). Download or save it again") from error
    for pattern, words in _KINDS:
        if pattern.match(start):
            raise BBError(f"'{path}' {words}")
    if start.startswith(b"PK"):
        _check_zip(path)
    return _unpickle(path)


def _first_bytes(path: Path) -> bytes:
    if path.is_dir():
        files = sorted(p.name for p in path.iterdir() if p.suffix in (".safetensors", ".bin", ".pt", ".pth", ".ckpt"))
        inside = f"a file in it: {summarize(files)}" if files else "a file of weights"
        raise UsageError(f"'{path}' is a folder. Give {inside}")
    if not path.exists() and re.fullmatch("[0-9a-f]{12}", str(path)):
        raise UsageError(
            f"'{path}' is how a store names a file of weights: by the start of its SHA-256. Give the path of that file"
        )
    if not path.is_file():
        raise UsageError(f"'{path}' does not exist, or is not a regular file. Give the path of a file of weights")
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError as error:
        raise BBError(f"'{path}' can't be read ({error.strerror}). Give a file that you may read") from error


def _check_zip(path: Path) -> None:
    """What torch.save writes is a zip that holds data.pkl; other kinds of file are zips, too."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            unpacked = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError) as error:
        raise BBError(f"'{path}' is damaged: {error}. Download or save it again") from error
    if unpacked > max(_MOST_UNPACKED * path.stat().st_size, _MOST_REPEATED):
        raise BBError(f"'{path}' is an archive that would unpack to {unpacked:,} bytes. Save it again with torch.save")
    ends = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in ends:
        raise BBError(
            f"'{path}' is a TorchScript program, which bb does not run. If you trust it, save "
            "torch.jit.load(PATH).state_dict() with torch.save and give that file"
        )
    if "data.pkl" in ends:
        return
    if any(name.endswith(".npy") for name in names):
        raise BBError(f"'{path}' is a NumPy archive. Convert it to safetensors with the architecture's names")
    raise BBError(f"'{path}' is a zip archive ({summarize(names)}). Extract it and give the file of weights in it")


def _unpickle(path: Path) -> tuple[object, tuple[str, ...]]:
    met: set[str] = set()
    stand_ins = [(_stand_in(name, met), name) for name in _IGNORED]
    try:
        with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
            return torch.load(path, map_location="cpu", weights_only=True), tuple(sorted(met))
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise BBError(
                f"'{path}' holds a {named[1]}: reading that would run code, so bb refuses the file. If you trust it, "
                "open it with c = torch.load(PATH, weights_only=False) and save only the weights: "
                "torch.save(c['state_dict'], NEW), or torch.save(model.state_dict(), NEW) where they were made"
            ) from error
        raise BBError(f"'{path}' is not a state dict that can be read (safetensors or torch.save)") from error
    except Exception as error:  # reading damaged bytes fails in many ways
        reason = printable(str(error).splitlines()[0]) if str(error) else type(error).__name__
        raise BBError(f"'{path}' is damaged or not a state dict ({reason}). Download or save it again") from error


def _stand_in(name: str, met: set[str]) -> type:
    """A class that takes the place of the type called `name` and does nothing but note that it was met."""

    def note(cls: type, *arguments: object, **options: object) -> Any:
        met.add(name)
        return object.__new__(cls)

    inert = {"__new__": note, "__init__": lambda *a, **k: None, "__setstate__": lambda self, state: None}
    return type("Ignored", (), inert)


def _mappings(content: Mapping[Any, Any], key: str = "", depth: int = 4) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Each mapping, however nested, by the keys that lead to it: training scripts nest them a few levels deep."""
    yield key, content
    for name, value in content.items():
        if isinstance(value, Mapping) and depth:
            yield from _mappings(value, f"{key}.{name}" if key else str(name), depth - 1)


def _repeats(tensor: Tensor) -> bool:
    """Whether a tensor has far more numbers than are stored for it, so that working on it takes memory or for ever."""
    size = tensor.numel() * tensor.element_size()
    if size <= _MOST_REPEATED or tensor.layout != torch.strided or tensor.is_meta:
        return False
    return size > tensor.untyped_storage().nbytes()


def _describe(content: object, ignored: Sequence[str]) -> str:
    """What a file holds, by type; objects that were not read, by the names that the file gives their types."""
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    kinds = sorted({type(value).__name__ for value in content.values()} - {"Ignored"}) + list(ignored)
    return f"{summarize(kinds)} under the keys {summarize(content)}" if content else "an empty mapping"
