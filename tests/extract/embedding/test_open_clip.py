"""open_clip's towers are the ones that its tags were trained as, and give what `encode_image` gives."""

import dataclasses
import json

import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from safetensors.torch import save_file

from bb.extract.backbones.load_open_clip import resolve
from bb.extract.backbones.name import BackboneName
from bb.extract.backbones.registry import load
from bb.extract.embedding.open_clip import OpenClipBackbone, build, view_of
from bb.extract.embedding.view import View
from bb.extract.embedding.weights import digest
from bb.store.errors import BBError, UsageError

TAGS = open_clip.list_pretrained()
TINY = "ViT-S-32-alt"


def recipe_of(architecture, tag=None):
    return resolve(BackboneName("open_clip", architecture, tag, untrained=tag is None))


def activations(visual) -> set[type]:
    kinds = (QuickGELU, torch.nn.GELU)
    return {type(module) for module in visual.transformer.modules() if isinstance(module, kinds)}


def test_every_tag_resolves_to_its_own_activation_and_view():
    assert len(TAGS) == 196
    differing = 0
    for architecture, tag in TAGS:
        recipe, tagged = recipe_of(architecture, tag), open_clip.get_pretrained_cfg(architecture, tag)
        config = open_clip.get_model_config(architecture)
        differing += tagged.get("quick_gelu", False) != config.get("quick_gelu", False)
        own = recipe.vision.timm_model_name is None and isinstance(recipe.vision.layers, int)
        assert recipe.quick_gelu == (own and tagged.get("quick_gelu", False)), (architecture, tag)
        size = recipe.vision.image_size
        view = view_of(recipe.preprocess, size)
        assert view == View(
            resize_mode=tagged["resize_mode"],
            resize=(size, size),
            crop=(size, size),
            interpolation=tagged["interpolation"],
            mean=tagged["mean"],
            std=tagged["std"],
        ), (architecture, tag)
    assert differing == 28


@pytest.mark.e2e
def test_every_architecture_builds_with_the_activation_of_each_of_its_tags():
    recipes = {}
    for architecture in open_clip.list_models():
        recipes[architecture, recipe_of(architecture).quick_gelu] = recipe_of(architecture)
    for architecture, tag in TAGS:
        recipe = recipe_of(architecture, tag)
        recipes[architecture, recipe.quick_gelu] = recipe
    for (architecture, quick), recipe in recipes.items():
        if recipe.vision.timm_model_name is not None or not isinstance(recipe.vision.layers, int):
            assert not quick
        # Activations don't depend on depth: two layers show them, and cost less.
        shallow = (
            recipe if not quick else dataclasses.replace(recipe, vision=dataclasses.replace(recipe.vision, layers=2))
        )
        with torch.device("meta"):
            visual = build(shallow)
        if isinstance(visual, open_clip.model.VisionTransformer):
            assert activations(visual) == {QuickGELU if quick else torch.nn.GELU}, architecture


def test_openai_is_built_with_quick_gelu_and_its_architecture_without():
    assert recipe_of("ViT-B-16", "openai").quick_gelu
    assert not recipe_of("ViT-B-16").quick_gelu
    assert not recipe_of("roberta-ViT-B-32", "laion2b_s12b_b32k").quick_gelu


def test_names_of_one_network_have_one_architecture():
    quick = OpenClipBackbone(build(recipe_of("ViT-B-32-quickgelu")), recipe_of("ViT-B-32-quickgelu"))
    tagged = OpenClipBackbone(build(recipe_of("ViT-B-32", "openai")), recipe_of("ViT-B-32", "openai"))
    assert quick.architecture == tagged.architecture
    assert quick.view == tagged.view
    plain = OpenClipBackbone(build(recipe_of("ViT-B-32")), recipe_of("ViT-B-32"))
    assert plain.architecture != quick.architecture


def test_without_a_tag_the_view_is_what_all_tags_share():
    assert view_of(recipe_of("ViT-B-16-SigLIP").preprocess, 224).resize_mode == "squash"
    assert view_of(recipe_of("ViT-B-16-SigLIP").preprocess, 224).mean == (0.5, 0.5, 0.5)
    assert view_of(recipe_of(TINY).preprocess, 224).mean == open_clip.OPENAI_DATASET_MEAN


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return open_clip.create_model(TINY).eval()


@pytest.fixture(scope="module")
def batch():
    return torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def check(model, batch, path):
    backbone = load(f"{TINY}@{path}")
    with torch.inference_mode():
        assert torch.equal(backbone.extract(batch), model.encode_image(batch))
    assert digest(backbone.vision_state()) == digest(model.visual.state_dict())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: model.state_dict(),
        lambda model: model.visual.state_dict(),
        lambda model: {f"module.{k}": v for k, v in model.state_dict().items()},
        lambda model: {"epoch": 1, "state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}},
        lambda model: open_clip.model.convert_to_custom_text_state_dict(model.state_dict()),
    ],
    ids=["whole", "vision only", "ddp", "checkpoint", "custom text"],
)
def test_state_dicts_in_every_wrapping_give_encode_image(model, batch, tmp_path, wrap):
    torch.save(wrap(model), tmp_path / "a.pt")
    check(model, batch, tmp_path / "a.pt")


