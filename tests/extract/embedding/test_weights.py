"""The digest knows weights alone; files are read without running them; a network gets all of them or none."""

import argparse
import hashlib
import pickle

import pytest
import safetensors.torch
import torch
from torch import nn

from extract import weights
from extract.weights import digest, fit, load_state_dict
from store.errors import BBError


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "conv.weight": torch.randn(4, 3, 2, 2),
        "norm.bias": torch.zeros(4),
        "norm.num_batches_tracked": torch.tensor(2**40 + 1),
        "mask": torch.tensor([True, False]),
    }


def test_digest_is_as_documented():
    """Written down once more, in other words, so that it can't drift: stores depend on it."""
    tensors = {"b": torch.tensor([[1.0, -2.0]]), "a": torch.tensor(3)}
    expected = hashlib.sha256(
        b"1:a\ni[]\n" + (3).to_bytes(8, "little") + b"1:b\nf[1, 2]\n" + bytes.fromhex("0000803f000000c0")
    )
    assert digest(tensors) == expected.hexdigest()


def test_digest_depends_on_each_name_shape_and_value():
    original = state()
    digests = {digest(original)}
    for name, tensor in original.items():
        flat = tensor.clone().reshape(-1)
        flat[0] = ~flat[0] if flat.dtype == torch.bool else flat[0] + 1
        digests.add(digest({**original, name: flat.reshape(tensor.shape)}))
        digests.add(digest({**original, name: tensor.reshape(1, *tensor.shape)}))
        digests.add(digest({k + "x" if k == name else k: v for k, v in original.items()}))
        digests.add(digest({k: v for k, v in original.items() if k != name}))
    assert len(digests) == 1 + 4 * len(original)


def test_digest_sees_the_last_bit_of_a_float():
    original = state()
    changed = original["conv.weight"].clone()
    changed.view(torch.int32)[3, 2, 1, 1] ^= 1
    assert digest({**original, "conv.weight": changed}) != digest(original)


def test_digest_is_blind_to_order_layout_and_exact_casts():
    original = state()
    original["conv.weight"] = original["conv.weight"].half().float()
    same = dict(reversed(original.items()))
    same["conv.weight"] = same["conv.weight"].half().to(memory_format=torch.channels_last)
    assert digest(same) == digest(original)


def test_both_file_formats_hold_the_same_weights(tmp_path):
    torch.save(state(), tmp_path / "a.pt")
    torch.save(state(), tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(state(), tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").rename(tmp_path / "no-suffix")
    for name in ("a.pt", "legacy.pt", "no-suffix"):
        assert digest(load_state_dict(tmp_path / name)) == digest(state())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s, "args": argparse.Namespace(lr=1.0)},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {
            "state_dict": {f"module._orig_mod.{k}": v for k, v in s.items()},
            "optimizer": {"state": {}},
        },
        lambda s: {"state_dict": {k: torch.zeros_like(v) for k, v in s.items()}, "state_dict_ema": s},
    ],
    ids=["state_dict", "model", "ddp", "ddp and compile", "averaged"],
)
def test_wrappers_of_training_are_taken_off(tmp_path, wrap):
    torch.save(wrap(state()), tmp_path / "a.pt")
    assert digest(load_state_dict(tmp_path / "a.pt")) == digest(state())


class Explosive:
    def __reduce__(self):
        return (pytest.fail, ("the pickle's code was run",))


@pytest.mark.parametrize("legacy", [False, True])
def test_pickles_with_code_are_refused(tmp_path, legacy):
    torch.save({"a": Explosive()}, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(BBError, match=r"would run code when read.*safetensors"):
        load_state_dict(tmp_path / "a.pt")


def test_bare_pickles_with_code_are_refused(tmp_path):
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Explosive()))
    with pytest.raises(BBError):
        load_state_dict(tmp_path / "a.pt")


def test_whole_modules_are_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(BBError, match="save the state dict alone"):
        load_state_dict(tmp_path / "a.pt")


def test_torchscript_is_refused(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "a.pt")
    with pytest.raises(BBError, match=r"TorchScript program.*\.state_dict\(\)"):
        load_state_dict(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [b"", b"hello world, this is text", b"PK\x03\x04broken", b"\x80\x02broken"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(BBError, match=r"a\.pt"):
        load_state_dict(tmp_path / "a.pt")


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_cut_off_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    save = torch.save if suffix == "pt" else safetensors.torch.save_file
    save(state(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BBError, match="fetch it again"):
        load_state_dict(path)


def test_files_that_are_no_state_dicts_say_so(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 1, "loss": 0.5}, tmp_path / "log.pt")
    (tmp_path / "a.npz").write_bytes(b"PK")
    with pytest.raises(BBError, match="holds a list, no state dict"):
        load_state_dict(tmp_path / "list.pt")
    with pytest.raises(BBError, match="no tensors under its keys epoch, loss"):
        load_state_dict(tmp_path / "log.pt")
    with pytest.raises(BBError, match="convert it to safetensors"):
        load_state_dict(tmp_path / "a.npz")
    with pytest.raises(BBError, match="no file of weights at"):
        load_state_dict(tmp_path / "missing.pt")


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))


def test_fit_copies_and_casts():
    source, target = network().half(), network()
    fit(source.state_dict(), target, "file")
    assert digest(target.state_dict()) == digest(source.state_dict())
    assert target[0].weight.dtype == torch.float32


def test_fit_does_without_the_count_of_batches():
    source = {k: v for k, v in network().state_dict().items() if "num_batches" not in k}
    fit(source, network(), "file")


def test_fit_names_what_does_not_fit_and_changes_nothing():
    source, target = network().state_dict(), network()
    before = digest(target.state_dict())
    del source["0.bias"], source["1.running_var"]
    source["0.weight"] = torch.zeros(8, 4, 1, 1)
    source |= {f"head.{i}": torch.zeros(1) for i in range(5)}
    with pytest.raises(BBError) as error:
        fit(source, target, "my.safetensors")
    message = str(error.value)
    assert message.startswith("my.safetensors does not fit the architecture (7 tensors).")
    assert "2 missing: 0.bias, 1.running_var." in message
    assert "5 unexpected: head.0, head.1, head.2, …." in message
    assert "1 of another shape: 0.weight [8, 4, 1, 1] instead of [8, 3, 1, 1]." in message
    assert digest(target.state_dict()) == before


def test_complex_tensors_have_no_digest():
    with pytest.raises(TypeError, match=r"a is torch.complex64"):
        weights.digest({"a": torch.zeros(1, dtype=torch.complex64)})
