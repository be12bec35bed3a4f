"""A small Hugging Face Hub: just the endpoints that huggingface_hub asks of data sets, with one branch and no history.

Shapes as its client reads them (huggingface_hub 2.4); never tried against the real one.
"""

import base64
import json
import re
import threading
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.helpers.servers import Proxy, body_of, proxy_to, serving

LARGE = 1000  # bytes, from which a file goes by the way of large ones


@dataclass
class FakeHub:
    """The data set `repo`, its files by path, and each commit's paths. Only the token `hf_testing` may write."""

    repo: str = "lab/features"
    files: dict[str, bytes] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    commits: list[list[str]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    proxy: Proxy | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        path, body = unquote(urlsplit(handler.path).path), body_of(handler)
        base = f"http://{handler.headers['Host']}"
        self.asked.append((handler.command, path))
        for method, pattern, answer in (
            ("GET", r"/api/datasets/(\w+/\w+)/tree/([^/]+)(?:/(.*))?", self._tree),
            ("POST", r"/api/datasets/(\w+/\w+)/paths-info/([^/]+)", self._paths),
            ("POST", r"/api/datasets/(\w+/\w+)/preupload/([^/]+)", self._preupload),
            ("POST", r"/datasets/(\w+/\w+)\.git/info/lfs/objects/batch()", self._batch),
            ("POST", r"/api/datasets/(\w+/\w+)/commit/([^/]+)", self._commit),
            ("GET", r"/datasets/(\w+/\w+)/resolve/([^/]+)/(.*)", self._resolve),
        ):
            found = re.fullmatch(pattern, path)
            if method == handler.command and found:
                repo, revision, *rest = found.groups()
                if repo != self.repo:
                    return self._say(handler, 404, {}, word="RepoNotFound")
                if revision not in ("main", ""):
                    return self._say(handler, 404, {}, word="RevisionNotFound")
                writes = answer in (self._preupload, self._batch, self._commit)
                if writes and handler.headers["Authorization"] not in ("Bearer hf_testing", "Basic aGY="):
                    return self._say(handler, 403, {"error": "no"})
                return answer(handler, body, base, *rest)
        if handler.command == "PUT" and path.startswith("/large/"):
            assert sha256(body).hexdigest() == path.removeprefix("/large/")
            self.large[path.removeprefix("/large/")] = body
            return self._say(handler, 200, {})
        if handler.command == "GET" and path.startswith("/large/"):
            return self._bytes(handler, self.large[path.removeprefix("/large/")])
        return self._say(handler, 501, {"error": f"{handler.command} {path}"})

    def _tree(self, handler, body, base, folder):
        below = f"{folder}/" if folder else ""
        paths = sorted(path for path in self.files if path.startswith(below))
        if folder and not paths:
            return self._say(handler, 404, {}, word="EntryNotFound")
        folders = sorted({path.rpartition("/")[0] for path in paths} - {"", folder})
        entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in folders]
        return self._say(handler, 200, entries + [self._entry(path) for path in paths])

    def _entry(self, path):
        return {"type": "file", "oid": sha1(self.files[path]).hexdigest(), "size": len(self.files[path]), "path": path}

    def _paths(self, handler, body, base):
        asked = parse_qs(body.decode())["paths"]
        return self._say(handler, 200, [self._entry(path) for path in asked if path in self.files])

    def _preupload(self, handler, body, base):
        files = [
            {"path": f["path"], "uploadMode": "lfs" if f["size"] > LARGE else "regular", "shouldIgnore": False}
            for f in json.loads(body)["files"]
        ]
        return self._say(handler, 200, {"files": files})

    def _batch(self, handler, body, base):
        objects = []
        for entry in json.loads(body)["objects"]:
            upload = {"upload": {"href": f"{base}/large/{entry['oid']}", "header": {}}}
            objects.append(entry | ({} if entry["oid"] in self.large else {"actions": upload}))
        return self._say(handler, 200, {"transfer": "basic", "objects": objects})

    def _commit(self, handler, body, base):
        new = {}
        for line in body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                new[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                new[value["path"]] = self.large[value["oid"]]
        with self._lock:
            self.files.update(new)
            self.commits.append(sorted(new))
        return self._say(
            handler,
            200,
            {
                "commitUrl": f"{base}/datasets/{self.repo}/commit/1",
                "commitOid": f"{len(self.commits):040d}",
                "pullRequestUrl": None,
            },
        )

    def _resolve(self, handler, body, base, path):
        if path not in self.files:
            return self._say(handler, 404, {}, word="EntryNotFound")
        data = self.files[path]
        if len(data) > LARGE:
            digest = sha256(data).hexdigest()
            self.large[digest] = data
            return self._say(handler, 302, {}, Location=f"{base}/large/{digest}")
        return self._bytes(handler, data)

    def _bytes(self, handler, data):
        asked = handler.headers["Range"]
        first, _, last = (asked or "bytes=0-").removeprefix("bytes=").partition("-")
        start, stop = int(first), min(len(data), int(last or len(data)) + 1)
        if asked and start >= len(data):
            return self._say(handler, 416, {})
        handler.send_response(206 if asked else 200)
        if asked:
            handler.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        handler.send_header("Content-Length", str(stop - start))
        handler.end_headers()
        handler.wfile.write(data[start:stop])

    def _say(self, handler, status, value, word="", **headers):
        data = json.dumps(value).encode()
        handler.send_response(status)
        for name, text in ({"X-Error-Code": word} if word else {}).items():
            handler.send_header(name, text)
        for name, text in headers.items():
            handler.send_header(name, text)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)


@dataclass
class FakeModels:
    """The hub's models: files by repository and path, and for some repositories what is answered instead.

    A fault is a status and the hub's word for it (its header X-Error-Code).
    """

    files: dict[str, dict[str, bytes]]
    faults: dict[str, tuple[int, str]] = field(default_factory=dict)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        match = re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.*)", unquote(urlsplit(handler.path).path))
        assert match is not None, handler.path
        repository, revision, path = match.groups()
        files = self.files.get(repository)
        status, word, data = 200, "", b""
        if repository in self.faults:
            status, word = self.faults[repository]
        elif files is None:
            status, word = 404, "RepoNotFound"
        elif revision != "main" and revision != "0" * 40:
            status, word = 404, "RevisionNotFound"
        elif path not in files:
            status, word = 404, "EntryNotFound"
        else:
            data = files[path]
        handler.send_response(status)
        if word:
            handler.send_header("X-Error-Code", word)
        if status == 200:
            handler.send_header("ETag", f'"{sha256(data).hexdigest()}"')
        handler.send_header("X-Repo-Commit", "0" * 40)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(data)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A fake Hub behind a proxy that makes faults, `hub.proxy`."""
    fake = FakeHub()
    with serving(fake.handle) as endpoint, proxy_to(endpoint) as fake.proxy:
        monkeypatch.setenv("HF_ENDPOINT", fake.proxy.url)
        monkeypatch.setenv("HF_TOKEN", "hf_testing")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # the fake one has plain LFS
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
        yield fake
