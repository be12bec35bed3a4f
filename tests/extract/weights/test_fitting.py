"""A network gets all of its weights out of a file, exactly, or none; what else the file holds is named."""

import pytest
import torch
from torch import nn

from bb.extract.embedding.weights import digest
from bb.extract.weights.candidates import Target
from bb.extract.weights.fitting import load_file
from bb.store.errors import BBError


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Conv2d(3, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.pos_embed = nn.Parameter(torch.zeros(1, 17, 8))
        self.reg_token = None
        self.register_buffer("index", torch.arange(4))


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    made = Network()
    nn.init.normal_(made.pos_embed)
    return made


def state(seed: int = 7) -> dict[str, torch.Tensor]:
    return dict(network(seed).state_dict())


def under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def fit(content, tmp_path, part="", **options):
    torch.save(content, tmp_path / "w.pt")
    target = network()
    loaded = load_file(f"{tmp_path}/w.pt{part}", Target("timm:net", target, **options))
    return loaded, target


PREFIXES = (
    "module.", "_orig_mod.", "module._orig_mod.", "model.", "model.model.", "net.", "backbone.", "base_encoder.",
    "encoder_q.", "visual.", "module.encoder.trunk.",
)  # fmt: skip
KEYS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "ema_state_dict", "net", "params", "network")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_that_makes_all_names_fit_is_taken_and_said(prefix, tmp_path):
    loaded, target = fit({"state_dict": under(prefix, state()), "epoch": 3}, tmp_path)
    assert digest(target.state_dict()) == digest(state())
    assert loaded.part == f"state_dict.{prefix}".removesuffix(".")
    assert loaded.record() == {"part": loaded.part}
    assert loaded.describe() == [f"{tmp_path}/w.pt: took the weights under '{loaded.part}'"]


