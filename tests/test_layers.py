"""Who may import whom, and that these tests would notice."""

import subprocess
import sys
from pathlib import Path

import pytest

from bb.cli import VERBS
from tests.helpers.imports import Tree, circle, imported, upward

ROOT = Path(__file__).parent.parent
TREE = Tree(
    {
        ROOT / "extract": "bb.extract",
        ROOT / "store": "bb.store",
        ROOT / "probe": "bb.probe",
        ROOT / "scripts" / "bb": "bb",  # its links to the three above are not followed
    }
)
# Lowest first; names on one line don't import each other. A folder's __init__ counts as its highest module.
ORDER = [
    ["bb.store.errors", "bb.store.versions"],
    ["bb.store.arguments"],
    ["bb.store.lazy_names"],
    ["bb.store.text", "bb.store.plugins", "bb.store.reporter"],
    ["bb.store.files"],
    ["bb.store.format"],
    ["bb.store.local", "bb.store.signing"],
    ["bb.store.storage"],
    ["bb.store.features"],
    ["bb.store.store"],
    ["bb.store.segment_writer", "bb.store.find_collection", "bb.store.trained_heads", "bb.store.trained_models"],
    ["bb.store.imported"],
    ["bb.store"],
    ["bb.store.maintenance.diff", "bb.store.sync"],
    ["bb.store.maintenance"],
    ["bb.extract.embedding", "bb.probe.numba_cache", "bb.probe.tables", "bb.probe.git_commit", "bb.probe.scores"],
    [
        "bb.extract.weights",
        "bb.extract.text",
        "bb.probe.tasks",
        "bb.probe.features",
        "bb.probe.int8_kernels",
        "bb.probe.search_kernels",
        "bb.probe.computed_runs",
    ],
    ["bb.extract.backbones", "bb.extract.data", "bb.probe.int8_bounds", "bb.probe.run_records", "bb.probe.statistics"],
    ["bb.extract.encoder", "bb.probe.classifiers"],
    ["bb.extract.pipeline", "bb.probe.run", "bb.probe.classification"],
    ["bb.extract.reproduce", "bb.extract.check_images", "bb.probe.report", "bb.probe.labelling"],
    ["bb.extract.scan_collection", "bb.extract.extract_options"],
    [
        "bb.extract.collection_images",
        "bb.extract.dry_run",
        "bb.extract.embed_texts",
        "bb.extract.extraction",
        "bb.probe.report.formats",
    ],
    ["bb.probe.retrieval"],
    ["bb.probe.retrieval.loggers"],
    ["bb.probe.heads"],
    ["bb.probe.retrieval.report"],
    [
        "bb.probe.classification.report.figures",
        "bb.probe.classification.report.confusion",
        "bb.probe.classification.report.findings",
    ],
    ["bb.probe.classification.comparisons.methods"],
    ["bb.probe.classification.report.page", "bb.probe.labelling.active_learning.sheet"],
    ["bb.extract.facade", "bb.probe.facade", "bb.probe.classification.facade"],
    ["bb.probe.bench", "bb.probe.text"],
    ["bb.extract", "bb.probe"],
    ["bb.console", "bb.here", "bb.plugins"],
    ["bb.settings"],
    ["bb.options"],
    ["bb.stores", "bb.labels", "bb.thumbnails", "bb.transfer"],
    ["bb.runs"],
    ["bb.texts", "bb.cluster", "bb.labeller"],
    ["bb.verbs"],
    ["bb.cli"],
    ["bb"],
    ["bb.__main__"],
]
STORE, EXTRACT, PROBE = "bb.store", "bb.extract", "bb.probe"
COMMAND_LINE = ("bb.cli", "bb.console", "bb.options", "bb.settings", "bb.texts", "bb.transfer", "bb.verbs")
TRAINING = ("bb.probe.classifiers.trained.torch_loops", "bb.probe.classifiers.trained.torch_attention")
# Heavy libraries, and those of the command line, and the only packages that may import them.
HOMES = {
    "torch": (EXTRACT, "bb.probe.heads", *TRAINING, "bb.cluster"),
    "torchvision": (EXTRACT,),
    "timm": (EXTRACT,),
    "open_clip": (EXTRACT,),
    "PIL": (EXTRACT, "bb.verbs.demo"),
    "simplejpeg": (EXTRACT,),
    "sklearn": (PROBE, "bb.verbs.demo"),
    "cuml": ("bb.probe.classifiers",),
    "tensorboard": ("bb.probe.retrieval.loggers",),
    "mlflow": ("bb.probe.retrieval.loggers",),
    "wandb": ("bb.probe.retrieval.loggers",),
    "jinja2": ("bb.probe.report.formats.templates",),
    "markupsafe": ("bb.probe.report.formats.templates",),
    "typer": COMMAND_LINE,
    "rich": (*COMMAND_LINE, "bb.probe.report.formats.terminal"),
    "starlette": ("bb.labeller",),
    "uvicorn": ("bb.labeller",),
    "ray": ("bb.cluster",),
    "submitit": ("bb.cluster",),
}


