"""The Hugging Face hub: downloads of weights, what they take, where they go, and what to try where they fail.

huggingface_hub does the work, and honours HF_HOME, HF_HUB_OFFLINE, HF_TOKEN and the proxy variables.
"""

import contextlib
import errno
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request

from bb.extract.backbones.name import HUB, BackboneName
from bb.extract.weights.checkpoint import read_checkpoint
from bb.store.errors import BBError
from bb.store.storage.retry import RetryPolicy
from bb.store.storage.web_client import opener

# In the order in which the libraries look for them.
_FILES = {
    "open_clip": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    "timm": ("model.safetensors", "pytorch_model.bin"),
}
_CONFIGS = {"open_clip": "open_clip_config.json", "timm": "config.json"}
_TIMEOUT = 5.0  # seconds of silence after which there is no connection
# Options of the libraries that bb does not have; a reason that advises them is not passed on.
_FOREIGN = re.compile(r"weights_only|pretrained=|cache_dir|force_download|local_files_only|local_dir|trust_remote_code")


def fetch(name: BackboneName, config: bool = False) -> Path | None:
    """The file of pretrained weights, downloaded if the cache does not have it; None where it is not on the hub.

    config: the library's description of the network instead; only repositories named by hf-hub: are asked for it

    Raises BBError, saying what to do, where it can't be had.
    """
    if (location := _location(name)) is None:
        _check_server(name)
        return None
    repository, revision, files = location
    return _fetch(name, repository, revision, (_CONFIGS[name.org],) if config else files)


def _fetch(name: BackboneName, repository: str, revision: str | None, files: Sequence[str]) -> Path:
    from huggingface_hub import errors

    missing: Exception | None = None
    for file in files:
        try:
            return _fetch_file(repository, revision, file)
        except errors.EntryNotFoundError as error:
            missing = missing or error
        except Exception as error:
            raise _failure(name, error, files) from error
    assert missing is not None
    raise _failure(name, missing, files) from missing


def _fetch_file(repository: str, revision: str | None, file: str) -> Path:
    import huggingface_hub as hub

    if not _is_cached(repository, file, revision) and not hub.constants.is_offline_mode():
        # Asked once: a download would retry for most of a minute before it says that there is no connection.
        url = hub.hf_hub_url(repository, file, revision=revision)
        hub.get_hf_file_metadata(url, timeout=_TIMEOUT)
    return Path(hub.hf_hub_download(repository, file, revision=revision, etag_timeout=_TIMEOUT))


def fetch_tokenizer(name: BackboneName, repository: str, files: Sequence[str]) -> Path:
    """The folder of a tokenizer's files, downloaded where the cache does not have them. Errors: BBError."""
    try:
        (folder,) = {_fetch_file(repository, None, file).parent for file in files}
        return folder
    except Exception as error:
        raise BBError(
            f"the tokenizer {repository} of {name} could not be downloaded ({_reason(error)}). Try again with a "
            f"connection, or put {' and '.join(files)} of that repository next to the weights and write "
            f"{_with_path(name)}"
        ) from error


def _check_server(name: BackboneName) -> None:
    """Weights that are not on the hub: timm and open_clip would wait without limit for a server that is silent."""
    url = str(_pretrained_config(name).get("url") or "")
    if not url or (cache_folder(name) / url.rpartition("/")[2]).exists():
        return
    try:
        opener(RetryPolicy(silence=_TIMEOUT)).open(Request(url, method="HEAD"), timeout=_TIMEOUT).close()
    except HTTPError:
        pass  # it answers; what it says to the download is what counts
    except OSError as error:
        raise _failure(name, error) from error


def _is_cached(repository: str, file: str, revision: str | None) -> bool:
    import huggingface_hub as hub

    return isinstance(hub.try_to_load_from_cache(repository, file, revision=revision), str)


