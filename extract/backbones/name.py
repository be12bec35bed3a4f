"""Names of backbones, as a person types them after --ckpt and as they stand in a run's provenance.

    name  = [ org ":" ] model
    org   = "open_clip" | "timm" | "timm-vit" (the same as timm) | a plug-in's; open_clip where none is given
    model = arch [ tag ] [ "@" path | "/untrained" ]  |  "hf-hub:" owner "/" repo [ "@" revision ]
    tag   = "." word for timm, "/" word for the others

A tag decides weights, view and, in open_clip, the activation. With a path or /untrained it decides the view
and the activation only. Whether the libraries know a name is found out when it is built: this module imports
none of them.
"""

import dataclasses
import difflib
import functools
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from bb.extract.backbones.libraries import LIBRARIES
from bb.extract.embedding import OWN_POOL, POOLS
from bb.store.errors import UsageError

HUB = "hf-hub:"
UNTRAINED = "/untrained"
SHARED_DIGITS = 12

_OTHER_NAMES = {"timm-vit": "timm"}
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_REPO = re.compile(r"hf-hub:[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_EXAMPLES = "write ViT-B-16/openai, timm:resnet18.a1_in1k, ViT-B-16@weights.safetensors or ViT-B-16/untrained"


@dataclasses.dataclass(frozen=True)
class BackboneName:
    """A parsed name. `str()` gives its canonical form, which parses to an equal name.

    architecture: the library's own name, or "hf-hub:owner/repo[@revision]"
    tag: which of the library's pretrained weights; None means the library's default (timm) or none
        (open_clip)
    path: a local state dict to load instead
    untrained: seeded random weights
    pool: how a timm network makes a vector, "own" or one of POOLS; an option, no part of the text
    """

    org: str
    architecture: str
    tag: str | None = None
    path: str | None = None
    untrained: bool = False
    pool: str = OWN_POOL

    @classmethod
    def parse(cls, text: str) -> "BackboneName":
        """Raises UsageError where `text` is not of the form above; it looks nothing up."""
        org, model = _split_org(text.strip())
        if model.startswith(HUB):
            if not _REPO.fullmatch(model):
                raise UsageError(f"{text!r} is not a name on the hub: write hf-hub:OWNER/REPO[@REVISION]")
            return cls(org, model)
        model, at, path = model.partition("@")
        if at and not path:
            raise UsageError(f"{text!r} ends in @ without a path: write {model}@PATH, PATH being a state dict")
        untrained = model.endswith(UNTRAINED)
        if untrained and at:
            trained = model.removesuffix(UNTRAINED)
            raise UsageError(f"{text!r} asks both for a file's weights and for none: write {trained}@{path} or {model}")
        model = model.removesuffix(UNTRAINED)
        if org == "timm" and "/" in model:
            raise UsageError(
                f"{text!r}: timm's tags follow a dot, so write timm:{model.replace('/', '.')}; "
                f"a repository on the hub is written timm:{HUB}{model}"
            )
        architecture, mark, tag = model.partition("." if org == "timm" else "/")
        if not _WORD.fullmatch(architecture) or (mark and not _WORD.fullmatch(tag)):
            raise UsageError(f"{text!r} is not the name of a backbone: {_EXAMPLES}")
        return cls(org, architecture, tag or None, path or None, untrained)

    def __str__(self) -> str:
        tag = "" if self.tag is None else ("." if self.org == "timm" else "/") + self.tag
        source = UNTRAINED if self.untrained else "" if self.path is None else f"@{self.path}"
        return f"{self.org}:{self.architecture}{tag}{source}"

    @property
    def on_hub(self) -> bool:
        return self.architecture.startswith(HUB)


def _split_org(text: str) -> tuple[str, str]:
    head, colon, rest = text.partition(":")
    if not colon or head == HUB[:-1] or "@" in head:
        return "open_clip", text
    org = _OTHER_NAMES.get(head, head)
    if org not in LIBRARIES:
        known = f"{', '.join(f'{name}:' for name in LIBRARIES)}"
        raise UsageError(f"{text!r}: unknown library {head!r}; use {known} ({_EXAMPLES})")
    return org, rest


class UnknownArchitecture(UsageError):
    """The library has no architecture of that name."""


def unknown(name: BackboneName, what: str, value: str, known: Sequence[str]) -> UsageError:
    """The error for a `value` that is none of the library's `known` names of that kind (`what`)."""
    near = difflib.get_close_matches(value.lower(), [k.lower() for k in known], n=3, cutoff=0.5)
    close = [k for k in known if k.lower() in near]
    hint = f"the closest: {', '.join(close[:3])}" if close else "nothing comes close"
    kind = UnknownArchitecture if value == name.architecture else UsageError
    return kind(f"{name}: {name.org} has no {what} {value!r}; {hint}. `bb models PATTERN` lists what there is")


def parse_pool(text: str) -> str:
    """The value of --pool. Raises UsageError for one that is not known."""
    if text not in (OWN_POOL, *POOLS):
        raise UsageError(f"--pool '{text}' is unknown: choose {OWN_POOL}, {' or '.join(POOLS)}")
    return text


def pool_of(pooling: str) -> str:
    """What --pool made a feature space whose output is pooled in that word."""
    return next((pool for pool, word in POOLS.items() if word == pooling), OWN_POOL)


def shared_name(name: BackboneName) -> str:
    """The canonical name as it may leave the machine: a local file is named by the first digits of its SHA-256.

    Where there is no such file, the path is taken for a name that was shared: the last part of it.
    """
    if not name.path:
        return str(name)
    file, part = Path(name.path).expanduser(), ""
    if not file.is_file() and "#" in name.path:
        before, mark, after = name.path.rpartition("#")
        file, part = Path(before).expanduser(), mark + after
    if not file.is_file():
        return str(dataclasses.replace(name, path=name.path.replace("\\", "/").rpartition("/")[2]))
    status = file.stat()
    digest = _file_digest(file, status.st_size, status.st_mtime_ns)
    return str(dataclasses.replace(name, path=digest[:SHARED_DIGITS] + part))


@functools.lru_cache
def _file_digest(file: Path, size: int, changed: int) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
