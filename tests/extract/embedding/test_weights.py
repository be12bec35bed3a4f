"""The digest of weights: it knows their names, shapes and values, and nothing else."""

import hashlib

import pytest
import torch

from bb.extract.embedding.weights import digest


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


def test_complex_tensors_have_no_digest():
    with pytest.raises(TypeError, match=r"a is torch.complex64"):
        digest({"a": torch.zeros(1, dtype=torch.complex64)})