def strangers(module, source):
    """Heavy libraries that a module imports without being one of their homes."""
    libraries = {name.partition(".")[0] for name in imported(source, types=False)}
    return sorted(
        name
        for name, homes in sorted(HOMES.items())
        if name in libraries and not any(module == home or module.startswith(f"{home}.") for home in homes)
    )


def test_imports_go_down():
    assert upward(TREE.imports(), ORDER) == []


def test_extract_and_probe_do_not_import_each_other():
    for module, others in TREE.imports().items():
        for one, other in ((EXTRACT, PROBE), (PROBE, EXTRACT)):
            assert not module.startswith(one) or not [name for name in others if name.startswith(other)], module


def test_there_is_no_circle():
    assert circle(TREE.imports()) == []


def verbs_that_import_verbs(imports):
    """Modules of verbs, which import others of them."""
    return sorted(name for name, others in imports.items() for o in others if "bb.verbs." in name and "bb.verbs." in o)


def test_a_verb_imports_no_other_and_is_short():
    assert verbs_that_import_verbs(TREE.imports()) == []
    assert verbs_that_import_verbs({"bb.verbs.a": {"bb.verbs.store.b"}, "bb.c": {"bb.verbs.a"}}) == ["bb.verbs.a"]
    verbs = {name: path for name, path in TREE.modules().items() if name.startswith("bb.verbs.")}
    assert {name: n for name, path in verbs.items() if (n := len(path.read_text().splitlines())) > 200} == {}


def test_each_verb_has_a_module():
    modules = {name for name, path in TREE.modules().items() if name.startswith("bb.verbs.") and path.name[0] != "_"}
    assert modules == {".".join(filter(None, ("bb.verbs", group, verb))) for group in VERBS for verb in VERBS[group]}


def test_a_folder_is_small_enough_to_know():
    assert {folder: n for folder, n in TREE.folders().items() if n > 16} == {}


def test_a_library_has_one_home():
    found = {name: strangers(name, path.read_text()) for name, path in TREE.modules().items()}
    assert {name: libraries for name, libraries in found.items() if libraries} == {}


def borrowed(imports):
    """Modules that import a test file: what several need is in tests/helpers or tests/contracts."""
    names = {module: sorted(name for name in others if ".test_" in name) for module, others in imports.items()}
    return [f"{module} imports {name}" for module in sorted(names) for name in names[module]]


def test_no_test_file_is_imported():
    assert borrowed(Tree({ROOT / "tests": "tests"}).imports()) == []


def test_nothing_is_imported_past_the_root():
    """`store`, `extract`, `probe` are folders of the checkout; the packages are bb.store, bb.extract and bb.probe."""
    for path in [*TREE.modules().values(), *ROOT.glob("tests/**/*.py"), *ROOT.glob("scripts/*/*.py")]:
        assert not {"store", "extract", "probe"} & {name.partition(".")[0] for name in imported(path.read_text())}, path


