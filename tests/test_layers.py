"""Who may import whom (shared by all: nobody else is a home of torch or timm), and that this test would notice."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "store": {"extract", "probe", "bb", "torch", "torchvision", "timm", "open_clip", "sklearn", "PIL", "simplejpeg"},
    "extract": {"probe", "bb", "sklearn", "cuml"},
    "probe": {"extract", "bb", "torch", "torchvision", "timm", "open_clip", "PIL", "simplejpeg"},
}
# What is learned on features may use torch; the rest of the layer does without.
TORCH = {"probe/heads": {"torch"}}
# Heavy libraries that only these files may import, and where: at the top, or inside functions.
HOMES = {
    **{"timm": {"extract"}, "open_clip": {"extract"}, "cuml": {"probe"}},
    **{name: {"retrieval"} for name in ("tensorboard", "mlflow", "wandb")},
    **{name: {"cluster"} for name in ("ray", "submitit")},
}
TORCHLESS = (
    "import store, probe, store.fetch, store.writer, store.verify, store.compact, store.du, store.why, "
    "store.adopted, store.labels, store.tolerance, probe.labels, "
    "store.filesystem, store.row_index, "
    "store.head, store.signing, store.trust, store.plan, store.transfer, store.url, store.index, "
    "store.bucket, store.web, store.hf, store.mirror, "
    "store.blob, store.shelf, store.braces, store.tar, store.footer, extract.root, "
    "store.cluster.engine, store.cluster.command, store.cluster.ray, store.cluster.stream, store.cluster.slurm, "
    "extract.name, extract.code, probe.newt, probe.run, probe.spaces, probe.report, probe.engine, probe.sklearn, "
    "probe.cuml, probe.digits, probe.compare, probe.variance, probe.record, probe.ranking, "
    "probe.retrieval.search, probe.retrieval.metrics, probe.retrieval.rerank, probe.retrieval.report, "
    "probe.retrieval.tensorboard, probe.retrieval.mlflow, probe.retrieval.wandb, "
    "probe.retrieval.run, probe.retrieval.streaming, probe.retrieval.approximate, bb"
)


def imported(source):
    """Top-level names of all modules that a file imports, anywhere in it, save for type checking only."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.partition(".")[0]


def breaches(layer, source, folder=""):
    return sorted(set(imported(source)) & (FORBIDDEN[layer] - TORCH.get(folder, set())))


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_no_layer_reaches_where_it_should_not(layer):
    files = list((ROOT / layer).glob("**/*.py"))
    assert files
    found = {file: breaches(layer, file.read_text(), file.parent.relative_to(ROOT).as_posix()) for file in files}
    assert {file.name: names for file, names in found.items() if names} == {}


def test_this_test_notices():
    assert breaches("store", "def f():\n    import torch.nn") == ["torch"]
    assert breaches("probe", "from extract.name import BackboneName") == ["extract"]
    assert breaches("extract", "if True:\n    from probe import newt") == ["probe"]
    assert breaches("store", "import numpy\nfrom store.errors import BBError") == []
    assert breaches("probe", "if TYPE_CHECKING:\n    import torch") == []
    assert breaches("probe", "import torch, timm", "probe/heads") == ["timm"]
    assert breaches("probe", "import torch, timm", "probe/retrieval") == ["timm", "torch"]


@pytest.mark.parametrize("library", HOMES)
def test_a_library_has_one_home(library):
    for file in [*(path for layer in FORBIDDEN for path in ROOT.glob(f"{layer}/**/*.py")), ROOT / "scripts" / "bb.py"]:
        if file.parent.name in HOMES[library]:
            continue
        assert library not in set(imported(file.read_text())), file


def test_probing_and_stores_need_no_torch():
    """In a process where torch, timm, open_clip and Pillow can't be imported."""
    absent = "dict.fromkeys(('torch', 'torchvision', 'timm', 'open_clip', 'PIL', 'simplejpeg', 'safetensors'))"
    script = f"import sys; sys.modules.update({absent}); {TORCHLESS}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
