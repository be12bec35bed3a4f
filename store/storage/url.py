"""Where a store is, as a person writes it, parsed once into a place."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bb.store.errors import UsageError
from bb.store.plugins import Registry
from bb.store.storage.base import Storage
from bb.store.storage.local import Folder

FORMS = {
    "s3": "s3://BUCKET[/FOLDER]",
    "gs": "gs://BUCKET[/FOLDER]",
    "az": "az://CONTAINER[/FOLDER]",
    "http": "http://HOST/FOLDER",
    "https": "https://HOST/FOLDER",
    "hf": "hf://datasets/OWNER/NAME[@REVISION][/FOLDER]",
    "file": "file:///FOLDER",
}
# By scheme: each makes a place of a scheme and of what follows `://`.
_OPENERS = {
    **dict.fromkeys(("s3", "gs", "az"), "open_bucket"),
    **dict.fromkeys(("http", "https"), "open_web"),
    "hf": "open_hub",
    "file": "open_file",
}
STORAGE: Registry[Callable[[str, str], Storage]] = Registry(
    "bb.storage", "kind of storage", {scheme: f"bb.store.storage.url:{opener}" for scheme, opener in _OPENERS.items()}
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ALMOST = re.compile(
    r"(s3|gs|gcs|az|abfss?|adl|wasbs?|r2|hf|https?|file|ftps?|sftp|ssh|webdavs?):(?!//)[/\\]*|(s3|gs|az|hf|https?)//+",
    re.I,
)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,220}")
_STEP = re.compile(r"(?!\.\.?$)[A-Za-z0-9._=+@ -]{1,255}")


def is_url(text: str | os.PathLike[str]) -> bool:
    """Whether it names a scheme, so that it is not a plain path; `file://` counts as a plain path."""
    found = _SCHEME.match(str(text))
    return found is not None and found[1].lower() != "file"


def check_slip(text: str | os.PathLike[str]) -> None:
    """Raises UsageError for what is nearly a URL, such as `s3:/BUCKET`, which would be a local folder."""
    text = str(text)
    if slip := _ALMOST.match(text):
        scheme = (slip[1] or slip[2]).lower()
        meant = f"{scheme}://{'/' if scheme == 'file' else ''}{text[slip.end() :]}"
        raise UsageError(
            f"{text!r} is neither a URL nor a plain path: write {meant!r}, or, for a folder of that name, its whole "
            f"path, {os.path.abspath(text)!r}."
        )


def open_place(text: str | os.PathLike[str]) -> Storage:
    """The place that a URL or a path names. Asks nobody yet, save that a scheme's package must be installed.

    Raises UsageError for what is not such a URL, for one with a password in it, and where the extra is missing.
    """
    text = str(text)
    check_slip(text)
    found = _SCHEME.match(text)
    if not found:
        return Folder(Path(text).expanduser())
    scheme, rest = found[1].lower(), text[found.end() :]
    if scheme not in STORAGE:
        known = ", ".join(FORMS.get(known, f"{known}://…") for known in STORAGE.names())
        raise UsageError(f"no store can be at {scheme}://: give a folder, or {known}.")
    if scheme != "hf" and "@" in rest.partition("/")[0]:
        raise UsageError(
            f"a {scheme}:// URL with a user or password in it is not taken, since URLs are shown and logged: "
            f"credentials come from the environment, see docs/sharing.md."
        )
    if "?" in rest or "#" in rest:
        raise UsageError(f"a {scheme}:// URL of a store has neither ? nor #: {FORMS.get(scheme, f'{scheme}://…')}.")
    return STORAGE.load(scheme)(scheme, rest)


def open_file(scheme: str, rest: str) -> Storage:
    if not rest.startswith("/"):
        raise UsageError(f"{scheme}://{rest} names a host: write {FORMS['file']}, or a plain path.")
    return Folder(Path(unquote(rest)))


def open_bucket(scheme: str, rest: str) -> Storage:
    from bb.store.storage.object_store import Bucket

    name, _, folder = rest.partition("/")
    if not _BUCKET.fullmatch(name):
        raise UsageError(f"{scheme}://{rest} names no bucket: {FORMS[scheme]}.")
    return Bucket.open(scheme, name, _steps(scheme, rest, folder))


def open_web(scheme: str, rest: str) -> Storage:
    from bb.store.storage.http import Web

    host, _, folder = rest.partition("/")
    try:
        parts = urlsplit(f"{scheme}://{host}")
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"{scheme}://{rest} names no host: {FORMS[scheme]}.")
    return Web.open(f"{scheme}://{host}/{folder}".rstrip("/"))


def open_hub(scheme: str, rest: str) -> Storage:
    from bb.store.storage.huggingface import Hub

    steps = rest.strip("/").split("/")
    if len(steps) < 3 or steps[0] != "datasets":
        raise UsageError(f"hf://{rest} names no data set: {FORMS['hf']}.")
    name, _, revision = steps[2].partition("@")
    # A branch may have slashes in its name; the Hub's own URLs write them as %2F.
    owner, revision = steps[1], unquote(revision)
    if not all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", word) for word in (owner, name)):
        raise UsageError(f"hf://{rest} names no data set: {FORMS['hf']}.")
    return Hub.open(f"{owner}/{name}", revision or "main", _steps(scheme, rest, "/".join(steps[3:])))


def _steps(scheme: str, rest: str, folder: str) -> str:
    """The folder without slashes around it. Raises UsageError where a step could lead elsewhere."""
    steps = folder.strip("/").split("/") if folder.strip("/") else []
    for step in steps:
        if not _STEP.fullmatch(step):
            raise UsageError(
                f"{scheme}://{rest} has the folder {step!r}: use letters, digits, spaces and . _ - = + @ in its name."
            )
    return "/".join(steps)