@contextlib.contextmanager
def cache_only() -> Iterator[None]:
    """timm takes what `fetch` has brought, and asks the hub for nothing else."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextlib.contextmanager
def downloading(name: BackboneName) -> Iterator[None]:
    """Turn what goes wrong on the way to a file into a BBError that says what to try."""
    try:
        yield
    except BBError:
        raise
    except Exception as error:
        if not _is_of_the_network(error):
            raise
        raise _failure(name, error) from error


@contextlib.contextmanager
def reading(name: BackboneName, file: Path | None) -> Iterator[None]:
    """Turn whatever a library raises over downloaded files that it can't use into a BBError."""
    try:
        try:
            yield
        except BBError:
            raise
        except Exception:
            if file is not None:
                read_checkpoint(file)  # names what is wrong with the file itself
            raise
    except BBError as error:
        if file is None:
            raise
        raise BBError(f"{name}: {error}. It was downloaded: to download it again, delete that file first") from error
    except Exception as error:
        what = f"the weights in {file}" if file else "its weights"
        raise BBError(
            f"{name}: {name.org} can't load {what} ({_reason(error)}). Delete them to download them again, "
            f"or get the weights elsewhere and write {_with_path(name)}"
        ) from error


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
    config = _pretrained_config(name)
    if name.org == "open_clip":
        repository, _, file = config.get("hf_hub", "").rpartition("/")
    else:
        repository, file = config.get("hf_hub_id") or "", config.get("hf_hub_filename") or ""
    if file:
        files = (str(Path(file).with_suffix(".safetensors")), file)
    return (repository, None, files) if repository else None


def _pretrained_config(name: BackboneName) -> dict[str, Any]:
    """What the library says of a tag's weights; empty for a name that it does not have: building it says what to do."""
    if name.org == "open_clip":
        import open_clip

        return open_clip.get_pretrained_cfg(name.architecture, name.tag or "")
    import timm

    try:
        config = timm.get_pretrained_cfg(name.architecture if name.tag is None else f"{name.architecture}.{name.tag}")
    except RuntimeError:
        return {}
    return config.to_dict() if config else {}


def _failure(name: BackboneName, error: Exception, files: Sequence[str] = ()) -> BBError:
    remedy = _remedy(name, error, files)
    return BBError(
        f"{name} could not be downloaded. {remedy}, or get the weights elsewhere and write {_with_path(name)} "
        f"({_reason(error)})"
    )


def _is_of_the_network(error: BaseException | None) -> bool:
    """OSError covers sockets, TLS, requests and most of the hub's errors; httpx has a tree of its own."""
    while error is not None:
        library = type(error).__module__.partition(".")[0]
        if isinstance(error, OSError) or library in ("httpx", "httpx2", "huggingface_hub"):
            return True
        error = error.__cause__
    return False


def _reason(error: BaseException) -> str:
    """Kind and first line of an error, without advice that only another program can take."""
    kind = type(error).__name__
    response = getattr(error, "response", None)
    if response is not None:
        return f"{kind}: HTTP {response.status_code} from {response.url.host}"
    text = textwrap.shorten(str(error), 300, placeholder=" …")
    return kind if not text or _FOREIGN.search(str(error)) else f"{kind}: {text}"


def _remedy(name: BackboneName, error: Exception, files: Sequence[str]) -> str:
    """What to try, judged by the type of what huggingface_hub raised."""
    from huggingface_hub import constants, errors

    repository, revision, _ = _location(name) or ("", None, ())
    token = "run `hf auth login` or set HF_TOKEN"
    status = getattr(getattr(error, "response", None), "status_code", None)
    lower = str(error).lower()
    if constants.is_offline_mode():
        return f"HF_HUB_OFFLINE is set, but {cache_folder()} does not have it: unset it, or set HF_HOME"
    if isinstance(error, errors.GatedRepoError):
        return f"Its repository {repository} is gated: accept its terms on huggingface.co/{repository}, then {token}"
    if isinstance(error, errors.DisabledRepoError):
        return f"Its repository {repository} is disabled on the hub"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"Its repository {repository} has no revision '{revision}': name another after the @, or leave it out"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"Its repository {repository} is missing or private: check the name; for a private one {token}"
    if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
        other = "open_clip" if name.org == "timm" else "timm"
        else_ = f": if it is a model of {other}, write {other}:{name.architecture}" if name.on_hub else ""
        return f"Its repository {repository} has no {' or '.join(files)}, so it is not a model of {name.org}{else_}"
    if status in (401, 403):
        return f"The hub refuses access to {repository}: {token}"
    if status is not None:
        return f"The hub answered {status}: try again later" if status >= 429 else f"The hub answered {status}"
    if "certificate" in lower or "ssl" in lower:
        return "The certificate is not trusted: set SSL_CERT_FILE and REQUESTS_CA_BUNDLE"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return f"The cache {cache_folder(name)} can't be written: set HF_HOME to a folder that can"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The cache {cache_folder(name)} is full: make room, or set HF_HOME to another folder"
    return "Connect to the internet, set HTTPS_PROXY, copy a filled HF_HOME here and set HF_HUB_OFFLINE=1"


def _with_path(name: BackboneName) -> str:
    return f"{name.org}:ARCH@PATH" if name.on_hub else f"{name}@PATH"
