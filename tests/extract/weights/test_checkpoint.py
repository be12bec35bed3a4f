"""Files of weights are read without running anything in them, and what is not one is called what it is."""

import argparse
import bz2
import datetime
import gzip
import io
import json
import lzma
import os
import pathlib
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from bb.extract.embedding.weights import digest
from bb.extract.weights.checkpoint import locate, read_checkpoint
from bb.store.errors import BBError, UsageError


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "conv.weight": torch.randn(4, 3, 2, 2),
        "norm.bias": torch.zeros(4),
        "norm.num_batches_tracked": torch.tensor(2**40 + 1),
        "mask": torch.tensor([True, False]),
    }


def read(path):
    return read_checkpoint(path).parts


def test_all_file_formats_hold_the_same_weights(tmp_path):
    torch.save(state(), tmp_path / "a.pt")
    torch.save(state(), tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(state(), tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").rename(tmp_path / "no-suffix")
    for name in ("a.pt", "legacy.pt", "no-suffix"):
        parts = read(tmp_path / name)
        assert set(parts) == {""} and digest(parts[""]) == digest(state())


def test_state_dicts_are_found_under_every_key(tmp_path):
    content = {
        "student": {"model": state()},
        "teacher": state(),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
        "temperature": torch.ones(1),
    }
    torch.save(content, tmp_path / "a.pt")
    parts = read(tmp_path / "a.pt")
    assert set(parts) == {"", "student.model", "teacher", "optimizer.state.0"}
    assert digest(parts["student.model"]) == digest(state())


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "value, names",
    [
        (np.float64(0.5), {"numpy._core.multiarray.scalar", "numpy.dtype"}),
        (np.arange(3), {"numpy._core.multiarray._reconstruct", "numpy.dtype"}),
        (argparse.Namespace(out=pathlib.Path("a/b")), {"argparse.Namespace", "pathlib.PosixPath"}),
        (datetime.datetime(2026, 1, 1), {"datetime.datetime"}),
    ],
    ids=["float64", "array", "namespace", "datetime"],
)
def test_what_training_saves_beside_the_weights_is_left_out_and_named(tmp_path, value, names, legacy):
    torch.save({"model": state(), "beside": value}, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    checkpoint = read_checkpoint(tmp_path / "a.pt")
    assert digest(checkpoint.parts["model"]) == digest(state())
    assert names <= set(checkpoint.ignored)


class Explosive:
    def __reduce__(self):
        return (pytest.fail, ("the pickle's code was run",))


class Settings:
    rate = 0.1


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "value, name",
    [(Explosive(), "outcomes"), (Settings(), "test_checkpoint.Settings"), (os.system, "posix.system")],
    ids=["code", "class", "function"],
)
def test_other_types_are_refused_by_name_with_a_way_out(tmp_path, value, name, legacy):
    torch.save({"a": value, "model": state()}, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(BBError, match=rf"holds a \S*{name}.*weights_only=False.*torch\.save\(model\.state_dict\(\)"):
        read(tmp_path / "a.pt")


def test_stand_ins_run_no_code_of_what_they_stand_for(tmp_path):
    """A pickle that calls an allowed name with hostile arguments gets an object that does nothing."""

    class Open:
        def __reduce__(self):
            return (pathlib.PosixPath, (Inner(),))

    class Inner:
        def __reduce__(self):
            return (argparse.Namespace, ())

    torch.save({"w": torch.ones(1), "x": Open()}, tmp_path / "a.pt")
    assert set(read_checkpoint(tmp_path / "a.pt").ignored) == {"argparse.Namespace", "pathlib.PosixPath"}


def test_bare_pickles_with_code_are_refused(tmp_path):
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Explosive()))
    with pytest.raises(BBError, match="'.*a.pt'"):
        read(tmp_path / "a.pt")


def test_whole_modules_are_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(BBError, match=r"holds a torch\.nn\.modules\.linear\.Linear.*state_dict\(\)"):
        read(tmp_path / "a.pt")


def test_torchscript_is_refused(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "a.pt")
    with pytest.raises(BBError, match=r"TorchScript program.*\.state_dict\(\)"):
        read(tmp_path / "a.pt")


