"""Registries of named kinds: bb's own and those that installed packages add through entry points.

A kind is one line, `name = "module:attribute"`, in the same form whether it comes with bb (`own`) or from a package's
`[project.entry-points."bb.metrics"]`. Nothing is imported before a kind is used. bb's own lines are in the registry's
module and not in pyproject.toml, so that a checkout whose metadata is older than its files still has all of them.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from bb.store.errors import BBError, UsageError

OWN = "backbone-bench"  # the distribution that bb's own kinds belong to
T = TypeVar("T")


class PluginError(BBError):
    """A plug-in that can't be imported, or is not what its group asks for."""


@dataclass(frozen=True)
class Plugin:
    """One kind.

    distribution  the installed package that it belongs to, as `pip` names it
    version       of that distribution; empty for bb's own
    """

    group: str
    name: str
    entry: EntryPoint
    distribution: str
    version: str = ""

    @property
    def own(self) -> bool:
        return self.distribution == OWN

    def describe(self) -> str:
        """How messages name it."""
        return f"plug-in {self.distribution} {self.version} ({self.group}: {self.name} = {self.entry.value})"

    def load(self) -> Any:
        """Imports it. Errors: PluginError, naming the plug-in and what it raised; bb's own errors pass."""
        try:
            return self.entry.load()
        except (Exception, SystemExit) as error:  # a module that ends Python must not end bb
            if self.own:
                raise
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise PluginError(f"{self.describe()} can't be imported: {reason}. Update or uninstall it.") from error

    def tree_hash(self) -> str:
        """SHA-256 over names and contents of the files in its import package, without compiled caches; 64 hex.

        Of bb's own kinds: of the files in the module's folder.
        """
        if self.own:
            spec = find_spec(self.entry.module)
            assert spec is not None and spec.origin is not None
            return hash_files(Path(spec.origin), whole_folder=True)
        package = ""
        for part in self.entry.module.split("."):  # past folders without a file __init__.py
            package = f"{package}.{part}" if package else part
            spec = find_spec(package)
            if spec is not None and spec.origin is not None:
                return hash_files(Path(spec.origin), whole_folder=spec.submodule_search_locations is not None)
        raise PluginError(f"{self.describe()}: the files of {package} can't be found, so its code has no hash.")


def hash_files(origin: Path, *, whole_folder: bool) -> str:
    """The hash of a package's folder, or of a module that is one file."""
    folder = origin.parent
    files = folder.rglob("*") if whole_folder else [origin]
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
        for path in files
        if path.is_file() and "__pycache__" not in path.parts
    ]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


class Registry(Mapping[str, T]):
    """The kinds of one group: a mapping from names to what they stand for, each imported when it is read.

        COLOURS: Registry[Colour] = Registry("bb.colours", "colour", {"red": "bb.colours.red:RED"})
        COLOURS.load("red")

    group  the entry-point group, such as "bb.metrics"
    noun   what a kind is called in messages
    own    bb's own kinds, name to "module:attribute", in the order in which they are listed
    needs  attributes that a kind has to have
    """

    def __init__(self, group: str, noun: str, own: Mapping[str, str], needs: Sequence[str] = ()) -> None:
        self.group, self.noun, self._own, self._needs = group, noun, own, needs
        self._loaded: dict[str, T] = {}

    @cached_property
    def plugins(self) -> dict[str, Plugin]:
        """All kinds: bb's own first, then those of plug-ins by name. A name that is taken stays with who has it."""
        own = (Plugin(self.group, name, EntryPoint(name, value, self.group), OWN) for name, value in self._own.items())
        kinds = {plugin.name: plugin for plugin in own}
        for plugin in installed(self.group):
            kinds.setdefault(plugin.name, plugin)
        return kinds

    def names(self) -> list[str]:
        """Every name that can be asked for; nothing is imported."""
        return list(self.plugins)

    def __contains__(self, name: object) -> bool:
        return name in self.plugins

    def __iter__(self) -> Iterator[str]:
        return iter(self.plugins)

    def __len__(self) -> int:
        return len(self.plugins)

    def __getitem__(self, name: str) -> T:
        if name not in self.plugins:
            raise KeyError(name)
        return self.load(name)

    def load(self, name: str) -> T:
        """The kind of a name, imported at its first use.

        Errors: UsageError for an unknown name, PluginError for a plug-in that can't be imported.
        """
        if name not in self._loaded:
            if name not in self.plugins:
                raise UsageError(f"Unknown {self.noun} {name!r}: choose {', '.join(self.names())}.")
            plugin = self.plugins[name]
            kind = plugin.load()
            if absent := [attribute for attribute in self._needs if not hasattr(kind, attribute)]:
                raise PluginError(f"{plugin.describe()} is not a {self.noun}: it has no {', '.join(absent)}.")
            self._loaded[name] = kind
        return self._loaded[name]

    def usable(self) -> dict[str, T]:
        """All kinds that can be imported, by name; `problems` names the others."""
        kinds = {}
        for name in self.names():
            with suppress(PluginError):
                kinds[name] = self.load(name)
        return kinds

    def problems(self) -> dict[Plugin, str]:
        """The group's plug-ins, each with why it can't be used; empty where it can."""
        return {plugin: self._problem(plugin) for plugin in installed(self.group)}

    def _problem(self, plugin: Plugin) -> str:
        if (first := self.plugins[plugin.name]) != plugin:
            return f"the name {plugin.name!r} belongs to {first.distribution}: rename this plug-in's entry point."
        try:
            self.load(plugin.name)
        except PluginError as error:
            return str(error)
        return ""


def installed(group: str = "") -> list[Plugin]:
    """The plug-ins that packages other than bb bring: of one group, or of all, by group, name and package.

    The backport importlib_metadata, once imported, answers the standard library's questions with entry points of a
    class of its own, so each is made anew.
    """
    groups = [group] if group else [name for name in entry_points().groups if name.startswith("bb.")]
    plugins = [
        Plugin(group, found.name, EntryPoint(found.name, found.value, group), found.dist.name, found.dist.version)
        for group in groups
        for found in entry_points(group=group)
        if found.dist is not None and found.dist.name != OWN
    ]
    return sorted(plugins, key=lambda plugin: (plugin.group, plugin.name, plugin.distribution))