@pytest.fixture
def planted(tmp_path):
    """A small tree; `plant(module, source)` adds to it."""

    def plant(module, source):
        path = tmp_path / "pkg" / (module.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        return Tree({tmp_path / "pkg": "pkg"})

    plant("low.a", "import numpy\n")
    plant("high.b", "from pkg.low.a import x\n")
    return plant


LEVELS = [["pkg.low", "pkg.beside"], ["pkg.high"]]


def test_an_import_upward_is_noticed(planted):
    assert upward(planted("low.c", "").imports(), LEVELS) == []
    assert upward(planted("low.c", "def f():\n    from pkg.high.b import y\n").imports(), LEVELS) == [
        "pkg.low.c imports pkg.high.b"
    ]


def test_an_import_sideways_is_noticed(planted):
    planted("beside.d", "")
    assert upward(planted("low.c", "from pkg.beside import d\n").imports(), LEVELS) == [
        "pkg.low.c imports pkg.beside.d"
    ]


def test_a_module_without_a_layer_is_noticed(planted):
    assert upward(planted("attic.e", "").imports(), LEVELS) == ["pkg.attic.e is in no layer"]


@pytest.mark.parametrize(
    "how", ["from pkg.high.b import y", "import pkg.high.b", "if TYPE_CHECKING:\n    from pkg.high import b"]
)
def test_a_circle_is_noticed(planted, how):
    assert circle(planted("low.c", "").imports()) == []
    assert circle(planted("low.a", how).imports()) == ["pkg.high.b", "pkg.low.a", "pkg.high.b"]


def test_a_full_folder_is_noticed(planted):
    for i in range(17):
        tree = planted(f"full.m{i}", "")
    assert 17 in tree.folders().values()


@pytest.mark.parametrize("how", ["from pkg.low.test_c import y", "def f():\n    import pkg.low.test_c"])
def test_a_test_file_that_is_imported_is_noticed(planted, how):
    planted("low.test_c", "import pkg.low.a\n")
    assert borrowed(planted("high.test_b", "").imports()) == []
    assert borrowed(planted("high.helpers", how).imports()) == ["pkg.high.helpers imports pkg.low.test_c"]


def test_a_library_away_from_home_is_noticed():
    assert strangers("bb.store.files.x", "def f():\n    import torch.nn") == ["torch"]
    assert strangers("bb.probe.run", "import torch, timm") == ["timm", "torch"]
    assert strangers("bb.probe.heads.train", "import torch, timm") == ["timm"]
    assert strangers("bb.probe.run", "if TYPE_CHECKING:\n    import torch") == []


TORCHLESS = [
    name
    for name in TREE.modules()
    if name.startswith((STORE, PROBE, "bb.cluster"))
    and not name.startswith(("bb.probe.heads", *TRAINING, "bb.cluster.extract_"))
]


def test_probing_and_stores_need_no_torch():
    """In a process where torch, timm, open_clip and Pillow can't be imported."""
    absent = "dict.fromkeys(('torch', 'torchvision', 'timm', 'open_clip', 'PIL', 'simplejpeg', 'safetensors'))"
    script = f"import sys; sys.modules.update({absent}); import bb, {', '.join(TORCHLESS)}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_images_are_checked_and_shown_without_torch(tmp_path):
    """`bb data check --decode`, and the thumbnails of a report, where only the extra `images` is installed."""
    from PIL import Image

    for i in range(2):
        Image.new("RGB", (40, 30), (90 * i, 0, 0)).save(tmp_path / f"{i}.jpg")
    absent = "dict.fromkeys(('torch', 'torchvision', 'timm', 'open_clip', 'safetensors'))"
    script = (
        f"import sys; sys.modules.update({absent}); import bb; "
        "from bb.extract.scan_collection import find_files, hash_images; "
        "from bb.thumbnails import thumbnails_of; from bb.store import Collection, Store; "
        f"from pathlib import Path; root = Path({str(tmp_path)!r}); "
        "store = Store.create(root / 's.bb'); scan = hash_images('p', find_files(root), read_only=True); "
        "store.put_collection(Collection.from_entries('p', scan.entries)); "
        "assert thumbnails_of(store, 'p', root, {'0.jpg'})['0.jpg'].width == 40; "
        f"sys.argv = ['bb', 'data', 'check', {f'p={tmp_path}'!r}, '--decode']; bb.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and "2 images" in done.stdout and "0 problems" in done.stdout, done.stderr


# What decides a feature imports nothing that could reach in from outside.
CLOSED = {"bb.store.errors", "jaxtyping", "numpy", "torch", "torchvision", "timm", "open_clip", "PIL", "pillow_heif",
          "simplejpeg", "safetensors"}  # fmt: skip


def reaching_in(source):
    """What a module of extract/embedding imports beside its neighbours, the standard library and CLOSED."""
    allowed = CLOSED | set(sys.stdlib_module_names) | {"bb.extract.embedding"}
    return sorted(
        name for name in imported(source) if not any(name == each or name.startswith(f"{each}.") for each in allowed)
    )


def test_what_decides_a_feature_is_closed():
    found = {
        path.name: reaching_in(path.read_text())
        for path in (ROOT / "extract" / "embedding").iterdir()
        if path.suffix == ".py"
    }
    assert len(found) > 10 and {name: names for name, names in found.items() if names} == {}


def test_what_reaches_in_is_noticed():
    assert (
        reaching_in("import timm.data\nfrom bb.extract.embedding import view\nfrom bb.store.errors import BBError")
        == []
    )
    assert "bb.store" in reaching_in("from bb.store import BBError")
    assert "bb.extract.backbones.name" in reaching_in(
        "def f():\n    from bb.extract.backbones.name import BackboneName"
    )
    assert reaching_in("import requests") == ["requests"]
