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
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import IO, cast
from urllib.parse import urlsplit

from store.errors import BBError

Progress = Callable[[int, int | None], None]

CHUNK = 1 << 20
PASSING = {408, 429, 500, 502, 503, 504}
UNREACHED = {errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH}
LONGEST_PAUSE = 60.0  # seconds

# NeWT's 36,000 photographs hardly compress; a table of text may shrink twentyfold. Beyond that lies mischief.
MAX_MEMBERS = 500_000
MAX_GROWTH = 20
ALWAYS_ALLOWED = 1 << 30  # bytes
MAX_DEPTH = 64
MAX_READ = CHUNK  # also bounds a tar header, which tarfile would otherwise read whole whatever size it claims


@dataclass(frozen=True)
class Archive:
    """A file at a URL that never changes: `md5` in hex, and its exact size in `bytes` where it is known."""

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
    timeout: float = 60.0,
    pause: Callable[[float], None] = time.sleep,
) -> Path:
    """Have `archive` in `folder`, whole and checked, and return its path.

    What arrives is kept as NAME.part until its md5 is right, so a cut connection or a killed process costs
    nothing that has come; a complete NAME is not fetched again, one with another md5 is replaced in the end.
    `progress` is told bytes there and bytes in all (None if unknown). A passing fault is tried again after
    `pause`, until `tries` attempts in a row got no further. Proxy variables and SSL_CERT_FILE are honoured.

    Raises BBError for all that a person can mend: network, server, disk, a wrong md5.
    """
    path, part = folder / archive.name, folder / f"{archive.name}.part"
    with _on_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and _md5(path) == archive.md5:
            return path
        file = FileIO(part, "ab")  # unbuffered: what has come is on its way to the disk, whatever kills us
    with file:
        _lock(file, part)
        _fetch(archive, file, folder, progress or _silent, tries, timeout, pause)
        with _on_disk(part):
            if (found := _md5(part)) != archive.md5:
                part.unlink()
                raise BBError(
                    f"{archive.url}: what came has md5 {found}, but {archive.md5} is expected. It was removed; "
                    "run again. If it comes out the same, a proxy alters it or the publisher has changed it."
                )
            os.fsync(file.fileno())
            os.replace(part, path)
            _fsync_folder(folder)
    return path


def _fetch(
    archive: Archive,
    file: FileIO,
    folder: Path,
    progress: Progress,
    tries: int,
    timeout: float,
    pause: Callable[[float], None],
) -> None:
    """Attempt after attempt, until the file is whole or nothing more comes."""
    opener = urllib.request.build_opener()  # a fresh one sees today's proxy variables, urlopen's is kept for good
    start = farthest = _size(file)
    failures = 0
    while True:
        try:
            return _attempt(archive, file, folder, opener, progress, timeout)
        except (OSError, http.client.HTTPException) as error:  # the network's: _on_disk has turned the disk's
            failures = 0 if _size(file) > farthest else failures + 1
            farthest = max(farthest, _size(file))
            cause = _cause(error)
            if failures >= tries or not _is_passing(cause, reached=farthest > start):
                raise BBError(f"{archive.url}: {_explain(cause, archive, folder, failures)}") from error
            pause(min(_retry_after(cause) or 2.0**failures, LONGEST_PAUSE))


