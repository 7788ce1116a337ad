"""Running the server: its ports, its signals and its end."""

import asyncio
import contextlib
import dataclasses
import errno
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tfdense.errors import InputError
from tfdense.serving.http import make_app
from tfdense.serving.logs import log
from tfdense.serving.rpc import make_server
from tfdense.serving.service import Service

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_MOST_CONNECTIONS = 512
_HEADER_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Address:
    """Where a server listens.

    Attributes:
        host: a name or number of this machine.
        port: of HTTP; 0 takes a free one.
        grpc_port: likewise; None for no gRPC.
        certificate, key: files (PEM) for TLS on both; None for none.
    """

    host: str = "127.0.0.1"
    port: int = 8501
    grpc_port: int | None = 8500
    certificate: Path | None = None
    key: Path | None = None


class Server(uvicorn.Server):
    """Serves until a signal comes; then what runs is answered, within the limit of time.

    Args:
        service: answers the requests.
        address: where to listen.
        token: that requests must bear; None for none.
        started: is told the address with its actual ports.
    """

    def __init__(
        self,
        service: Service,
        address: Address,
        token: str | None = None,
        started: Callable[[Address], None] = lambda address: None,
    ):
        self._service, self._address, self._token = service, address, token
        self._started = started
        self._rpc: grpc.aio.Server | None = None
        super().__init__(
            uvicorn.Config(
                make_app(service, token),
                host=address.host,
                port=address.port,
                http=_Protocol,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_graceful_shutdown=round(service.limits.seconds) + 5,
                ssl_certfile=address.certificate,
                ssl_keyfile=address.key,
            )
        )

    def run(self, sockets=None) -> None:
        if threading.current_thread() is threading.main_thread():
            # uvicorn raises the signal again when it has ended, which would end the process there.
            signal.signal(signal.SIGTERM, lambda *_: None)
        with contextlib.suppress(KeyboardInterrupt):
            super().run(sockets)

    async def startup(self, sockets=None) -> None:
        where = f"{self._address.host}:{self._address.port}"
        try:
            await super().startup(sockets)
        except SystemExit:  # which uvicorn makes of it
            raise InputError(f"Cannot listen on {where}; is another program there?") from None
        port = self.servers[0].sockets[0].getsockname()[1]
        grpc_port = await self._start_rpc()
        address = dataclasses.replace(self._address, port=port, grpc_port=grpc_port)
        self._started(address)

    def handle_exit(self, sig, frame) -> None:
        self._service.stopping = True  # not ready from now on, also while requests run
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets=None) -> None:
        self._service.stopping = True
        log("stopping")
        ends = [super().shutdown(sockets)]
        if self._rpc is not None:
            ends.append(self._rpc.stop(self._service.limits.seconds))
        await asyncio.gather(*ends)
        log("stopped")

    async def _start_rpc(self) -> int | None:
        address = self._address
        if address.grpc_port is None:
            return None
        self._rpc = make_server(self._service, self._token)
        host = f"[{address.host}]" if ":" in address.host else address.host
        where = f"{host}:{address.grpc_port}"
        try:
            if address.certificate is None:
                port = self._rpc.add_insecure_port(where)
            else:
                pair = address.key.read_bytes(), address.certificate.read_bytes()
                port = self._rpc.add_secure_port(where, grpc.ssl_server_credentials([pair]))
        except RuntimeError:
            raise InputError(f"Cannot listen on {where}; is another program there?") from None
        await self._rpc.start()
        return port


def check_ports(address: Address) -> None:
    """Makes sure, before a model is loaded, that no other program listens there.

    Raises:
        InputError: if one does, the host is none of this machine's, or the port not for this user.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    for port in (address.port, address.grpc_port):
        if port is None:
            continue
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((address.host, port))
            except (OSError, TypeError) as error:  # the latter of what can be no name
                where = f"{address.host}:{port}"
                if getattr(error, "errno", None) == errno.EADDRINUSE:
                    raise InputError(
                        f"Cannot listen on {where}; is another program there?"
                    ) from None
                reason = getattr(error, "strerror", None) or "no name of a machine"
                raise InputError(f"Cannot listen on {where}: {reason}") from None


def check_tls(certificate: Path | None, key: Path | None) -> None:
    """Makes sure that a certificate and its key can be used.

    Raises:
        InputError: if they cannot.
    """
    if (certificate is None) != (key is None):
        raise InputError("Expected both a certificate and its key for TLS. Received: one of them")

    def passphrase():  # for which OpenSSL would ask at the terminal
        raise InputError(f"Expected a key without a passphrase. Received: {key}, which has one")

    if certificate is not None:
        try:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate, key, passphrase)
        except (OSError, ssl.SSLError) as error:
            raise InputError(f"{certificate} and {key} are no pair for TLS: {error}") from None


def warn_of_strangers(address: Address, token: str | None) -> None:
    """Logs what anybody in the network could do with a server that others reach."""
    if address.host in _LOOPBACK:
        return
    for missing, what in ((token, "token"), (address.certificate, "TLS")):
        if missing is None:
            log(f"open to the network without {what}", logging.WARNING, host=address.host)


class _Protocol(H11Protocol):
    """Closes connections whose request, the first or a further one, does not come to begin."""

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        self._timer = self.loop.call_later(_HEADER_SECONDS, self._close_if_silent)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # uvicorn's own patience ends with the first byte of the next request.
        self._timer.cancel()
        self._timer = self.loop.call_later(_HEADER_SECONDS, self._close_if_silent)

    def connection_lost(self, exc) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def _close_if_silent(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            with contextlib.suppress(OSError):
                self.transport.close()
