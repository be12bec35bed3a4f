"""Archives from elsewhere: downloaded with resuming, checked against a known md5, unpacked without trust."""

import errno
import fcntl
import gzip
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from os.path import lexists
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request

from bb.store.errors import BBError
from bb.store.storage.retry import RetryPolicy, TooSlow
from bb.store.storage.tar_reader import DamagedTar, Stream, TarMember, tar_members
from bb.store.storage.web_client import opener

Progress = Callable[[int, int | None], None]

CHUNK = 1 << 20
PASSING = {408, 429, 500, 502, 503, 504}
UNREACHED = {errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH}
LONGEST_PAUSE = 60.0  # seconds

# Photographs hardly compress, a table of text may shrink twentyfold; more than that is an attack.
MAX_GROWTH = 20
ALWAYS_ALLOWED = 1 << 30  # bytes
MAX_MEMBERS = 500_000
MAX_DEPTH = 64


@dataclass(frozen=True)
class Archive:
    """A file at a URL that never changes: `md5` in hex, and its exact size in `bytes` where that is known."""

    url: str
    md5: str
    bytes: int | None = None

    @property
    def name(self) -> str:
        return PurePosixPath(urlsplit(self.url).path).name


def download(
    archive: Archive,
    folder: Path,
    *,
    progress: Progress | None = None,
    tries: int = 5,
    timeout: float = 8.0,
    pause: Callable[[float], None] = time.sleep,
) -> Path:
    """Have `archive` in `folder`, whole and checked, and return its path.

    What arrives is kept as NAME.part until its md5 is right, so a cut connection or a killed process costs
    nothing that has come. A complete NAME is not fetched again; one with another md5 is replaced in the end.
    `progress` gets the bytes received and the bytes in all (None if unknown). A passing fault is tried again after
    a `pause`, until `tries` attempts in a row got no further; `timeout` bounds a silence, in seconds. Proxy
    variables and SSL_CERT_FILE are honoured. Raises BBError for all that a person can fix.
    """
    path, part = folder / archive.name, folder / f"{archive.name}.part"
    with _on_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and _md5(path) == archive.md5:
            return path
        file = FileIO(part, "ab")  # unbuffered: a killed process leaves all that it was sent
    with file:
        _lock(file.fileno(), part)
        most, reached, failures = file.seek(0, os.SEEK_END), False, 0
        while True:
            try:
                _attempt(archive, file, folder, timeout, progress or (lambda done, total: None))
                break
            except (OSError, http.client.HTTPException) as error:  # the network's: _on_disk takes the disk's
                have = file.seek(0, os.SEEK_END)
                reason = getattr(error, "reason", None)  # urllib wraps some faults, not all
                cause = reason if isinstance(reason, Exception) else error
                failures = 0 if have > most and not isinstance(cause, TooSlow) else failures + 1
                reached, most = reached or have > most, max(have, most)
                if failures >= tries or not _is_passing(error, cause, reached):
                    raise BBError(f"{archive.url}: {_explain(cause, folder, failures)}") from error
                pause(min(2.0**failures, LONGEST_PAUSE))
        with _on_disk(part):
            if (found := _md5(part)) != archive.md5:
                part.unlink()
                raise BBError(
                    f"{archive.url}: what came has md5 {found}, but {archive.md5} is expected. It was "
                    "removed; run again. If it comes out the same, a proxy alters it or the publisher has "
                    "changed it."
                )
            os.fsync(file.fileno())
            os.replace(part, path)
    return path


