"""Finished runs behind a page and a JSON endpoint, on this machine alone unless more is asked for.

What is sent is held in memory, decoded by the readers of training, and forgotten; no path and nothing that is
pickled is taken from outside. docs/serve.md says what is refused.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import os
import re
import socket
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import ttl_jax
from ttl_jax.data.images.decode import UnreadableImageError
from ttl_jax.deploy.answerer import NOTICE, Answerer, Batcher
from ttl_jax.errors import UserError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
SHORTEST_TOKEN = 16  # characters
DECODERS = 4  # threads, at most: each may hold an image of the largest size
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        hosts: names by which the server may be called: a page elsewhere that points its own name to this
            machine (DNS rebinding) calls it by another.
        token: that a request carries; "" for none.
    """

    hosts: tuple[str, ...] = LOOPBACK
    token: str = ""

    def refusal(self, scope: Scope) -> JSONResponse | None:
        """The answer to a request that is refused before it is read; None to one that is not."""
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if _place(host).hostname not in self.hosts:
            return _refused(421, "this server is not called by that name: see --allow_host")
        if origin is not None and origin.partition("://")[2] != host:
            return _refused(403, "a page of another site may not ask this server")
        given = headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given[2].encode(), self.token.encode())
        if self.token and scope["path"] != "/" and not (given[0].lower() == "bearer" and right):
            said = "the token is missing or wrong: send Authorization: Bearer TOKEN"
            return _refused(401, said, {"WWW-Authenticate": "Bearer"})
        return None


class Service:
    """The endpoints.

    Args:
        answerer: what is asked.
    """

    def __init__(self, answerer: Answerer) -> None:
        self.answerer, self.limits = answerer, answerer.limits
        self.page = (_HERE / "serve.html").read_text(encoding="utf-8")
        self.held = 0
        self.batcher = Batcher(answerer.answer, answerer.batch, self.limits.wait)
        self.decoders = ThreadPoolExecutor(min(os.cpu_count() or 1, DECODERS))

    def application(self, access: Access) -> ASGIApp:
        """The whole as an ASGI application."""
        routes = [
            Route("/", self.index),
            Route("/openapi.json", self.openapi),
            Route("/model", self.model),
            Route("/predict", self.predict, methods=["POST"]),
        ]
        handlers: Any = {HTTPException: _error, ClientDisconnect: _gone, Exception: _fault}
        inner = Starlette(routes=routes, exception_handlers=handlers, lifespan=self._running)
        headers = HEADERS | {"Content-Security-Policy": policy(self.page)}

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            async def sent(message: Message) -> None:
                if message["type"] == "http.response.start":
                    MutableHeaders(scope=message).update(headers)
                await send(message)

            refusal = access.refusal(scope) if scope["type"] == "http" else None
            await (refusal or inner)(scope, receive, sent)

        return guarded

    @asynccontextmanager
    async def _running(self, _: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(self.batcher.run())
        try:
            yield
        finally:
            task.cancel()
            self.decoders.shutdown(wait=False, cancel_futures=True)

    async def index(self, _: Request) -> Response:
        """The page."""
        return HTMLResponse(self.page)

    async def openapi(self, _: Request) -> Response:
        """The description of the endpoints."""
        held = json.loads((_HERE / "openapi.json").read_text(encoding="utf-8"))
        held["info"]["version"] = ttl_jax.__version__
        return JSONResponse(held)

    async def model(self, _: Request) -> Response:
        """Describe the runs that answer."""
        return JSONResponse(self.answerer.about())

    async def predict(self, request: Request) -> Response:
        """The answers to one file."""
        asked = request.query_params
        if set(asked) - {"pictures"} or asked.get("pictures", "false") not in ("true", "false"):
            raise HTTPException(400, "the one query parameter is pictures, true or false")
        if self.held >= self.limits.requests:
            raise HTTPException(
                429, f"{self.held} requests are being answered: ask again", {"Retry-After": "1"}
            )
        self.held += 1
        try:
            content, loop = await self._content(request), asyncio.get_running_loop()
            pictures = asked.get("pictures") == "true"
            try:
                question = await loop.run_in_executor(self.decoders, self.answerer.read, content, pictures)
            except UnreadableImageError as error:
                raise HTTPException(422, f"the file {error}") from None
            except UserError as error:
                raise HTTPException(422, str(error)) from None
            del content
            rows = await self.batcher(question)
        finally:
            self.held -= 1
        return JSONResponse({"notice": NOTICE, "images": rows})

    async def _content(self, request: Request) -> bytes:
        """The file in a request: its body, or the part "file" of a form."""
        try:
            async with asyncio.timeout(self.limits.seconds):
                body = await self._body(request)
        except TimeoutError:
            raise HTTPException(408, f"the file did not arrive in {self.limits.seconds:g} s") from None
        if not request.headers.get("content-type", "").lower().startswith("multipart/"):
            return body
        return await _file_of(request.headers, body)

    async def _body(self, request: Request) -> bytes:
        too_large = HTTPException(413, f"a request may hold {self.limits.bytes:,} bytes")
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self.limits.bytes:
            raise too_large
        parts, size = list[bytes](), 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self.limits.bytes:
                raise too_large
            parts.append(chunk)
        return b"".join(parts)


async def _file_of(headers: Headers, body: bytes) -> bytes:
    """The part "file" of a form, which is never written to a disk."""

    async def stream() -> Any:
        yield body

    try:
        parser = MultiPartParser(headers, stream(), max_files=1, max_fields=0)
        parser.spool_max_size = len(body) + 1
        file = (await parser.parse()).get("file")
    except MultiPartException as error:
        raise HTTPException(400, f"the form cannot be read: {error.message}") from None
    if file is None or isinstance(file, str):
        raise HTTPException(400, "a form holds one file, called file")
    return await file.read()


HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def policy(page: str) -> str:
    """The Content-Security-Policy of a page: its own script and style, by their hashes, and nothing else."""

    def hashes(tag: str) -> str:
        parts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in parts)
        return " ".join(f"'sha256-{each}'" for each in digests)

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _place(host: str) -> SplitResult:
    """A Host header in parts; without any where it cannot be read."""
    try:
        return urlsplit(f"//{host}")
    except ValueError:
        return urlsplit("")


