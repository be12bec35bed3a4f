"""A data set on the Hugging Face Hub as a place for a store: a git repository of files, written by commits.

Tokens come from `hf auth login` or HF_TOKEN, as huggingface_hub reads them; what is read is not kept in its cache.
https://huggingface.co/docs/huggingface_hub
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bb.store.errors import UsageError
from bb.store.storage.base import FileInfo, LocalFile, Object, TooLarge, Upload
from bb.store.storage.retry import PATIENCE, ErrorInfo, RetryPolicy, TooSlow, paced, retry, retry_stream

if TYPE_CHECKING:
    from huggingface_hub import HfApi, RepoFile

PASSING = {408, 409, 412, 425, 429, 500, 502, 503, 504}  # 409 and 412: another commit came first
LATER = "Run the same command again later; what has come is kept."


class _Refused(Exception):
    """A status other than success, with the Hub's own word for it."""

    def __init__(self, status: int, word: str) -> None:
        super().__init__(f"{status} {word}")
        self.status, self.word = status, word


@dataclass(frozen=True)
class Hub:
    """See `bb.store.storage.base.Storage`. One call of `publish` is one commit, so that all of it becomes visible at
    once.
    """

    repo: str
    revision: str
    folder: str
    api: "HfApi" = field(repr=False)
    patience: RetryPolicy = PATIENCE
    writable: bool = True
    at_once: int = 50

    @classmethod
    def open(cls, repo: str, revision: str, folder: str, patience: RetryPolicy = PATIENCE) -> "Hub":
        """A folder ("" for all) of the data set OWNER/NAME at a branch, tag or commit. Asks nobody yet."""
        try:
            from huggingface_hub import HfApi
            from huggingface_hub.utils import disable_progress_bars
        except ImportError:
            raise UsageError("hf:// needs huggingface_hub: pip install 'backbone-bench[hf]'") from None
        disable_progress_bars()
        return cls(repo, revision, folder, HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None), patience)

    @property
    def url(self) -> str:
        revision = "" if self.revision == "main" else f"@{quote(self.revision, safe='')}"
        return f"hf://datasets/{self.repo}{revision}" + (f"/{self.folder}" if self.folder else "")

    def list(self, prefix: str = "") -> Iterator[Object]:
        from huggingface_hub import RepoFile
        from huggingface_hub.errors import EntryNotFoundError

        top = self._at(prefix).rstrip("/")
        seen = 0

        def tree() -> Iterator[Any]:
            listed = self.api.list_repo_tree(
                self.repo, top or None, recursive=True, revision=self.revision, repo_type="dataset"
            )
            return islice(iter(listed), seen, None)

        found = tree()

        def entries() -> "list[Any]":
            nonlocal found
            try:
                return list(islice(found, 1000))
            except EntryNotFoundError:
                return []
            except Exception:  # a listing that broke off is over: another begins behind what came
                found = tree()
                raise

        skip = len(self.folder) + 1 if self.folder else 0
        while page := retry(entries, self._judge_call, self.patience):
            seen += len(page)
            yield from (Object(entry.path[skip:], entry.size) for entry in page if isinstance(entry, RepoFile))

    def read(self, path: str, most: int) -> bytes:
        whole = bytearray()
        for piece in self.stream(path):
            whole += piece
            if len(whole) > most:
                raise TooLarge(f"{self.url}/{path} is larger than the {most} bytes that it can be.")
        return bytes(whole)

    def stream(self, path: str, start: int = 0) -> Iterator[bytes]:
        return retry_stream(lambda at: self._stream(path, at), start, lambda e: self._judge(e, path), self.patience)

    def _stream(self, path: str, start: int, size: int | None = None) -> Iterator[bytes]:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session

        url = hf_hub_url(
            self.repo, self._at(path), repo_type="dataset", revision=self.revision, endpoint=self.api.endpoint
        )
        # Unpacked by nobody: what is compressed on the way could be anything's size.
        headers = build_hf_headers() | {"Accept-Encoding": "identity"}
        if start or size:
            headers["Range"] = f"bytes={start}-{start + size - 1 if size else ''}"
        session = get_session()
        with session.stream(
            "GET", url, headers=headers, follow_redirects=True, timeout=self.patience.silence
        ) as answer:
            if answer.status_code == 416 and (start or size):  # there is nothing behind the last byte
                return
            if answer.status_code not in (200, 206):
                raise _Refused(answer.status_code, answer.headers.get("X-Error-Code", ""))
            skip = start if answer.status_code == 200 else 0
            left = size if size is not None else sys.maxsize
            for piece in paced(answer.iter_raw(), self.patience):
                if skip < len(piece):
                    yield piece[skip : skip + left]
                    left -= len(piece[skip : skip + left])
                if left <= 0:
                    return
                skip = max(0, skip - len(piece))

    def look(self, paths: Sequence[str]) -> dict[str, FileInfo]:
        found: dict[str, FileInfo] = {}
        for start in range(0, len(paths), 100):
            some = paths[start : start + 100]
            # A file's git or LFS digest is its version.
            for path, entry in self._info(some).items():
                found[path] = FileInfo(entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id)
        return found

    def read_range(self, path: str, start: int, size: int) -> bytes:
        def read() -> bytes:
            return b"".join(self._stream(path, start, size)) if size > 0 else b""

        return retry(read, lambda error: self._judge(error, path), self.patience)

    def publish(self, parcels: Sequence[Upload]) -> None:
        there = self._info([parcel.part.path for parcel in parcels])
        files = {
            parcel.part.at(file): data
            for parcel in parcels
            if parcel.part.path not in there
            for file, data in parcel.files.items()
        }
        if files:
            self._commit(files, f"Publish {len(parcels) - len(there)} parts of a bb store")

    def replace(self, path: str, data: bytes) -> None:
        self._commit({path: data}, f"Write {path}")

    def _info(self, paths: Sequence[str]) -> "dict[str, RepoFile]":
        """What the Hub says of those files that are there."""
        from huggingface_hub import RepoFile

        found = retry(
            lambda: self.api.get_paths_info(
                self.repo, [self._at(path) for path in paths], revision=self.revision, repo_type="dataset"
            ),
            self._judge_call,
            self.patience,
        )
        present = {entry.path: entry for entry in found if isinstance(entry, RepoFile)}
        return {path: present[self._at(path)] for path in paths if self._at(path) in present}

    def _commit(self, files: Mapping[str, LocalFile | Path | bytes], message: str) -> None:
        from huggingface_hub import CommitOperationAdd

        def commit() -> None:
            self.api.create_commit(
                self.repo,
                # Made anew for each attempt, since one that was sent can't be sent again. By path, since of open files
                # the library takes the whole into memory, and a commit has hundreds.
                [
                    CommitOperationAdd(self._at(path), data.path if isinstance(data, LocalFile) else data)
                    for path, data in files.items()
                ],
                commit_message=message,
                revision=self.revision,
                repo_type="dataset",
                num_threads=4,
            )

        retry(commit, self._judge_call, self.patience)

    def _at(self, path: str) -> str:
        return f"{self.folder}/{path}" if self.folder else path

    def _judge_call(self, error: Exception) -> ErrorInfo:
        """Of the library's own calls, which it tries five times before it says anything."""
        message, most = self._judge(error)
        return ErrorInfo(message, min(most, 2))

    def _judge(self, error: Exception, path: str = "") -> ErrorInfo:
        from huggingface_hub.errors import OfflineModeIsEnabled

        place = f"{self.url}/{path}" if path else self.url
        response = getattr(error, "response", None)
        status = error.status if isinstance(error, _Refused) else getattr(response, "status_code", None)
        word = error.word if isinstance(error, _Refused) else getattr(response, "headers", {}).get("X-Error-Code", "")
        if isinstance(error, OfflineModeIsEnabled):
            return ErrorInfo(f"{self.url}: HF_HUB_OFFLINE is set, so the Hub is not asked. Unset it.")
        if word == "EntryNotFound":
            raise FileNotFoundError(2, "no such file", place) from None
        if word == "GatedRepo":
            return ErrorInfo(f"{self.url}: its owner wants terms accepted. Do so on its page, and `hf auth login`.")
        if word == "RevisionNotFound":
            return ErrorInfo(f"{self.url}: there is no revision {self.revision!r}. Correct what stands after the @.")
        if word == "RepoNotFound" or status == 404:
            return ErrorInfo(
                f"{self.url}: there is no such data set, or none that you may see. Make it with `hf repo create "
                f"{self.repo} --repo-type dataset`, or log in with `hf auth login`."
            )
        if status in (401, 403):
            return ErrorInfo(
                f"{place}: the Hub denies access ({status}). Log in with `hf auth login`, or set HF_TOKEN to a token "
                f"that may read this data set, and write it where you push."
            )
        if status in PASSING:
            return ErrorInfo(f"{place}: the Hub answers {status}{{times}}. {LATER}", self.patience.failures)
        if status is not None:
            return ErrorInfo(f"{place}: the Hub answers {status}.")
        return self._judge_connection(error, place)

    def _judge_connection(self, error: Exception, place: str) -> ErrorInfo:
        import httpx2

        fact = str(error)
        if "CERTIFICATE_VERIFY_FAILED" in fact or "SSL" in fact:
            return ErrorInfo(
                f"{self.url}: no trusted TLS connection. If a proxy re-signs connections, set SSL_CERT_FILE to a PEM "
                f"file with its root certificate."
            )
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError):
            return ErrorInfo(
                f"{self.url}: the Hub can't be reached{{times}}. See that this machine is online; behind a proxy, set "
                f"HTTPS_PROXY.",
                self.patience.connecting,
            )
        if isinstance(error, TooSlow):
            return ErrorInfo(f"{place}: the connection broke{{times}} ({fact}). {LATER}", self.patience.failures)
        if isinstance(error, httpx2.TransportError):
            return ErrorInfo(f"{place}: the connection broke{{times}}. {LATER}", self.patience.failures)
        if isinstance(error, OSError) and error.filename:
            raise error
        return ErrorInfo(f"{place}: {type(error).__name__}: {fact[:200]}.")
