"""The page and its calls, for this machine alone.

Every address begins with a token that only the terminal shows. The names in Host and Origin must be those of this
server, so that a page from elsewhere, also one whose name was made to point here (DNS rebinding), reads and
writes nothing.
Images are named by their row in the collection; no path comes from a browser.
"""

import hmac
import json
import secrets
import socket
from importlib.resources import files
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bb.labeller.images import SIZES, Pictures
from bb.labeller.session import Session
from bb.store.errors import BBError, UsageError
from bb.store.files.descriptors import RESERVED, limit

MOST_BYTES = 4096  # of a request's body
LONGEST_PATH = 200  # characters: no number in an address is too long to be one
MOST_QUESTIONS = 48
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
PARTS = {
    "": ("page.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
}


def new_token() -> str:
    return secrets.token_urlsafe(24)


def make_app(session: Session, pictures: Pictures, title: str, *, token: str, port: int) -> ASGIApp:
    """The application; only requests to 127.0.0.1:port or localhost:port with the token get an answer."""

    def part(request: Request) -> Response:
        if (found := PARTS.get(request.path_params.get("part", ""))) is None:
            return PlainTextResponse("There is nothing here.", 404)
        name, kind = found
        content = files("bb.labeller").joinpath(name).read_bytes()
        return Response(content, media_type=f"{kind}; charset=utf-8")

    def state(request: Request) -> Response:
        return JSONResponse({"title": title, **session.state()})

    def image(request: Request) -> Response:
        row, size = request.path_params["row"], request.path_params["size"]
        if size not in SIZES or not 0 <= row < len(pictures.ids) or not pictures.has(row):
            return PlainTextResponse("No such image.", 404)
        headers = {"cache-control": "private, max-age=3600"}
        return Response(pictures.jpeg(row, size), media_type="image/jpeg", headers=headers)

    async def call(request: Request) -> Response:
        given = await _body(request)
        if given is None:
            return PlainTextResponse("Send JSON of at most 4,096 bytes.", 400)
        return await run_in_threadpool(_called, session, request.path_params["verb"], given)

    root = f"/{token}"
    routes = [
        Route(f"{root}/", part),
        Route(f"{root}/state", state),
        Route(f"{root}/image/{{row:int}}/{{size:str}}", image),
        Route(f"{root}/call/{{verb:str}}", call, methods=["POST"]),
        Route(f"{root}/{{part:str}}", part),
    ]

    def refused(request: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), 409)

    def failed(request: Request, error: Exception) -> Response:
        return PlainTextResponse(f"{error}. Nothing was saved: see to the file, and try again.", 409)

    app = Starlette(routes=routes, exception_handlers={BBError: refused, OSError: failed})
    return _Guard(app, token, {f"127.0.0.1:{port}", f"localhost:{port}"})


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Answers until Ctrl-C."""
    make_server(app).run(sockets=[listening])


def make_server(app: ASGIApp) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(app, loop="asyncio", log_level="warning", access_log=False, server_header=False, lifespan="off")
    )


class _Listening(socket.socket):
    """Closes a connection at once that would take a descriptor which images and the table of labels need."""

    def accept(self) -> tuple[socket.socket, Any]:
        connection, address = super().accept()
        if connection.fileno() >= limit() - RESERVED:
            connection.close()
            raise BlockingIOError  # to asyncio: nobody is waiting
        return connection, address


def listen(port: int) -> socket.socket:
    """A socket of this machine alone; port 0 is any free one. Errors: UsageError."""
    listening = _Listening()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen(128)  # before the address is printed: a browser that is early waits
    except OSError as error:
        listening.close()
        raise UsageError(f"--port {port} is not available ({error.strerror}): choose another, or 0 for any.") from None
    return listening


async def _body(request: Request) -> dict[str, Any] | None:
    """The request's JSON object; None where it is something else."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        return None
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MOST_BYTES:
            return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _called(session: Session, verb: str, given: dict[str, Any]) -> Response:
    window, row, label, n = given.get("window"), given.get("image"), given.get("label"), given.get("n", 1)
    if not isinstance(window, str) or not 0 < len(window) <= 64:
        return PlainTextResponse("A window has a name.", 400)
    done: Any = None
    if verb == "next" and isinstance(n, int) and 0 < n <= MOST_QUESTIONS:
        done = session.next(window, n)
    elif verb == "answer" and type(row) is int and isinstance(label, str):
        session.answer(window, row, label)
    elif verb == "skip" and type(row) is int:
        session.skip(window, row)
    elif verb == "undo":
        done = session.undo(window)
    else:
        return PlainTextResponse("No such call.", 400)
    return JSONResponse({"done": done, "state": session.state()})


class _Guard:
    """Refuses what does not come from the page, and adds HEADERS to every answer."""

    def __init__(self, app: ASGIApp, token: str, hosts: set[str]) -> None:
        self.app, self.token, self.hosts = app, token.encode(), hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                extra = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in given]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        why = self._why_refused(scope)
        answer: ASGIApp = PlainTextResponse(why, 403) if why else self.app
        await answer(scope, receive, guarded)

    def _why_refused(self, scope: Scope) -> str:
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        hosts, origins = headers.get(b"host", []), headers.get(b"origin", [])
        if len(hosts) != 1 or hosts[0].decode("latin-1") not in self.hosts:
            return "The address must be the one that bb label printed."
        own = b"http://" + hosts[0]
        if any(origin != own for origin in origins) or (scope["method"] not in ("GET", "HEAD") and not origins):
            return "Only the page that bb label serves may do this."
        if headers.get(b"sec-fetch-site", [b"same-origin"])[0] not in (b"same-origin", b"none"):
            return "Only the page that bb label serves may do this."
        if len(scope["path"]) > LONGEST_PATH:
            return "The address is longer than any of this page."
        given = scope["path"].split("/")[1].encode() if scope["path"].startswith("/") else b""
        if not hmac.compare_digest(given, self.token):
            return "Open the address that bb label printed, with its token."
        return ""
