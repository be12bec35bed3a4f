"""Settings: values of options from `BB_…` variables, from bb.toml found upward, and from the user's own bb.toml."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bb.console import warn
from bb.store.text.command import quoted

if TYPE_CHECKING:
    from bb.extract.data.source_spec import Root


SETTINGS = (
    "store",
    "device",
    "precision",
    "store_dtype",
    "batch_size",
    "decode",
    "depth",
    "damaged",
    "protocol",
    "backend",
    "n_train",
    "seed",
    "jobs",
    "cache_size",
    "follow_links",
)
OF_NEWT = ("protocol", "backend", "n_train", "seed")  # these mean other things in other verbs
# What [slurm] of bb.toml may say: kinds of values, and what they are in words.
SLURM_SETTINGS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "partition": (str, "text"),
    "account": (str, "text"),
    "time": ((str, int), "text such as 4:00:00, or minutes"),
    "workers": (int, "a whole number"),
    "cpus": (int, "a whole number"),
    "gpus": (int, "a whole number"),
    "memory": ((int, float), "a number of GB"),
    "rounds": (int, "a whole number"),
    "setup": (list, "a list of shell lines"),
    "sbatch": (dict, "a table of sbatch's options"),
}
SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")
NEWT_LABELS = "newt2021_labels.csv"


@dataclass(frozen=True)
class Settings:
    """What bb.toml says: values for options by name, the roots of collections, the licences of their labels, and how
    to submit to Slurm."""

    options: dict[str, Any] = field(default_factory=dict)
    data: "dict[str, Root]" = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    slurm: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls) -> "Settings":
        settings = cls()
        for path in settings_files():
            nearer = cls._read(path)
            settings = cls(
                settings.options | nearer.options,
                settings.data | nearer.data,
                settings.licences | nearer.licences,
                settings.slurm | nearer.slurm,
            )
        # Only before the next NAME= does a separator end a root: URLs have colons too.
        texts = re.split(rf"{os.pathsep}(?=[\w.-]+=|$)", os.environ.get("BB_DATA", ""))
        pairs = [text.partition("=") for text in texts if text]
        data = settings.data | {name: parse_data_root(root) for name, _, root in pairs}
        return replace(settings, data=data)

    def defaults(self, verbs: Mapping[str, Iterable[str]]) -> dict[str, Any]:
        """What bb.toml says for the options of each verb, as click's default_map. verbs: by group, "" for none."""
        shared = {k: v for k, v in self.options.items() if k not in OF_NEWT}
        found = {group: dict.fromkeys(names, shared) for group, names in verbs.items()}
        found["probe"]["newt"] = self.options
        found[""]["bench"] = {k: v for k, v in shared.items() if k != "store"}  # its file's store goes first
        copying = {k: v for k, v in shared.items() if k != "jobs"}  # --jobs counts processes, there it counts transfers
        found["store"] |= dict.fromkeys(("push", "pull"), copying)
        return {**found.pop(""), **found}

    @classmethod
    def _read(cls, path: Path) -> "Settings":
        from bb.store import UsageError
        from bb.store.files.limits import parse_toml

        try:
            content = parse_toml(path.read_bytes())
        except ValueError as error:
            raise UsageError(f"{path} is not valid TOML: {error}. Fix it, or move it away.") from None
        data = content.pop("data", {})
        if not isinstance(data, dict):
            raise UsageError(f'{path} sets data = {data!r}: write [data.NAME] and below it root = "/folder/of/images".')
        slurm = _slurm_settings(path, content.pop("slurm", {}))
        unknown = sorted(content.keys() - set(SETTINGS))
        if unknown:
            raise UsageError(
                f"{path} sets {', '.join(unknown)}, which bb does not know; it knows {', '.join(SETTINGS)}."
            )
        if "store" in content:
            if not isinstance(content["store"], str):
                raise UsageError(f'{path} sets store = {content["store"]!r}: write a folder, store = "features.bb".')
            from bb.store.storage.url import is_url

            if not is_url(content["store"]):
                content["store"] = os.path.normpath(path.parent / Path(content["store"]).expanduser())
        for option in ("n_train", "seed"):
            if option in content and not isinstance(content[option], list):
                content[option] = [content[option]]
        for option, value in content.items():
            if not all(isinstance(part, str | int) for part in (value if isinstance(value, list) else [value])):
                raise UsageError(f"{path} sets {option} = {value!r}, which is neither text nor a whole number.")
        roots, licences = {}, {}
        for name, entry in data.items():
            root, licence = (entry.get("root"), entry.get("licence")) if isinstance(entry, dict) else (None, None)
            if not isinstance(root, str) and (root is not None or licence is None):
                raise UsageError(f'{path}: [data.{name}] needs a line root = "/folder/of/images".')
            if licence is not None and not (isinstance(licence, str) and SPDX.fullmatch(licence)):
                raise UsageError(
                    f"{path}: [data.{name}] sets licence = {licence!r}, which is not an SPDX identifier: "
                    f'write for example licence = "CC-BY-4.0" (https://spdx.org/licenses).'
                )
            if root is not None:
                roots[name] = parse_data_root(root, path.parent)
            if licence is not None:
                licences[name] = licence
        return cls(content, roots, licences, slurm)


def _slurm_settings(path: Path, given: Any) -> dict[str, Any]:
    """The table [slurm] of a settings file, each value of the kind that it has to be."""
    from bb.store import UsageError

    if not isinstance(given, dict):
        raise UsageError(f'{path} sets slurm = {given!r}: write [slurm] and below it, for example, partition = "gpu".')
    unknown = sorted(given.keys() - set(SLURM_SETTINGS))
    if unknown:
        raise UsageError(
            f"{path}: [slurm] sets {', '.join(unknown)}, which bb does not know; it knows {', '.join(SLURM_SETTINGS)}."
        )
    for name, value in given.items():
        kind, words = SLURM_SETTINGS[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UsageError(f"{path}: [slurm] sets {name} = {value!r}, which is not {words}.")
        if isinstance(value, list) and not all(isinstance(line, str) for line in value):
            raise UsageError(f"{path}: [slurm] sets setup = {value!r}, which is not {words}.")
    return given


def parse_data_root(text: str, base: Path = Path()) -> "Root":
    from bb.extract.data.source_spec import parse_root

    return parse_root(text, base)


def labels_beside(root: "Root | None") -> Path | None:
    """Where NeWT's labels would lie, in a folder of images."""
    return root / NEWT_LABELS if isinstance(root, Path) else None


def settings_files() -> list[Path]:
    """Settings files, the nearest last. One that another user owns could name any store, so it is passed over."""
    files = [Path(typer.get_app_dir("bb")) / "bb.toml"]
    for folder in (Path.cwd(), *Path.cwd().parents):
        path = folder / "bb.toml"
        if path.is_file():
            files.append(path)
            break
    return [path for path in files if path.is_file() and _is_own(path)]


def _is_own(path: Path) -> bool:
    """Whether nobody else can have written a file, which may name stores to read and commands to run."""
    status = path.stat()
    if status.st_uid != os.getuid():
        warn(f"{path} is another user's and is passed over.")
        return False
    if mode := status.st_mode & 0o022:
        who = "its group" if mode == 0o020 else "others"
        warn(f"{path} can be changed by {who} and is passed over: chmod go-w {quoted(path)}")
        return False
    return True
