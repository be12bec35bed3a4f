"""What must not change while the code moves: verbs and options, run IDs and scores, files of a report, and features.

A value here changes only together with the format or the statistics, never in a change of structure. Features may
change only with the hash of extract/embedding/. `python -m tests.test_golden` writes the files anew.
"""

import dataclasses
import hashlib
import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from bb.extract.backbones.code_hash import tree_hash
from bb.extract.backbones.decoders import find_decoder, usable
from bb.extract.backbones.device import Numerics
from bb.extract.backbones.name import BackboneName
from bb.extract.data.scan import HashMemory, find_images, scan
from bb.extract.embedding.decoder import DecodeOptions
from bb.extract.pipeline.extractor import VERSIONS, Extractor
from bb.extract.pipeline.pipeline import torch_threads
from bb.extract.reproduce.sample import Images, embed_sample
from bb.store.format.tolerance import relative_distance
from bb.store.versions import versions
from tests.helpers.boards import small_store
from tests.helpers.command_line import run_here
from tests.helpers.labelled import labelled
from tests.helpers.verbs import VERBS

GOLDEN = Path(__file__).parent / "data" / "golden"
LONG = re.compile(r"\d\.\d{9,}(e-\d+)?")  # the last digits of a sum differ between processors
AWKWARD = GOLDEN.parent / "before" / "images"
NETWORKS = ["timm:test_vit/untrained", "timm:test_resnet/untrained", "open_clip:ViT-S-32-alt/untrained"]
SAME = 2e-3  # relative distance of a row: float16 takes 5e-4 of it, and kernels of other processors far less
REPORTS = {"report.csv": "--csv", "report.md": "--markdown", "report.tex": "--latex"}


def shape(option):
    default = None if callable(option.default) else str(option.default)
    return [str(option.bare_type), option.required, option.multiple, default]


def options():
    """Every verb's options, with their types and defaults; not the words of their help."""
    return {
        name: {" ".join([*each.opts, *each.secondary_opts]): shape(each) for each in command.params}
        for name, command in sorted(VERBS.items())
    }


def bb_prints(folder, *words):
    status, out, err = run_here(folder, *words)
    assert status == 0, err
    return out


def runs(folder):
    """Run IDs with their scores."""
    labelled(folder)
    found = {}
    for protocol in ("biobench", "newt2021"):
        words = ["--n-train", "6,10,all", "--seed", "0", "--protocol", protocol, "--labels", "newt2021_labels.csv"]
        for run in json.loads(bb_prints(folder, "probe", "newt", *words, "--json")):
            found[f"newt {protocol} {run['n_train']}"] = [run["run_id"], run["scores"]["mean"]]
    words = ["--labels", "individuals.csv", "--data", "newt", "--json"]
    for run in json.loads(bb_prints(folder, "probe", "retrieval", *words)):
        found["retrieval"] = [run["run_id"], run["scores"]]
    return found


def made(folder):
    """The golden files' names and texts."""
    small_store(folder / "reports.bb")
    texts = {"options.json": json.dumps(options(), indent=1), "runs.json": json.dumps(runs(folder), indent=1)}
    for name, option in REPORTS.items():
        texts[name] = bb_prints(folder, "report", "newt", "--store", "reports.bb", option, "-")
    return {
        name: LONG.sub(lambda number: f"{float(number[0]):.9g}", text.rstrip("\n")) + "\n"
        for name, text in texts.items()
    }


def test_what_must_not_change(tmp_path):
    for name, text in made(tmp_path).items():
        assert text == (GOLDEN / name).read_text(), name