def test_safetensors_give_encode_image(model, batch, tmp_path):
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "a.safetensors")
    check(model, batch, tmp_path / "a.safetensors")


def test_patches_are_what_is_pooled(model, batch, tmp_path):
    torch.save(model.state_dict(), tmp_path / "a.pt")
    encoded = load(f"{TINY}@{tmp_path / 'a.pt'}")
    with torch.inference_mode():
        visual = model.visual
        tokens = visual.ln_post(visual.transformer(visual._embeds(batch)))
        found = encoded.img_encode(batch)
        assert torch.equal(found.patch_features, tokens[:, 1:])
        torch.testing.assert_close(found.img_features, tokens[:, 0] @ visual.proj)


@pytest.mark.e2e
def test_openais_own_files_need_openais_activation(model, batch, tmp_path):
    """Half precision, with the sizes of the network among the tensors; ViT-B-32 has a tag of OpenAI's."""
    name = "ViT-B-32"
    visual = build(recipe_of(name, "openai"))
    state = {f"visual.{k}": v.half() for k, v in visual.state_dict().items()}
    state |= {
        "input_resolution": torch.tensor(224),
        "context_length": torch.tensor(77),
        "logit_scale": torch.ones(()),
    }
    path = tmp_path / "openai.pt"
    torch.save(state, path)
    backbone = load(f"{name}/openai@{path}")
    assert activations(backbone.visual) == {QuickGELU}
    with torch.inference_mode():
        assert torch.equal(backbone.extract(batch), visual.half().float().eval()(batch))
    with pytest.raises(BBError, match=f"trained with QuickGELU.*write open_clip:ViT-B-32/openai@{path}"):
        load(f"{name}/laion2b_e16@{path}")


def test_a_file_needs_a_tag_where_tags_differ(tmp_path):
    """OpenAI's weights saved anew show nothing of their QuickGELU."""
    for architecture, lines in {
        "ViT-B-32": ["  openai, laion400m_e31, laion400m_e32, metaclip_400m, metaclip_fullcc: activation QuickGELU"],
        "ViT-L-14-336": ["  openai: activation QuickGELU", "  default: activation GELU"],
    }.items():
        with pytest.raises(UsageError, match="differ in activation.*Add the tag that was trained as the file") as error:
            resolve(BackboneName("open_clip", architecture, path="w.pt"))
        assert str(error.value).splitlines()[1:][: len(lines)] == lines
    with pytest.raises(UsageError, match="differ in resize_mode"):
        resolve(BackboneName("open_clip", "ViT-H-14-quickgelu", path="w.pt"))
    assert resolve(BackboneName("open_clip", "ViT-L-14-336", "openai", path="w.pt")).quick_gelu
    assert not resolve(BackboneName("open_clip", "ViT-L-14-336", "default", path="w.pt")).quick_gelu
    assert resolve(BackboneName("open_clip", "ViT-B-32-quickgelu", path="w.pt")).quick_gelu
    assert "default" not in {tag for _, tag in TAGS}


def test_what_does_not_fit_is_named(model, tmp_path):
    path = tmp_path / "a.pt"
    state = model.visual.state_dict()
    del state["proj"]
    torch.save(state, path)
    with pytest.raises(BBError, match=r"does not fit the architecture of .* \(\d+ tensors\)\. 1 missing: proj\."):
        load(f"{TINY}@{path}")
    torch.save({k: v for k, v in model.state_dict().items() if not k.startswith("visual.")}, path)
    with pytest.raises(BBError, match=r"missing: class_embedding, "):
        load(f"{TINY}@{path}")


def test_hub_models_bring_their_own_configuration(model, batch, tmp_path, monkeypatch):
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "open_clip_model.safetensors")
    config = {**open_clip.get_model_config(TINY), "quick_gelu": True}
    preprocess = {
        "mean": [0.1, 0.2, 0.3],
        "std": [1.0, 1.0, 1.0],
        "resize_mode": "squash",
        "interpolation": "bilinear",
    }
    written = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
    (tmp_path / "open_clip_config.json").write_text(written)
    asked = []

    def fetch(name, config=False):
        asked.append(name.architecture)
        return tmp_path / ("open_clip_config.json" if config else "open_clip_model.safetensors")

    monkeypatch.setattr("bb.extract.backbones.load_open_clip.fetch", fetch)
    backbone = load("hf-hub:lab/model@v2")
    assert set(asked) == {"hf-hub:lab/model@v2"}
    assert activations(backbone.visual) == {QuickGELU}
    assert backbone.view == View("squash", (224, 224), (224, 224), "bilinear", (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    assert digest(backbone.vision_state()) == digest(model.visual.state_dict())


def test_stage_of_patches_is_named():
    stages = {TINY: "after the final norm, before the projection", "ViT-B-16-SigLIP": "after the final norm"}
    for architecture, stage in stages.items():
        recipe = recipe_of(architecture)
        with torch.device("meta"):
            assert OpenClipBackbone(build(recipe), recipe).patch_output["stage"] == stage