def test_a_name_of_many_dots_costs_no_more_than_its_length(tmp_path):
    loaded, _ = fit({**state(), "a." * 50_000 + "b": torch.zeros(1)}, tmp_path)
    assert len(loaded.dropped) == 1


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_looked_under(key, tmp_path):
    loaded, target = fit({key: state(), "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}, tmp_path)
    assert digest(target.state_dict()) == digest(state())
    assert loaded.part == key


def test_a_plain_state_dict_says_nothing(tmp_path):
    loaded, target = fit(state(), tmp_path)
    assert digest(target.state_dict()) == digest(state())
    assert (loaded.record(), loaded.describe()) == ({"part": ""}, [])


def test_parts_that_fit_and_differ_are_listed_to_choose_from(tmp_path):
    content = {"teacher": under("backbone.", state(1)), "student": under("module.backbone.", state(2))}
    with pytest.raises(BBError) as error:
        fit(content, tmp_path)
    path = f"{tmp_path}/w.pt"
    assert str(error.value) == (
        f"'{path}' holds 2 sets of weights that fit timm:net and differ: teacher.backbone, student.module.backbone. "
        f"Choose one with # after the path, for example {path}#teacher.backbone"
    )
    for part, seed in (("teacher", 1), ("student", 2), ("student.module.backbone", 2)):
        loaded, target = fit(content, tmp_path, f"#{part}")
        assert digest(target.state_dict()) == digest(state(seed))
        assert loaded.part.startswith(part)


def test_averaged_weights_are_not_chosen_silently(tmp_path):
    with pytest.raises(BBError, match="differ: state_dict, state_dict_ema. Choose one"):
        fit({"state_dict": state(1), "state_dict_ema": state(2)}, tmp_path)
    with pytest.raises(BBError, match="differ: encoder_q, encoder_k. Choose one"):
        fit(under("encoder_q.", state(1)) | under("encoder_k.", state(2)), tmp_path)


def test_parts_that_hold_the_same_weights_are_one(tmp_path):
    loaded, target = fit({"teacher": state(), "student": under("module.", state())}, tmp_path)
    assert (loaded.part, loaded.others) == ("teacher", ("student",))
    assert digest(target.state_dict()) == digest(state())


def test_the_top_level_is_chosen_by_a_dot(tmp_path):
    content = {**state(1), "ema": state(2)}
    with pytest.raises(BBError, match=r"differ: \., ema. Choose one"):
        fit(content, tmp_path)
    assert digest(fit(content, tmp_path, "#.")[1].state_dict()) == digest(state(1))


def test_a_part_that_is_not_there_names_those_that_are(tmp_path):
    with pytest.raises(BBError, match=r"has no part 'techer'. It has teacher.pos_embed, teacher.index, teacher.layer1"):
        fit({"teacher": state()}, tmp_path, "#techer")


def test_what_another_part_needs_is_dropped_and_named(tmp_path):
    beside = {
        "criterion.W": torch.zeros(3, 3),
        "fc.0.weight": torch.zeros(2, 8),
        "text.token_embedding.weight": torch.zeros(4, 2),
        "mask_token": torch.zeros(1, 8),
    }
    loaded, target = fit(state() | beside, tmp_path)
    assert digest(target.state_dict()) == digest(state())
    assert loaded.dropped == tuple(beside)
    assert loaded.record() == {"part": "", "dropped": {"count": 4, "names": list(beside)}}
    assert loaded.describe() == [f"{tmp_path}/w.pt: dropped 4 other tensors: {', '.join(beside)}"]
    loaded, _ = fit(under("visual.", state()) | {"logit_scale": torch.ones(())}, tmp_path)
    assert loaded.dropped == ("logit_scale",)


@pytest.mark.parametrize("name", ["layer1.scale", "layer2.weight", "norm.gamma", "norm_pre.weight", "reg_token"])
def test_what_the_network_would_lack_is_refused(name, tmp_path):
    """A block more, a layer scale, register tokens: the weights are another architecture's."""
    if name == "norm_pre.weight":
        name = "norm2.weight"
    with pytest.raises(BBError, match=rf"1 unexpected: {name}\. Name the architecture"):
        fit(state() | {name: torch.ones(8)}, tmp_path)


def test_a_classifier_is_dropped_even_where_the_network_has_a_part_of_its_name(tmp_path):
    classifier = frozenset({"norm.fc.weight", "norm.fc.bias"})
    extra = {"norm.fc.weight": torch.ones(3, 8), "norm.fc.bias": torch.ones(3)}
    assert fit(state() | extra, tmp_path, classifier=classifier)[0].dropped == tuple(extra)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_weights_become_float32(dtype, tmp_path):
    content = {n: t.to(dtype) if t.is_floating_point() else t for n, t in state().items()}
    loaded, target = fit(content, tmp_path)
    assert digest(target.state_dict()) == digest(content)
    assert {t.dtype for t in target.parameters()} == {torch.float32}
    assert loaded.rounded == ()


def test_float64_that_is_rounded_is_said(tmp_path):
    loaded, _ = fit(state() | {"layer1.bias": torch.full((8,), 1 / 3, dtype=torch.float64)}, tmp_path)
    assert loaded.rounded == ("layer1.bias",)
    assert loaded.record()["rounded"] == {"count": 1, "names": ["layer1.bias"]}
    assert "rounded 1 tensors to float32: layer1.bias" in loaded.describe()[0]


@pytest.mark.parametrize(
    "dtype, word",
    [
        (torch.int8, "int8"),
        (torch.uint8, "uint8"),
        (torch.bool, "bool"),
        (torch.int64, "int64"),
        (torch.complex64, "complex64"),
        (torch.float8_e4m3fn, "float8_e4m3fn"),
    ],
)
def test_other_types_than_floating_point_are_refused(dtype, word, tmp_path):
    with pytest.raises(BBError, match=rf"1 of another type: layer1.bias {word} instead of float32. Save the weights"):
        fit(state() | {"layer1.bias": torch.ones(8).to(dtype)}, tmp_path)


def test_quantized_sparse_and_empty_tensors_are_refused(tmp_path):
    quantized = torch.quantize_per_tensor(torch.ones(8), 0.1, 0, torch.qint8)
    for tensor, word in (
        (quantized, "qint8"),
        (torch.ones(8).to_sparse(), "sparse, float32"),
        (torch.ones(8, device="meta"), "without values, float32"),
    ):
        with pytest.raises(BBError, match=f"layer1.bias {word} instead of float32"):
            fit(state() | {"layer1.bias": tensor}, tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_weights_quantized_dynamically_are_called_quantized(tmp_path):
    layers = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    quantized = torch.ao.quantization.quantize_dynamic(layers, {nn.Linear}, dtype=torch.qint8)
    torch.save(quantized.state_dict(), tmp_path / "w.pt")
    with pytest.raises(BBError, match="4 missing: .*Save the weights as float32.*quantized ones need their scales"):
        load_file(str(tmp_path / "w.pt"), Target("timm:net", layers))


def test_integers_stay_integers(tmp_path):
    assert fit(state() | {"index": torch.arange(4, dtype=torch.int32)}, tmp_path)[0].dropped == ()
    with pytest.raises(BBError, match="index float32 instead of int64"):
        fit(state() | {"index": torch.rand(4)}, tmp_path)


@pytest.mark.parametrize("count", [None, torch.tensor(12.5)], ids=["lacking", "averaged"])
def test_the_count_of_batches_does_not_matter(count, tmp_path):
    content = {n: t for n, t in state().items() if "num_batches" not in n}
    fit(content | ({} if count is None else {"norm.num_batches_tracked": count}), tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_values_that_are_not_finite_in_float32_are_refused(value, tmp_path):
    bias = torch.zeros(8, dtype=torch.float64)
    bias[3] = value
    with pytest.raises(BBError, match="1 with NaN or infinite values: layer1.bias. The weights are damaged"):
        fit(state() | {"layer1.bias": bias}, tmp_path)


def test_a_misfit_is_named_and_changes_nothing(tmp_path):
    content = {f"module.{name}": tensor for name, tensor in state().items()}
    del content["module.layer1.bias"], content["module.norm.running_var"]
    content["module.layer1.weight"] = torch.zeros(8, 4, 1, 1)
    content |= {f"module.norm.{i}": torch.zeros(1) for i in range(5)}
    torch.save(content, tmp_path / "w.pt")
    target = network()
    before = digest(target.state_dict())
    with pytest.raises(BBError) as error:
        load_file(str(tmp_path / "w.pt"), Target("timm:net", target))
    message = str(error.value)
    assert message.startswith(
        f"'{tmp_path}/w.pt' does not fit the architecture of timm:net (9 tensors), taking what is under 'module'."
    )
    assert "2 missing: layer1.bias, norm.running_var." in message
    assert "5 unexpected: norm.0, norm.1, norm.2, …." in message
    assert "1 of another shape: layer1.weight [8, 4, 1, 1] instead of [8, 3, 1, 1]." in message
    assert digest(target.state_dict()) == before


def test_positions_of_another_grid_are_refused_with_both_shapes(tmp_path):
    with pytest.raises(BBError, match=r"pos_embed \[1, 5, 8\] instead of \[1, 17, 8\]. The weights are of another res"):
        fit(state() | {"pos_embed": torch.zeros(1, 5, 8)}, tmp_path)


def test_tensors_in_order_under_other_names_get_a_hint(tmp_path):
    content = {f"_{i}": tensor for i, tensor in enumerate(state().values())}
    with pytest.raises(BBError, match=r"under other names.*dict\(zip\(model.state_dict\(\), state.values\(\)\)\)"):
        fit(content | {"_fc": torch.zeros(2, 8)}, tmp_path)


def converter(change):
    """A converter of files whose names begin with `old.`; `change` is what it does to the positions."""

    def convert(tensors):
        names = {name.removeprefix("old_"): tensor for name, tensor in tensors.items() if name.startswith("old_")}
        return names | {"pos_embed": change(tensors["old_pos_embed"])}

    return convert


def old(**replaced):
    return {f"old_{name}": tensor for name, tensor in (state() | replaced).items()}


def test_converted_files_are_followed_tensor_by_tensor(tmp_path):
    converted = converter(lambda positions: positions.reshape(1, 17, 8))
    loaded, target = fit(old(pos_embed=state()["pos_embed"].reshape(17, 8)) | {"extra": torch.ones(1)}, tmp_path,
                         convert=converted)  # fmt: skip
    assert digest(target.state_dict()) == digest(state())
    assert loaded.dropped == ("extra",)


def test_a_converter_that_resamples_is_refused_with_both_shapes(tmp_path):
    def resample(positions):
        return nn.functional.interpolate(positions.transpose(1, 2), size=17).transpose(1, 2)

    with pytest.raises(BBError, match=r"pos_embed \[1, 5, 8\] instead of \[1, 17, 8\]. The weights are of another res"):
        fit(old(pos_embed=torch.ones(1, 5, 8)), tmp_path, convert=converter(resample))


def test_a_converter_that_makes_tensors_up_is_refused(tmp_path):
    with pytest.raises(BBError, match="1 missing: pos_embed"):
        fit(old(), tmp_path, convert=converter(lambda positions: torch.zeros(1, 17, 8)))


def test_a_converter_that_fails_leaves_the_file_to_be_judged_as_it_is(tmp_path):
    def convert(tensors):
        raise KeyError("head")

    with pytest.raises(BBError, match="does not fit the architecture"):
        fit(old(), tmp_path, convert=convert)
