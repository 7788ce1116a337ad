"""The connections of a client: HTTP and gRPC, blocking and asynchronous."""

import json
import re
import ssl
from collections.abc import Callable
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from tfdense.client.calls import NoAnswer, Response, Send
from tfdense.errors import InputError, printable, shown

_SCHEMES = ("http", "https", "grpc", "grpcs")
_USER = re.compile(r"^(\w+://)?.*@", re.DOTALL)


class Address(NamedTuple):
    """A server.

    Attributes:
        url: as it was given.
        scheme: of it.
        place: host and port.
        user: what stands before them, which may be a password, or an empty text.
        shown: the URL without that, for messages.
    """

    url: str
    scheme: str
    place: str
    user: str
    shown: str

    @classmethod
    def of(cls, url) -> "Address":
        """Takes a URL apart.

        Raises:
            InputError: if it is none of a server.
        """
        try:
            parts = urlsplit(url)
            # Reading the port checks it.
            known = parts.hostname and parts.port != 0 and parts.scheme in _SCHEMES
        except (ValueError, AttributeError, TypeError):
            known = False
        if not isinstance(url, str) or not known or not url.isprintable():
            visible = _USER.sub(r"\1", url) if isinstance(url, str) else url
            raise InputError(
                "Expected a server as http://HOST:PORT, https://, grpc:// or grpcs://. "
                f"Received: {shown(visible)}"
            )
        user, _, place = parts.netloc.rpartition("@")
        return cls(url, parts.scheme, place, user, _USER.sub(r"\1", url))


class Transport(Protocol):
    """A connection, which gives a `Response` for what is sent, or an awaitable of one."""

    def send(self, request: Send): ...

    def close(self): ...


def connect(server: Address, token: str | None, verify: str | bool, is_async: bool) -> Transport:
    """Returns what speaks to a server.

    Args:
        server: where it is.
        token: that requests bear, or None.
        verify: a file (PEM) of certificates to trust, or whether to check them at all.
        is_async: whether `Transport.send` is to be awaited.

    Raises:
        InputError: if there is no such server, or a package is missing.
    """
    try:
        if server.scheme.startswith("grpc"):
            return (_AsyncRpc if is_async else _Rpc)(server, token, verify)
        return (_AsyncHttp if is_async else _Http)(server, token, verify)
    except ModuleNotFoundError as error:
        raise InputError(
            f"The client needs the package {error.name}: pip install 'tfdense[client]'"
        ) from None


class _Http:
    def __init__(self, server: Address, token: str | None, verify: str | bool):
        import httpx

        # The latter two are of hosts and paths that can be none.
        self._errors = httpx.HTTPError, httpx.InvalidURL, UnicodeError
        self._client = self._make(httpx)(
            base_url=server.url.rstrip("/"),
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
    except (OSError, TypeError, ValueError) as error:
        raise InputError(f"{printable(str(verify))} holds no certificates: {error}") from None


class _Rpc:
    def __init__(self, server: Address, token: str | None, verify: str | bool):
        import grpc

        if server.user:
            raise InputError(f"Expected no user in a URL of gRPC. Received: one at {server.shown}")
        if server.scheme == "grpcs" and verify is False:
            raise InputError(
                "Expected verify to be a file of certificates or True for grpcs://, since gRPC "
                "always checks them. Received: False"
            )
        self._grpc = grpc
        self._metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ]
        module = self._make(grpc)
        if server.scheme == "grpc":
            self._channel = module.insecure_channel(server.place, options)
        else:
            roots = None
            if verify not in (None, True):
                _context(verify)  # which refuses what is no such file
                with open(verify, "rb") as file:
                    roots = file.read()
            credentials = grpc.ssl_channel_credentials(roots)
            self._channel = module.secure_channel(server.place, credentials, options)

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
