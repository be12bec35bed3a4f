"""`bb doctor`: show versions, devices, store and caches, and what is missing."""

import importlib.util
import os
import platform
from pathlib import Path

from bb import stores
from bb.console import show_json, show_table
from bb.options import DEFAULT_STORE, JsonOption, StoreOption
from bb.plugins import plugin_facts
from bb.probe.classifiers.cuml import missing as cuml_missing
from bb.settings import settings_files
from bb.store.files.cache_folder import cache_folder
from bb.store.files.filesystem import filesystem_of, free_bytes
from bb.store.storage.url import is_url
from bb.store.text.size import size_text
from bb.store.versions import installed


def verb(store: StoreOption = DEFAULT_STORE, json_: JsonOption = False) -> None:
    facts: dict[str, str] = {"python": f"{platform.python_version()} on {platform.platform()}"}
    for name in (
        "backbone-bench",
        "numpy",
        "polars",
        "scikit-learn",
        "zarr",
        "torch",
        "torchvision",
        "timm",
        "open_clip_torch",
    ):
        facts[name] = installed(name) or "not installed"
    missing = [name for name in stores.NEEDED_TO_EXTRACT if importlib.util.find_spec(name) is None]
    if missing:
        facts["bb extract"] = f"needs {', '.join(missing)}: pip install 'backbone-bench[extract]'"
    else:
        from bb.extract.backbones.decoders import usable
        from bb.extract.backbones.device import Numerics
        from bb.extract.backbones.hub import cache_folder as weights_folder

        here = Numerics.resolve()
        facts["bb extract"] = f"would use {here.device_name()}"
        decoders = usable(here.device)
        facts["decoders"] = ", ".join(name for name, reason in decoders.items() if not reason) or "none"
        facts |= {f"decoder {name}": reason for name, reason in decoders.items() if reason}
        facts["weights"] = f"{weights_folder()}, {size_text(free_bytes(weights_folder()))} free"
    facts["--backend cuml"] = cuml_missing() or "can be used"
    if is_url(store):
        facts["store"] = f"{store}, read in place through {cache_folder() / 'stores'}"
    else:
        there = (Path(store) / "zarr.json").exists()
        facts["store"] = f"{store}, {'there' if there else 'not made yet'}, {size_text(free_bytes(Path(store)))} free"
        kind = filesystem_of(Path(store))
        description = kind.name + (f": {kind.caution}" if kind.caution else "") if kind else "unknown"
        facts["file system of the store"] = description
    facts |= plugin_facts()
    facts["hashes of files"] = str(cache_folder() / "hashes.sqlite")
    facts["settings"] = ", ".join(map(str, settings_files())) or "no bb.toml"
    for name in ("HF_HOME", "HF_HUB_OFFLINE", "HTTPS_PROXY", "SSL_CERT_FILE", "BB_STORE", "BB_DATA"):
        if os.environ.get(name):
            facts[name] = os.environ[name]
    if json_:
        show_json(facts)
    else:
        show_table(["", ""], list(facts.items()))
