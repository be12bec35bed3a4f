"""Backbones of open_clip by name: weights from the library, the hub or a file."""

import json
import types
from pathlib import Path
from typing import Any

import open_clip
import open_clip.factory
import open_clip.pretrained
import timm
from torch import Tensor

from bb.extract.backbones.hub import downloading, fetch, reading
from bb.extract.backbones.name import UNTRAINED, BackboneName, unknown
from bb.extract.backbones.tags import require_agreement
from bb.extract.embedding import OWN_POOL
from bb.extract.embedding.freeze import seeded
from bb.extract.embedding.open_clip import (
    OpenClipBackbone,
    Recipe,
    Visual,
    build,
    is_transformer,
    make_recipe,
    view_of,
)
from bb.extract.weights.candidates import Convert, Target
from bb.extract.weights.fitting import Loaded, is_openais, load_file
from bb.store.errors import BBError, UsageError

OWN = "default"  # as a tag before @PATH: the architecture's own activation, open_clip's own view


def load(name: BackboneName, *, seed: int = 0) -> OpenClipBackbone:
    """The backbone of that name; `seed` decides the weights of an untrained one.

    Raises UsageError for a name that open_clip does not know, BBError where weights can't be fetched or don't fit.
    """
    if name.pool != OWN_POOL:
        raise UsageError(f"--pool {name.pool} is for networks of timm, and {name} is of open_clip: leave it out")
    with reading(name, None), seeded(seed):
        recipe = resolve(name)
        visual = build(recipe)
    return OpenClipBackbone(visual, recipe, None if name.untrained else _load(visual, recipe, name))


def resolve(name: BackboneName) -> Recipe:
    """The configuration behind a name, the tag's word above the architecture's; only hub names download."""
    if name.on_hub:
        config = _hub_config(name)
        return make_recipe(
            config["model_cfg"], config["model_cfg"].get("quick_gelu", False), config.get("preprocess_cfg")
        )
    config = open_clip.get_model_config(name.architecture)
    if config is None:
        raise unknown(name, "architecture", name.architecture, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(name.architecture)
    if name.tag is None:
        if name.path is None and not name.untrained:
            listed = f"one of its tags: {', '.join(tags)}; or " if tags else ""
            raise UsageError(f"{name} names no weights: add {listed}{UNTRAINED}, or @PATH of a state dict")
        own = make_recipe(config, config.get("quick_gelu", False), _common_preprocess(name.architecture, tags))
        if name.path is not None:
            _check_tags_agree(name, own, tags)
        return own
    if name.tag == OWN and name.path is not None:
        return make_recipe(config, config.get("quick_gelu", False), {})
    tagged = open_clip.get_pretrained_cfg(name.architecture, name.tag)
    if not tagged:
        raise unknown(name, f"weights of {name.architecture} called", name.tag, tags)
    return make_recipe(config, tagged.get("quick_gelu", False), tagged)


def _check_tags_agree(name: BackboneName, own: Recipe, tags: list[str]) -> None:
    """Raises UsageError where a file's view or activation depends on which tag it is like."""
    recipes = {tag: resolve(BackboneName("open_clip", name.architecture, tag)) for tag in tags}
    if own.quick_gelu not in {recipe.quick_gelu for recipe in recipes.values()}:
        recipes[OWN] = own
    require_agreement(name, {tag: _describe(recipe) for tag, recipe in recipes.items()})


def _describe(recipe: Recipe) -> dict[str, Any]:
    activation = "QuickGELU" if recipe.quick_gelu else "GELU"
    return {**vars(view_of(recipe.preprocess, recipe.vision.image_size)), "activation": activation}


def check_name(name: BackboneName) -> None:
    """That open_clip has that architecture and tag."""
    resolve(name)


def names() -> dict[str, str]:
    """Every pretrained backbone, and as untrained every architecture without weights; each with what it lacks."""
    trunks, found = set(timm.list_models()), {}
    for architecture in open_clip.list_models():
        trunk = open_clip.get_model_config(architecture)["vision_cfg"].get("timm_model_name")
        lacks = "" if trunk is None or trunk in trunks else f"a version of timm that has {trunk}"
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        for name in [BackboneName("open_clip", architecture, tag, untrained=not tag) for tag in tags or [None]]:
            found[str(name)] = lacks
    return found


def _common_preprocess(architecture: str, tags: list[str]) -> dict[str, Any]:
    """What all tags of an architecture agree on, such as SigLIP's mean and squashing; else nothing."""
    keys = ("mean", "std", "interpolation", "resize_mode")
    configs = [open_clip.get_pretrained_cfg(architecture, tag) for tag in tags]
    chosen = [{key: config[key] for key in keys} for config in configs]
    return chosen[0] if chosen and all(config == chosen[0] for config in chosen) else {}


def _load(visual: Visual, recipe: Recipe, name: BackboneName) -> Loaded | None:
    """How a user's file was loaded; None for the library's own, of which no more than the text tower is dropped."""
    target = Target(str(name), visual, convert=_converter(visual))
    if name.path is not None:
        loaded = load_file(name.path, target)
    else:
        file = _download(name)
        with reading(name, file):
            loaded = load_file(str(file), target)
    if is_openais(loaded) and is_transformer(recipe.vision) and not recipe.quick_gelu:
        raise BBError(
            f"{name} is OpenAI's own file, trained with QuickGELU, but the name stands for GELU: "
            f"write open_clip:{name.architecture}/openai@{name.path}"
        )
    return None if name.path is None else loaded


def _converter(visual: Visual) -> Convert:
    def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tower's tensors out of a whole model of the original authors."""
        state = open_clip.factory.convert_state_dict(types.SimpleNamespace(visual=visual), state)
        return {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")}

    return convert


def _download(name: BackboneName) -> Path:
    if (file := fetch(name)) is not None:
        return file
    with downloading(name):
        return Path(open_clip.pretrained.download_pretrained(open_clip.get_pretrained_cfg(name.architecture, name.tag)))


def _hub_config(name: BackboneName) -> dict[str, Any]:
    path = fetch(name, config=True)
    assert path is not None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BBError(f"{name}: {path} is not JSON ({error}). Delete it to download it anew") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_cfg"), dict):
        raise BBError(f"{name}: its open_clip_config.json has no model_cfg, so it is not a model of open_clip")
    return config
