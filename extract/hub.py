"""The Hugging Face hub: what a download takes, where it goes, and what to try where it fails.

The downloads themselves go through open_clip's and timm's own functions, and so through huggingface_hub,
which honours HF_HOME, HF_HUB_OFFLINE, HF_TOKEN and the proxy variables.
"""

import contextlib
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path

from extract.name import HUB, BackboneName
from store.errors import BBError

# In the order in which the libraries look for them.
_FILES = {
    "open_clip": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    "timm": ("model.safetensors", "pytorch_model.bin"),
}


@contextlib.contextmanager
def downloading(name: BackboneName) -> Iterator[None]:
    """Turn what goes wrong on the way to a hub's file into a BBError that says what to try."""
    try:
        yield
    except BBError:
        raise
    except Exception as error:
        if not _is_of_the_network(error):
            raise
        reason = textwrap.shorten(str(error), 300, placeholder=" …")
        remedy = f"{_remedy(reason, name)}, or fetch the weights elsewhere and write {_with_path(name)}"
        raise BBError(f"{name} could not be downloaded. {remedy}. ({type(error).__name__}: {reason})") from error


def cache_folder(name: BackboneName | None = None) -> Path:
    """Where downloads go: the hub's cache, or torch's for the few weights that timm has from elsewhere."""
    if name is not None and name.org == "timm" and _location(name) is None:
        import torch.hub

        return Path(torch.hub.get_dir()) / "checkpoints"
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def download_bytes(name: BackboneName) -> int | None:
    """Bytes that building a backbone will download: 0 where nothing, None where the hub can't be asked."""
    import huggingface_hub as hub

    if name.untrained or name.path is not None:
        return 0
    location = _location(name)
    if location is None:
        return None
    repository, revision, files = location
    for file in files:
        if isinstance(hub.try_to_load_from_cache(repository, file, revision=revision), str):
            return 0
    for file in files:
        with contextlib.suppress(Exception):  # offline, or no such file: an estimate must not stop anybody
            return hub.get_hf_file_metadata(hub.hf_hub_url(repository, file, revision=revision), timeout=5).size
    return None


def _location(name: BackboneName) -> tuple[str, str | None, tuple[str, ...]] | None:
    """(repository, revision, names its file of weights may have) of pretrained weights; None if not on the
    hub."""
    files: tuple[str, ...] = _FILES[name.org]
    if name.on_hub:
        repository, _, revision = name.architecture.removeprefix(HUB).partition("@")
        return repository, revision or None, files
    if name.org == "open_clip":
        import open_clip

        path = open_clip.get_pretrained_cfg(name.architecture, name.tag or "").get("hf_hub", "")
        repository, _, file = path.rpartition("/")
    else:
        import timm

        registered = name.architecture if name.tag is None else f"{name.architecture}.{name.tag}"
        try:
            config = timm.get_pretrained_cfg(registered)
        except RuntimeError:  # a name that timm does not have: building it says what to do
            config = None
        repository, file = (config.hf_hub_id or "", config.hf_hub_filename or "") if config else ("", "")
    if file:
        files = (str(Path(file).with_suffix(".safetensors")), file)
    return (repository, None, files) if repository else None


def _is_of_the_network(error: BaseException | None) -> bool:
    """OSError covers sockets, TLS, requests and most of the hub's errors; httpx has a tree of its own."""
    while error is not None:
        library = type(error).__module__.partition(".")[0]
        if isinstance(error, OSError) or library in ("httpx", "huggingface_hub"):
            return True
        error = error.__cause__
    return False


def _remedy(reason: str, name: BackboneName) -> str:
    lower = reason.lower()
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return f"HF_HUB_OFFLINE is set, but {cache_folder()} lacks it: unset it, or set HF_HOME"
    if "certificate" in lower or "ssl" in lower:
        return "The certificate is not trusted: set SSL_CERT_FILE and REQUESTS_CA_BUNDLE"
    if any(sign in lower for sign in ("401", "403", "404", "gated", "repository not found")):
        return "Its repository is missing or private: check the name, run `hf auth login` or set HF_TOKEN"
    return "Connect to the internet, set HTTPS_PROXY, copy a filled HF_HOME here and set HF_HUB_OFFLINE=1"


def _with_path(name: BackboneName) -> str:
    return f"{name.org}:ARCH@PATH" if name.on_hub else f"{name}@PATH"
