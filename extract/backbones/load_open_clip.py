"""Backbones of open_clip by name: weights from the library, the hub or a file."""

import importlib.util
import json
import types
from pathlib import Path
from typing import Any

import open_clip
import open_clip.factory
import open_clip.pretrained
import timm
from torch import Tensor

from bb.extract.backbones.hub import downloading, fetch, fetch_tokenizer, reading
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
from bb.extract.text.tokenizer import CONFIG, FILE, FileTokenizer, OpenClipTokenizer, Tokenizer
from bb.extract.text.tower import TextTower
from bb.extract.text.tower import build as build_text_tower
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
    """Every pretrained backbone, and as untrained every architecture without weights; each with what is missing."""
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
    quick = recipe.quick_gelu or not is_transformer(recipe.vision)
    loaded = fill(Target(str(name), visual, convert=_converter(visual, "visual.")), name, quick)
    return None if name.path is None else loaded


def fill(target: Target, name: BackboneName, quick_gelu: bool) -> Loaded:
    """Loads a tower's weights from the file that a name stands for.

    Errors: BBError where they can't be had or don't fit, or are OpenAI's own and `quick_gelu` is not.
    """
    if name.path is not None:
        loaded = load_file(name.path, target)
    else:
        file = _download(name)
        with reading(name, file):
            loaded = load_file(str(file), target)
    if is_openais(loaded) and not quick_gelu:
        raise BBError(
            f"{name} is OpenAI's own file, trained with QuickGELU, but the name stands for GELU: "
            f"write open_clip:{name.architecture}/openai@{name.path}"
        )
    return loaded


def _converter(visual: Visual, prefix: str) -> Convert:
    def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of the tower called `prefix` out of a whole model of the original authors."""
        state = open_clip.factory.convert_state_dict(types.SimpleNamespace(visual=visual), state)
        return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}

    return convert


def load_text_tower(name: BackboneName, visual: Visual, *, seed: int = 0) -> TextTower:
    """The text tower of the checkpoint whose vision tower is `visual`; `seed` decides the weights of an untrained one.

    Errors: UsageError for a network whose text goes through another library's tower, whose tokenizer needs a library
    that is not installed, or whose name leaves the activation open; BBError where weights or tokenizer can't be fetched
    or don't fit.
    """
    with reading(name, None), seeded(seed):
        config = _model_config(name)
        text = config.get("text_cfg") or {}
        quick_gelu = _text_activation(name, config)
        if tower := text.get("hf_model_name"):
            raise UsageError(
                f"{name} reads text with the Hugging Face network {tower}, and bb has open_clip's towers alone: choose "
                "a network such as ViT-B-16/openai, ViT-B-16-SigLIP/webli or hf-hub:imageomics/bioclip-2"
            )
        module, architecture = build_text_tower(config["embed_dim"], text, quick_gelu)
    tokenizer = _tokenizer(name, text, architecture["context_length"])  # before the weights, which are larger
    if not name.untrained:
        fill(Target(f"the text tower of {name}", module, convert=_converter(visual, "text.")), name, quick_gelu)
    return TextTower(module, architecture, tokenizer)


def _tokenizer(name: BackboneName, text: dict[str, Any], length: int) -> Tokenizer:
    """open_clip's own; or that of a repository of the hub, next to the file of weights or fetched."""
    options, repository = dict(text.get("tokenizer_kwargs") or {}), text.get("hf_tokenizer_name")
    if not repository:
        return OpenClipTokenizer(length, options.get("clean", "lower"))
    clean, strip_sep = options.pop("clean", "whitespace"), options.pop("strip_sep_token", False)
    if options or text.get("tokenizer_mode"):
        raise UsageError(
            f"{name} reads text with the tokenizer {repository} in a way that bb does not know "
            f"({', '.join(options) or text['tokenizer_mode']}): choose a network such as ViT-B-16-SigLIP/webli"
        )
    if importlib.util.find_spec("tokenizers") is None:
        raise UsageError(
            f"{name} reads text with the tokenizer {repository}, which needs the library tokenizers: "
            "pip install 'backbone-bench[text]'"
        )
    folder = Path(name.path).parent if name.path is not None else None
    if folder is None or not (folder / FILE).exists():
        folder = fetch_tokenizer(name, repository, (FILE, CONFIG))
    return FileTokenizer(folder, length, clean, strip_sep)


def _model_config(name: BackboneName) -> dict[str, Any]:
    config = _hub_config(name)["model_cfg"] if name.on_hub else open_clip.get_model_config(name.architecture)
    assert isinstance(config, dict)
    return config


def _text_activation(name: BackboneName, config: dict[str, Any]) -> bool:
    """Whether QuickGELU is the text tower's: the vision tower's may have none, as ResNets."""
    own = bool(config.get("quick_gelu", False))
    if name.on_hub or name.tag in (None, OWN):
        tags = [] if name.on_hub else open_clip.list_pretrained_tags_by_model(name.architecture)
        of_tags = {tag: bool(open_clip.get_pretrained_cfg(name.architecture, tag).get("quick_gelu")) for tag in tags}
        if name.path is not None and name.tag is None and len({own, *of_tags.values()}) > 1:
            raise UsageError(
                f"{name}: tags of {name.architecture} differ in the activation of the text tower; name the tag that "
                f"the file is like, for example {name.architecture}/{tags[0]}@{name.path}"
            )
        return own
    return bool(open_clip.get_pretrained_cfg(name.architecture, name.tag).get("quick_gelu", False))


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
    except (ValueError, RecursionError) as error:
        raise BBError(f"{name}: {path} is not JSON ({error}). Delete it to download it anew") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_cfg"), dict):
        raise BBError(f"{name}: its open_clip_config.json has no model_cfg, so it is not a model of open_clip")
    return config