def zipped(name: str, content: bytes = b"x") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pth"))
    return file.getvalue()


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.ones(2))
    return file.getvalue()


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (bytes(10240), "begins with zeros alone.*Download or save it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "git-lfs pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html>Sign in</html>", "is a web page"),
        (b"\n  <HTML><head>", "is a web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page"),
        (json.dumps({"error": "Repository not found"}).encode(), "is JSON text"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5.*safetensors"),
        (b"\x08\x08\x12\x07pytorch\x1a\x052.0.0:\xff", "ONNX model"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(50), "TensorFlow Lite"),
        (b"GGUF\x03\x00\x00\x00", "GGUF"),
        (b"\x93NUMPY\x01\x00", "NumPy array"),
        (gzip.compress(b"weights"), "compressed by gzip"),
        (bz2.compress(b"weights"), "compressed by bzip2"),
        (lzma.compress(b"weights"), "compressed by xz"),
        (tarred(), "is a tar archive"),
        (zipped("model.pth"), r"is a zip archive \(model\.pth\)"),
        (npz(), "is a NumPy archive"),
        (b"\x89PNG\r\n\x1a\n", "is an image or document"),
        (b"hello world, this is text", "damaged or not a state dict|not a state dict"),
        (b"PK\x03\x04broken", "is damaged"),
        (b"\x80\x02broken", "a.pt"),
    ],
    ids=lambda value: "file" if isinstance(value, bytes) else value[:12],
)
def test_other_files_are_called_what_they_are(tmp_path, content, words):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(BBError, match=words) as error:
        read(tmp_path / "a.pt")
    assert f"'{tmp_path}/a.pt'" in str(error.value)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_cut_off_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    save = torch.save if suffix == "pt" else safetensors.torch.save_file
    save(state(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BBError, match="damaged.*Download or save it again"):
        read(path)


def test_files_that_hold_no_state_dict_say_what_they_hold(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 1, "loss": 0.5}, tmp_path / "log.pt")
    with pytest.raises(BBError, match="holds a list, no tensors by name"):
        read(tmp_path / "list.pt")
    with pytest.raises(BBError, match="holds float, int under the keys epoch, loss, no tensors by name"):
        read(tmp_path / "log.pt")
    torch.save({"weight": np.zeros(3), "bias": np.zeros(3)}, tmp_path / "arrays.pt")
    with pytest.raises(BBError, match=r"holds numpy\..* under the keys weight, bias, no tensors by name") as refused:
        read(tmp_path / "arrays.pt")
    assert "Ignored" not in str(refused.value)


def test_paths_that_are_not_files_say_so(tmp_path):
    with pytest.raises(UsageError, match=r"'.*missing.pt' does not exist"):
        read(tmp_path / "missing.pt")
    with pytest.raises(UsageError, match="'c2e3996ff138' is how a store names a file of weights"):
        read(pathlib.Path("c2e3996ff138"))
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(UsageError, match="not a regular file"):
        read(tmp_path / "pipe.pt")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UsageError, match=r"is a folder. Give a file in it: model.safetensors"):
        read(tmp_path)


def test_a_part_follows_a_hash_unless_the_files_name_has_it(tmp_path):
    (tmp_path / "a#1.pt").touch()
    assert locate(f"{tmp_path}/a#1.pt") == (tmp_path / "a#1.pt", None)
    assert locate(f"{tmp_path}/a#1.pt#teacher") == (tmp_path / "a#1.pt", "teacher")
    assert locate(f"{tmp_path}/b.pt") == (tmp_path / "b.pt", None)


def test_names_in_a_file_can_not_steer_a_terminal(tmp_path):
    torch.save({"\x1b[2Jepoch": 1}, tmp_path / "a.pt")
    with pytest.raises(BBError) as error:
        read(tmp_path / "a.pt")
    assert "\x1b" not in str(error.value)


def nested_manifold(levels):
    """Some kilobytes of pickle, in which every mapping holds the one below many times."""
    inner = {"weight": torch.zeros(1)}
    for _ in range(levels):
        inner = dict.fromkeys(map(str, range(50)), inner)
    return inner


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (nested_manifold(4), "nests more than 100,000 entries"),
        (
            {"pos_embed": torch.zeros(1).expand(1, 2**20, 64)},
            r"claims \[1, 1048576, 64\] numbers for pos_embed and holds 4 bytes of them",
        ),
    ],
)
def test_a_small_file_can_not_claim_work_without_end(tmp_path, content, words):
    torch.save(content, tmp_path / "a.pt")
    assert (tmp_path / "a.pt").stat().st_size < 100_000
    with pytest.raises(BBError, match=words):
        read(tmp_path / "a.pt")


def test_an_archive_that_unpacks_to_much_more_is_refused(tmp_path):
    torch.save(state(), tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    for name, padding in (("packed.pt", b""), ("bomb.pt", bytes(2**27))):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            for member, data in (members | {"a/data/9": padding}).items():
                packed.writestr(member, data)
    assert digest(read(tmp_path / "packed.pt")[""]) == digest(state())
    with pytest.raises(BBError, match=r"would unpack to 134,\d+,\d+ bytes"):
        read(tmp_path / "bomb.pt")


def test_repeated_numbers_of_usual_size_are_taken(tmp_path):
    torch.save({"mask": torch.zeros(1).expand(4, 5)}, tmp_path / "a.pt")
    assert read(tmp_path / "a.pt")[""]["mask"].shape == (4, 5)