def _refused(status: int, sentence: str, headers: Any = None) -> JSONResponse:
    return JSONResponse({"error": sentence[:200]}, status, headers)


async def _error(_: Request, error: HTTPException) -> JSONResponse:
    said = {404: "there is nothing at this path", 405: "this path does not take that method"}
    return _refused(error.status_code, said.get(error.status_code, error.detail), error.headers)


async def _gone(*_: Any) -> JSONResponse:
    return _refused(400, "the file did not arrive")


async def _fault(*_: Any) -> JSONResponse:
    return _refused(500, "the server failed; its terminal says how")


def access_of(host: str, token: str, public: bool, names: Sequence[str] = ()) -> Access:
    """Who may ask a server at an address.

    Raises:
        UserError: an address that others reach, without `public` and a token.
    """
    if token and len(token) < SHORTEST_TOKEN:
        raise UserError(
            f"--token has {len(token)} characters: take {SHORTEST_TOKEN} or more, drawn at random"
        )
    try:
        others = host != "localhost" and not ipaddress.ip_address(host).is_loopback
    except ValueError:
        others = True
    if others and not (public and token):
        raise UserError(
            f"--host={host} can be reached from other machines: that takes --public and --token=TOKEN too"
        )
    own = (*LOOPBACK, host, *names, *([socket.gethostname()] if others else []))
    return Access(tuple(dict.fromkeys(name.lower() for name in own)), token)


def listen(host: str, port: int) -> socket.socket:
    """A socket at an address.

    Raises:
        UserError: the address is taken, or no address of this machine.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise UserError(f"--host={host} --port={port} cannot be had: {error}") from None


def serve(answerer: Answerer, access: Access, place: socket.socket) -> None:
    """Serve until the process is told to stop."""
    application = Service(answerer).application(access)
    config = uvicorn.Config(
        application, http="h11", ws="none", log_level="warning", access_log=False, server_header=False,
        limit_concurrency=8 * answerer.limits.requests,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[place])
