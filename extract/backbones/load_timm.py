"""Backbones of timm by name: weights from the library, the hub or a file."""

import contextlib
import importlib
import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack

import timm
import timm.data

from bb.extract.backbones.hub import cache_only, downloading, fetch, reading
from bb.extract.backbones.name import BackboneName, unknown
from bb.extract.backbones.tags import require_agreement
from bb.extract.embedding.freeze import seeded
from bb.extract.embedding.timm import UNPOOLED, Network, TimmBackbone, take_classifier_off, untrained, view_of
from bb.extract.embedding.view import View
from bb.extract.weights.candidates import Convert, Target
from bb.extract.weights.checkpoint import summarize
from bb.extract.weights.fitting import Loaded, is_openais, load_file
from bb.extract.weights.traced import Resampling
from bb.store.errors import BBError, UsageError


def load(name: BackboneName, *, seed: int = 0) -> TimmBackbone:
    """The backbone of that name; `seed` decides the weights of an untrained one.

    Raises UsageError for a name that timm does not know, BBError where weights can't be fetched or don't fit.
    """
    check_name(name)
    if name.untrained or name.path is not None:
        network, classifier = untrained(_registered(name), seed)
        loaded = None if name.path is None else _load(network, classifier, name, name.path)
        return TimmBackbone(network, loaded, name.pool)
    return TimmBackbone(_pretrained(name), pool=name.pool)


def _registered(name: BackboneName) -> str:
    return name.architecture if name.tag is None else f"{name.architecture}.{name.tag}"


def check_name(name: BackboneName) -> None:
    """That timm has that architecture and tag."""
    if name.on_hub:
        return
    architectures = timm.list_models()
    if name.architecture not in architectures:
        raise unknown(name, "architecture", name.architecture, architectures)
    tags = [tagged.partition(".")[2] for tagged in timm.list_pretrained(f"{name.architecture}.*")]
    if name.tag is not None and name.tag not in tags:
        raise unknown(name, f"weights of {name.architecture} called", name.tag, tags)
    if not tags and name.path is None and not name.untrained:
        raise UsageError(f"timm has no weights for {name.architecture}: write {name}@PATH or {name}/untrained")
    if name.path is not None and name.tag is None:
        require_agreement(name, {tag: vars(_view_of_tag(name.architecture, tag)) for tag in tags})


def names() -> dict[str, str]:
    """Every pretrained backbone, and as untrained every architecture without weights; each with what is missing."""
    tags: dict[str, list[str | None]] = {}
    for registered in timm.list_pretrained():
        architecture, _, tag = registered.partition(".")
        tags.setdefault(architecture, []).append(tag or None)
    found = {}
    for architecture in timm.list_models():
        lacks = "a pooling of its own: it ends in a feature map" if architecture in UNPOOLED else ""
        untrained = architecture not in tags
        for word in tags.get(architecture, [None]):
            found[str(BackboneName("timm", architecture, word, untrained=untrained))] = lacks
    return found


def _view_of_tag(architecture: str, tag: str) -> View:
    config = timm.get_pretrained_cfg(f"{architecture}.{tag}" if tag else architecture)
    assert config is not None, tag
    return view_of(timm.data.resolve_data_config(pretrained_cfg=config.to_dict(), use_test_size=False))


def _pretrained(name: BackboneName) -> Network:
    """Loaded by timm, which is strict as long as the network has the classifier that its weights have."""
    if name.on_hub:
        _check_config(name)
    file = fetch(name)
    with ExitStack() as stack:
        for context in (seeded(0), reading(name, file), downloading(name), _warnings_as_errors(name)):
            stack.enter_context(context)
        if file is not None:
            stack.enter_context(cache_only())
        resampling = stack.enter_context(Resampling())
        network: Network = timm.create_model(_registered(name), pretrained=True)
    if broken := [tensor for tensor, value in network.named_parameters() if not bool(value.isfinite().all())]:
        raise BBError(f"{name}: its weights hold NaN or infinite values: {summarize(broken)}")
    take_classifier_off(network)
    network.resampled = resampling.found  # positions of another grid than the network's: part of what it is
    return network


def _check_config(name: BackboneName) -> None:
    """Raises BBError where a repository on the hub does not describe one of timm's networks."""
    path = fetch(name, config=True)
    assert path is not None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BBError(f"{name}: {path} is not JSON ({error}). Delete it to download it anew") from error
    architecture = config.get("architecture") if isinstance(config, dict) else None
    if not isinstance(architecture, str) or architecture not in timm.list_models():
        what = "no architecture" if architecture is None else f"the architecture {architecture!r}"
        raise BBError(f"{name}: its config.json names {what}, so it is not a model of this timm, {timm.__version__}")


@contextlib.contextmanager
def _warnings_as_errors(name: BackboneName) -> Iterator[None]:
    """timm only logs it where it goes on with weights that are random."""
    messages: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, listener = logging.getLogger("timm.models._builder"), Listener(logging.WARNING)
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)
    # Surplus tensors are named in a warning where timm knows of them (DLA); strict loading has raised where
    # it doesn't.
    if faults := [message for message in messages if not message.startswith("Unexpected keys")]:
        raise BBError(f"{name}: timm warns: {faults[0]}")


def _load(network: Network, classifier: set[str], name: BackboneName, path: str) -> Loaded:
    loaded = load_file(path, Target(str(name), network, frozenset(classifier), _converter(network)))
    quick = name.architecture.replace("_clip_", "_clip_quickgelu_")
    if is_openais(loaded) and quick != name.architecture and quick in timm.list_models():
        raise BBError(
            f"{name} is OpenAI's own file, trained with QuickGELU, but {name.architecture} has GELU: "
            f"write timm:{quick}.openai@{path}"
        )
    return loaded


def _converter(network: Network) -> Convert | None:
    """What timm's module for this family uses to read the original authors' files."""
    module = importlib.import_module(type(network).__module__)
    convert = getattr(module, "checkpoint_filter_fn", None)
    return None if convert is None else lambda state: convert(state, network)