def _attempt(archive: Archive, file: FileIO, folder: Path, timeout: float, progress: Progress) -> None:
    """One request that appends what is missing from `file`, or all of it if the server knows no ranges (RFC 9110, 14).

    No If-Range: the md5 names the content, so a file that changed in between is found out in any case.
    """
    have = file.seek(0, os.SEEK_END)
    if archive.bytes is not None and have > archive.bytes:
        have = file.truncate(0)
    if have == archive.bytes:
        return
    headers = {"User-Agent": "bb"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = opener(RetryPolicy(silence=timeout)).open(Request(archive.url, headers=headers), timeout=timeout)
    except HTTPError as error:
        if error.code != 416 or not have:
            raise
        if error.headers["Content-Range"] == f"bytes */{have}":
            return
        file.truncate(0)
        raise ConnectionError("the server has less than what was here, which is dropped") from error
    with response:
        total: int | None = response.length  # of this body; None where the server doesn't say
        if response.status == 206:
            sent = re.fullmatch(r"bytes (\d{1,18})-\d+/(\d{1,18})", response.headers["Content-Range"] or "")
            if sent is None or int(sent[1]) != have:
                file.truncate(0)
                raise ConnectionError("the server sent another range than asked")
            total = int(sent[2])
        if archive.bytes is not None and total not in (None, archive.bytes):
            raise BBError(
                f"{archive.url}: the server sends {total:,} bytes, but {archive.bytes:,} are expected. "
                f"A proxy's login page may stand between, or the publisher has changed it. {_by_hand(folder)}"
            )
        if response.status != 206:
            have = file.truncate(0)
        total = archive.bytes if total is None else total
        _check_room(folder, archive.url, (total or have) - have)
        progress(have, total)
        while chunk := response.read1(CHUNK):
            if total is not None and have > total:
                break
            with _on_disk(folder):
                _write(file, chunk)
            have += len(chunk)
            progress(have, total)
    if total is not None and have < total:  # http.client takes an early end for the end
        raise ConnectionError(f"cut off after {have:,} of {total:,} bytes")


def _is_passing(error: Exception, cause: Exception, reached: bool) -> bool:
    if isinstance(cause, HTTPError):
        return cause.code in PASSING
    unanswered = isinstance(error, URLError) and isinstance(cause, TimeoutError)  # urllib wraps what connecting raises
    if unanswered or isinstance(cause, socket.gaierror) or getattr(cause, "errno", None) in UNREACHED:
        return reached  # a line that dropped comes back; one that was never there is reported at once
    return not isinstance(cause, ssl.SSLCertVerificationError)


def _explain(cause: Exception, folder: Path, failures: int) -> str:
    times = f", {failures} times in a row" if failures > 1 else ""
    match cause:
        case HTTPError() if cause.code in PASSING:
            fault = f"the server answers {_status(cause)}{times}. Run again later; what has come is kept."
        case HTTPError():
            fault = f"the server answers {_status(cause)}. It may have moved, or a proxy may forbid it."
        case socket.gaierror():
            fault = (
                f"no address is found for it ({cause.strerror}), so this machine seems to be offline. Behind "
                "a proxy, set HTTPS_PROXY, and see that it is spelt right."
            )
        case ssl.SSLError():
            detail = getattr(cause, "verify_message", cause.reason)
            fault = (
                f"no trusted TLS connection ({detail}). If a proxy re-signs connections, set SSL_CERT_FILE "
                "to a PEM file with its root certificate."
            )
        case _:
            fault = (
                f"the connection failed{times} ({str(cause) or type(cause).__name__}). Run again; what has "
                "come is kept. Behind a proxy, set HTTPS_PROXY."
            )
    return f"{fault} {_by_hand(folder)}"


def _status(error: HTTPError) -> str:
    return f"{error.code} {http.client.responses.get(error.code, '')}".rstrip()  # not the server's own words


def _by_hand(folder: Path) -> str:
    return f"Or download that URL by hand into {folder} and run again."


def unpack(archive: Path, folder: Path, *, progress: Progress | None = None) -> list[str]:
    """Unpack a tar.gz into `folder` and return the names of its top-level entries.

    Nothing in the archive is trusted: plain files and folders only, inside `folder`, over nothing that is
    there, with the umask's modes, bounded in number and size. All goes to .NAME.unpacking first; once that is
    whole, .NAME.unpacked lists its entries, and they are renamed into place. From the list a later call knows
    what is done (and does nothing) or was killed half-way (and goes on); an entry that has gone is unpacked
    anew. `progress` gets the number of the archive's bytes read. Raises BBError that names each refused member,
    or says what ails the archive or the disk.
    """
    marker, staging = _marker(archive, folder), folder / f".{archive.name}.unpacking"
    if is_unpacked(archive, folder):
        return _listed(marker)
    with _on_disk(archive, "read"):
        raw = archive.open("rb")
    with raw:
        _lock(raw.fileno(), archive)
        names = _listed(marker)
        if not names or not all(lexists(staging / name) or lexists(folder / name) for name in names):
            try:
                names = _unpack_aside(archive, raw, staging, progress or (lambda done, total: None))
            except BaseException:
                shutil.rmtree(staging, ignore_errors=True)
                raise
            with _on_disk(marker):
                marker.write_text(json.dumps(names))
        with _on_disk(folder):
            for name in names:
                if lexists(staging / name):
                    os.rename(staging / name, folder / name)
        shutil.rmtree(staging, ignore_errors=True)
    return names


def is_unpacked(archive: Path, folder: Path) -> bool:
    """Whether `unpack` has finished here and every entry is still there; the archive itself may be gone."""
    names = _listed(_marker(archive, folder))
    return bool(names) and all(lexists(folder / name) for name in names)


def _marker(archive: Path, folder: Path) -> Path:
    return folder / f".{archive.name}.unpacked"


def _listed(marker: Path) -> list[str]:
    try:
        return list(json.loads(marker.read_text()))
    except (OSError, ValueError):  # none, or one cut short
        return []


def _unpack_aside(archive: Path, raw: IO[bytes], staging: Path, progress: Progress) -> list[str]:
    size = os.fstat(raw.fileno()).st_size
    limit = max(ALWAYS_ALLOWED, MAX_GROWTH * size)
    names: dict[str, None] = {}  # in order, and quick to ask
    refused: list[str] = []
    with _on_disk(staging):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    _check_room(staging.parent, archive, size)
    try:
        stream = Stream(_bounded(gzip.GzipFile(fileobj=raw), limit))
        for number, member in enumerate(tar_members(stream)):
            shown = repr(member.name[:200])
            if number >= MAX_MEMBERS or member.size > limit - member.offset:
                raise DamagedTar(f"{shown} goes beyond {limit:,} bytes or {MAX_MEMBERS:,} members")
            parts = [part for part in member.name.split("/") if part not in ("", ".")]
            target = staging.joinpath(*parts)
            if fault := _fault(member, target):
                refused.append(f"{shown} ({fault})")
            elif parts and not refused:
                if parts[0] not in names:
                    _check_free(staging.with_name(parts[0]), _marker(archive, staging.parent))
                    names[parts[0]] = None
                _write_member(stream, member, target)
            progress(raw.tell(), size)
    except (DamagedTar, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BBError(f"{archive}: no sound tar.gz ({error}). Remove it, and download it again.") from error
    if refused or not names:
        more = f" and {len(refused) - 10:,} more" if len(refused) > 10 else ""
        raise BBError(
            f"{archive}: nothing was unpacked, since it holds {', '.join(refused[:10]) or 'nothing'}{more}. "
            "Such an archive isn't to be trusted: remove it, and get it from its publisher."
        )
    return list(names)


def _fault(member: TarMember, target: Path) -> str | None:
    parts = member.name.split("/")
    if member.name.startswith("/"):
        return "an absolute path"
    if ".." in parts:
        return "a path that leads outside"
    if member.kind in ("link", "hard link"):
        return "a link"
    if member.kind not in ("file", "folder"):
        return "neither a plain file nor a folder"
    if "\0" in member.name or len(parts) > MAX_DEPTH:
        return "no name for a file"
    return "a second file of that name" if member.kind == "file" and lexists(target) else None


def _write_member(stream: Stream, member: TarMember, target: Path) -> None:
    is_folder = member.kind == "folder"
    with _on_disk(target):
        (target if is_folder else target.parent).mkdir(parents=True, exist_ok=True)
        if is_folder:
            return
        file = FileIO(target, "xb")
    with file:
        while chunk := stream.read(min(CHUNK, member.offset + member.size - stream.position)):
            with _on_disk(target):
                _write(file, chunk)
    if stream.position < member.offset + member.size:
        raise DamagedTar(f"is cut short in {member.name[:200]!r}")


def _bounded(file: gzip.GzipFile, most: int) -> Iterator[bytes]:
    """What is in a file, in pieces. Raises DamagedTar where it goes on behind `most` bytes."""
    while file.tell() <= most:
        if not (piece := file.read(CHUNK)):
            return
        yield piece
    raise DamagedTar(f"goes beyond {most:,} bytes")


def _check_free(path: Path, marker: Path) -> None:
    if lexists(path) or path == marker:
        raise BBError(
            f"{path}: something is there already that bb didn't unpack, or not wholly. If you know it to be "
            "whole, use it as it is; otherwise move it away and run again."
        )


def _check_room(folder: Path, what: str | Path, needed: int) -> None:
    if needed > (free := shutil.disk_usage(folder).free):
        raise BBError(
            f"{folder}: {what} needs {needed:,} bytes here, and {free:,} are free. "
            "Make room or choose another folder, and run again."
        )


@contextmanager
def _on_disk(path: Path, verb: str = "written") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            fault = "the disk or your quota is full. Make room or choose another folder, and run again."
        else:
            fault = f"can't be {verb} ({error.strerror or error}). Fix this, or choose another folder."
        raise BBError(f"{path}: {fault}") from error


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BBError(f"{path}: another process is at work on it. Wait for it, and run again.") from None
    except OSError:
        pass  # a file system without locks; the md5 still tells


def _write(file: FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
