"""The connections of a client: HTTP and gRPC, blocking and asynchronous."""

import json
import ssl
from collections.abc import Callable
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from tfdense.client.calls import NoAnswer, Response, Send
from tfdense.errors import InputError, shown

_SCHEMES = ("http", "https", "grpc", "grpcs")


class Transport(Protocol):
    """A connection, which gives a `Response` for what is sent, or an awaitable of one."""

    def send(self, request: Send): ...

    def close(self): ...


def connect(url: str, token: str | None, verify: str | bool, is_async: bool) -> Transport:
    """Returns what speaks to a server.

    Args:
        url: http://, https://, grpc:// or grpcs:// with host and port.
        token: that requests bear, or None.
        verify: a file (PEM) of certificates to trust, or whether to check them at all.
        is_async: whether `Transport.send` is to be awaited.

    Raises:
        InputError: if it is no such URL, or a package is missing.
    """
    parts = _parts(url)
    try:
        if parts.scheme.startswith("grpc"):
            return (_AsyncRpc if is_async else _Rpc)(parts, token, verify)
        return (_AsyncHttp if is_async else _Http)(url, token, verify)
    except ModuleNotFoundError as error:
        raise InputError(
            f"The client needs the package {error.name}: pip install 'tfdense[client]'"
        ) from None


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        # Reading the port checks it.
        known = parts.hostname and parts.port != 0 and parts.scheme in _SCHEMES
    except ValueError:
        known = False
    if not known:
        raise InputError(
            "Expected a server as http://HOST:PORT, https://, grpc:// or grpcs://. "
            f"Received: {shown(url)}"
        )
    return parts


class _Http:
    def __init__(self, url: str, token: str | None, verify: str | bool):
        import httpx

        self._errors = httpx.HTTPError
        self._client = self._make(httpx)(
            base_url=url.rstrip("/"),
            verify=_context(verify),
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
        )

    def _make(self, httpx):
        return httpx.Client

    def send(self, request: Send) -> Response:
        try:
            return _response(self._client.request(*_method(request), **_content(request)))
        except self._errors as error:
            raise NoAnswer(str(error) or type(error).__name__) from None

    def close(self):
        return self._client.close()


class _AsyncHttp(_Http):
    def _make(self, httpx):
        return httpx.AsyncClient

    async def send(self, request: Send) -> Response:
        try:
            return _response(await self._client.request(*_method(request), **_content(request)))
        except self._errors as error:
            raise NoAnswer(str(error) or type(error).__name__) from None

    def close(self):
        return self._client.aclose()


def _method(request: Send) -> tuple[str, str]:
    return ("GET" if request.body is None else "POST"), request.path


def _content(request: Send) -> dict:
    return {"content": request.body, "headers": request.headers, "timeout": request.timeout}


def _response(answer) -> Response:
    return Response(answer.status_code, answer.headers, answer.content)


def _context(verify: str | bool):
    if isinstance(verify, bool):
        return verify
    try:
        return ssl.create_default_context(cafile=verify)
    except OSError as error:
        raise InputError(f"{verify} holds no certificates: {error}") from None


class _Rpc:
    def __init__(self, parts, token: str | None, verify: str | bool):
        import grpc

        self._grpc = grpc
        self._metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ]
        module = self._make(grpc)
        if parts.scheme == "grpc":
            self._channel = module.insecure_channel(parts.netloc, options)
        else:
            roots = None
            if isinstance(verify, str):
                with open(verify, "rb") as file:
                    roots = file.read()
            credentials = grpc.ssl_channel_credentials(roots)
            self._channel = module.secure_channel(parts.netloc, credentials, options)

    def _make(self, grpc):
        return grpc

    def _call(self, request: Send) -> Callable:
        return self._channel.unary_unary(request.path)

    def send(self, request: Send) -> Response:
        try:
            body = self._call(request)(
                request.body, timeout=request.timeout, metadata=self._metadata
            )
        except self._grpc.RpcError as error:
            return _of_error(error)
        return Response(200, {}, body)

    def close(self):
        return self._channel.close()


class _AsyncRpc(_Rpc):
    def _make(self, grpc):
        return grpc.aio

    async def send(self, request: Send) -> Response:
        try:
            body = await self._call(request)(
                request.body, timeout=request.timeout, metadata=self._metadata
            )
        except self._grpc.RpcError as error:
            return _of_error(error)
        return Response(200, {}, body)


# What a code of gRPC is among the statuses of HTTP.
_STATUSES = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


def _of_error(error) -> Response:
    metadata = dict(error.trailing_metadata() or ())
    body = json.dumps({"error": error.details()}).encode()
    return Response(_STATUSES.get(error.code().name, 500), metadata, body)