def _attempt(
    archive: Archive,
    file: FileIO,
    folder: Path,
    opener: urllib.request.OpenerDirector,
    progress: Progress,
    timeout: float,
) -> None:
    """One request that appends what the file lacks, from the start if the server knows no ranges (RFC 9110, 14).

    No If-Range: the md5 names the content, so a file that changed in between is found out in any case.
    """
    have = _size(file)
    if archive.bytes is not None and have >= archive.bytes:
        if have == archive.bytes:
            return
        have = _start_over(file, folder)
    headers = {"User-Agent": "bb"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = opener.open(urllib.request.Request(archive.url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        if error.headers["Content-Range"] == f"bytes */{have}":
            return
        _start_over(file, folder)
        raise ConnectionError("the server has less than the .part that was here, which is removed") from error
    with response:
        total = response.length  # of the body; None where the server doesn't say
        if response.status == 206:
            sent = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", response.headers["Content-Range"] or "")
            if sent is None or int(sent[1]) != have:
                _start_over(file, folder)
                raise ConnectionError("the server sent another range than asked")
            total = int(sent[2]) if sent[2] != "*" else total and have + total
        elif have:
            have = _start_over(file, folder)
        if archive.bytes is not None and total not in (None, archive.bytes):
            raise BBError(
                f"{archive.url}: the server sends {total:,} bytes, but {archive.bytes:,} are expected. A proxy's "
                f"login page may stand between, or the publisher has changed it. {_by_hand(folder)}"
            )
        expected = archive.bytes if total is None else total
        _check_room(folder, archive.url, (expected or have) - have)
        progress(have, expected)
        while (expected is None or have <= expected) and (chunk := response.read1(CHUNK)):
            _write(file, chunk, folder)
            have += len(chunk)
            progress(have, expected)
    if expected is not None and have < expected:  # http.client takes an early end for the end
        raise ConnectionError(f"cut off after {have:,} of {expected:,} bytes")


def _cause(error: Exception) -> Exception:
    reason = getattr(error, "reason", None)  # urllib wraps some faults in URLError and passes others as they are
    return reason if isinstance(reason, Exception) else error


def _is_passing(cause: Exception, reached: bool) -> bool:
    if isinstance(cause, urllib.error.HTTPError):
        return cause.code in PASSING
    if isinstance(cause, ssl.SSLCertVerificationError):
        return False
    if isinstance(cause, socket.gaierror) or getattr(cause, "errno", None) in UNREACHED:
        return reached  # a line that drops comes back; one that was never there is said at once
    return True


def _retry_after(cause: Exception) -> float | None:
    wish = cause.headers["Retry-After"] if isinstance(cause, urllib.error.HTTPError) else None
    return float(wish) if re.fullmatch(r"[0-9]{1,9}", wish or "") else None


def _explain(cause: Exception, archive: Archive, folder: Path, failures: int) -> str:
    if isinstance(cause, urllib.error.HTTPError):
        answer = f"the server answers {cause.code} {http.client.responses.get(cause.code, '')}".rstrip()
        if cause.code in PASSING:
            return f"{answer}, {failures} times in a row. Run again later; what has come is kept."
        return f"{answer}. The publisher may have moved it. If you can reach it otherwise: {_by_hand(folder)}"
    if isinstance(cause, socket.gaierror):
        return (
            f"{urlsplit(archive.url).hostname} can't be found ({cause.strerror}); this machine seems to be offline. "
            f"Behind a proxy, set HTTPS_PROXY (a proxy that is set may be misspelt). {_by_hand(folder)}"
        )
    if isinstance(cause, ssl.SSLError):
        detail = getattr(cause, "verify_message", "") or cause.reason
        return (
            f"no trusted TLS connection ({detail}). Where a proxy re-signs connections, set SSL_CERT_FILE to a PEM "
            f"file with its root certificate. {_by_hand(folder)}"
        )
    times = f", {failures} times in a row" if failures > 1 else ""
    return (
        f"the connection failed{times} ({str(cause) or type(cause).__name__}). Run again; what has come is kept. "
        f"Behind a proxy, set HTTPS_PROXY. {_by_hand(folder)}"
    )


def _by_hand(folder: Path) -> str:
    return f"Or download that URL by hand into {folder} and run again."


def is_unpacked(archive: Path, folder: Path) -> bool:
    """Whether `unpack` has finished here and nothing of it is gone; the archive itself may be."""
    names = _named_by(_marker(archive, folder))
    return bool(names) and all(os.path.lexists(folder / name) for name in names)


def unpack(archive: Path, folder: Path, *, progress: Progress | None = None) -> list[str]:
    """Unpack a tar.gz into `folder` and return the names of its top-level entries.

    Nothing in the archive is trusted: plain files and folders only, inside `folder`, over nothing that is there,
    with the modes of the umask, bounded in number and size. All goes to .NAME.unpacking first; once it is whole,
    .NAME.unpacked lists the entries, which are then renamed into place. That list is what tells a finished
    unpacking, and lets a killed one be finished; remove entries and it is done anew. `progress` is told the
    bytes read of the archive's.

    Raises BBError naming each refused member, or what ails the archive or the disk. tarfile's own data filter
    isn't used: Python 3.11.0 to 3.11.3 lack it, and it mends absolute paths and lets links pass.
    """
    marker, staging = _marker(archive, folder), folder / f".{archive.name}.unpacking"
    names = _named_by(marker)
    if is_unpacked(archive, folder):
        return names
    with _on_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        raw = archive.open("rb")
    with raw:
        _lock(raw, archive)
        if not names or not all(os.path.lexists(at / name) for name in names for at in (folder, staging)):
            pass
    return names


def _silent(done: int, total: int | None) -> None:
    pass
