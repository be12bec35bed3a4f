"""Backbones by name: which library a name belongs to; only that library is imported."""

from bb.extract.backbones.libraries import LIBRARIES
from bb.extract.backbones.name import BackboneName
from bb.extract.backbones.suggest import suggesting
from bb.extract.embedding import OWN_POOL
from bb.extract.embedding.backbone import Backbone
from bb.store.errors import BBError, UsageError
from bb.store.plugins import PluginError


def check_known(name: BackboneName) -> None:
    """Raises UsageError unless the library knows the architecture and tag. Nothing is built or downloaded."""
    if not name.on_hub:
        with suggesting(name):
            LIBRARIES.load(name.org).check_name(name)


def load(name: str | BackboneName, *, seed: int = 0) -> Backbone:
    """The backbone of that name, from whichever library it belongs to; only that library is imported.

    Raises UsageError for a name that is unknown, BBError where weights can't be fetched or don't fit, PluginError
    where a plug-in can't be imported, fails, or returns something other than a backbone of its own.
    """
    name = BackboneName.parse(name) if isinstance(name, str) else name
    if LIBRARIES.plugins[name.org].own:
        with suggesting(name):
            return LIBRARIES.load(name.org).load(name, seed=seed)
    return _load_foreign(name, seed)


def _load_foreign(name: BackboneName, seed: int) -> Backbone:
    if name.pool != OWN_POOL:
        raise UsageError(f"--pool {name.pool} is for networks of timm, and {name} is of {name.org}: leave it out.")
    plugin, library = LIBRARIES.plugins[name.org], LIBRARIES.load(name.org)
    try:
        backbone = library.load(name, seed=seed)
    except BBError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise PluginError(f"{plugin.describe()} can't load {name}: {reason}") from error
    if not isinstance(backbone, Backbone):
        absent = [part for part in _parts() if not hasattr(backbone, part)]
        raise PluginError(f"{plugin.describe()} made of {name} what is not a backbone: it has no {', '.join(absent)}.")
    if backbone.org != name.org:
        raise PluginError(f"{plugin.describe()}: the backbone of {name} has org {backbone.org!r}; set {name.org!r}.")
    return backbone


def _parts() -> list[str]:
    methods = (name for name, value in vars(Backbone).items() if callable(value) and not name.startswith("_"))
    return sorted({*Backbone.__annotations__, *methods})