def features():
    """Image features of the awkward images, float32 and sorted by ID, by backbone and decoder."""
    images = Images.of({"awkward": scan(find_images(AWKWARD), HashMemory.open(None))})
    keys = sorted(images.entries, key=lambda key: images.entries[key].image_id)
    numerics = Numerics.resolve("cpu")
    decoders = {name: find_decoder(DecodeOptions(name), numerics.device) for name in usable_names(numerics.device)}
    rows = {}
    for network in NETWORKS:
        name, first = BackboneName.parse(network), next(iter(decoders.values()))
        extractor = Extractor.load(name, first, numerics, patch=False, batch_size=None, compile=False)
        for decoder, decodes in decoders.items():
            made, failed = embed_sample(dataclasses.replace(extractor, decoder=decodes), images, keys)
            assert not failed
            rows[f"{network} {decoder}"] = np.stack([made[key][0] for key in keys])
    return rows


def usable_names(device):
    return [name for name, reason in usable(device).items() if not reason]


def record_of(rows):
    """Which code made features, their digests, and where these are the same to the bit."""
    where = [torch.backends.cpu.get_cpu_capability(), processor(), versions(VERSIONS[1:])]
    digests = {name: hashlib.sha256(x.tobytes()).hexdigest() for name, x in rows.items()}
    return {"embedding": tree_hash(), "where": where, "sha256": digests}


def processor():
    """What of the processor decides which kernels libraries choose: in a virtual machine its name is not enough."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().partition("\n\n")[0].splitlines() if information.exists() else []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    kernels = ("vendor_id", "cpu family", "model", "model name", "stepping", "cache size", "flags")
    digest = hashlib.sha256("\n".join(fields.get(name, "") for name in kernels).encode()).hexdigest()
    return f"{fields.get('model name', 'unknown')} {digest[:12]}"


def faults(rows, golden, arrays):
    """In what features differ from the golden ones."""
    made = record_of(rows)
    if made["embedding"] != golden["embedding"]:
        return ["extract/embedding was edited: python -m tests.test_golden"]
    if rows.keys() != golden["sha256"].keys():
        return ["other networks or decoders: python -m tests.test_golden"]
    exact = made["where"] == golden["where"]
    return [
        f"{name}: other features under the same hash of extract/embedding"
        for name, x in rows.items()
        if (exact and made["sha256"][name] != golden["sha256"][name])
        or not (relative_distance(x, arrays[name].astype(np.float32)) <= SAME).all()
    ]


@pytest.fixture(scope="module")
def embedded():
    with torch_threads(1):
        return features()


def test_features_change_only_with_the_hash_of_embedding(embedded):
    golden, arrays = json.loads((GOLDEN / "features.json").read_text()), np.load(GOLDEN / "features.npz")
    assert faults(embedded, golden, arrays) == []


def test_another_feature_under_the_same_hash_is_noticed(embedded):
    golden, arrays = record_of(embedded), {name: x.astype(np.float16) for name, x in embedded.items()}
    assert faults(embedded, golden, arrays) == []
    (name, x), *_ = embedded.items()
    for by in (1e-6, 1e-2):
        other = embedded | {name: np.concatenate([x[:-1], x[-1:] * (1 + np.float32(by))])}
        assert faults(other, golden, arrays) == [f"{name}: other features under the same hash of extract/embedding"]
    elsewhere = golden | {"where": ["another processor"]}
    small, large = (embedded | {name: x * np.float32(1 + by)} for by in (1e-6, 1e-2))
    assert faults(small, elsewhere, arrays) == [] and len(faults(large, elsewhere, arrays)) == 1
    assert faults(small, golden | {"embedding": "0" * 40}, arrays) == [
        "extract/embedding was edited: python -m tests.test_golden"
    ]


if __name__ == "__main__":
    with torch_threads(1):
        rows = features()
    (GOLDEN / "features.json").write_text(json.dumps(record_of(rows), indent=1) + "\n")
    np.savez_compressed(GOLDEN / "features.npz", **{name: x.astype(np.float16) for name, x in rows.items()})
    with tempfile.TemporaryDirectory() as folder:
        for name, text in made(Path(folder)).items():
            (GOLDEN / name).write_text(text)
