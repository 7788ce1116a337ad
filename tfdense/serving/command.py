"""``tfdense serve``: answers requests over HTTP and gRPC."""

import argparse
import contextlib
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tfdense.errors import InputError, listed, printable
from tfdense.networks import check_network, is_preset, newest_saved_model
from tfdense.serving.tokens import check_token
from tfdense.startup import import_tensorflow

_TOKEN = "TFDENSE_TOKEN"
_LAST_PORT = 65535
_POSITIVE = (
    "threads",
    "workers",
    "batch",
    "queue",
    "timeout",
    "max_body",
    "max_pixels",
    "poll",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `run` reads."""
    parser.add_argument(
        "model",
        help="folder of exported versions, of which the newest answers, or whatever "
        "tfdense export saved-model takes, which is exported first",
    )
    add = parser.add_argument
    add("--name", help="of the model in the paths (the folder's)")
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine)")
    add("--port", type=int, default=8501, help="of HTTP (%(default)s); 0 takes a free one")
    add("--grpc-port", type=int, default=8500, help="of gRPC (%(default)s); -1 for none")
    add("--certificate", type=Path, metavar="FILE", help="for TLS (PEM)")
    add("--key", type=Path, metavar="FILE", help="of the certificate (PEM)")
    add(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"that holds the token which requests must bear (the variable {_TOKEN})",
    )
    add("--threads", type=int, metavar="N", help="of each computation (one a core)")
    add("--workers", type=int, default=1, help="batches computed beside each other (%(default)s)")
    add("--batch", type=int, default=4, metavar="N", help="most pairs in a batch (%(default)s)")
    add(
        "--patience",
        type=float,
        default=0.0,
        metavar="MS",
        help="that a request waits for others to join its batch (%(default)s)",
    )
    add("--queue", type=int, default=32, metavar="N", help="requests that may wait (%(default)s)")
    add("--timeout", type=float, default=60.0, metavar="S", help="of a request (%(default)s)")
    add("--max-body", type=float, default=64.0, metavar="MIB", help="of a request (%(default)s)")
    add(
        "--max-pixels",
        type=float,
        default=2.0,
        metavar="MILLION",
        help="of an image (%(default)s)",
    )
    add("--poll", type=float, default=2.0, metavar="S", help="between looks for new versions")


def run(arguments: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT."""
    _check_numbers(arguments)
    token = _token(arguments.token_file)
    try:
        from tfdense.serving import server
        from tfdense.serving.batching import Batcher
        from tfdense.serving.limits import Limits
        from tfdense.serving.logs import log, start_logging
        from tfdense.serving.metrics import Metrics
        from tfdense.serving.service import Service
        from tfdense.serving.versions import Versions
    except ModuleNotFoundError as error:
        raise InputError(
            f"Serving needs the package {error.name}: pip install 'tfdense[serve]'"
        ) from None
    server.check_tls(arguments.certificate, arguments.key)
    address = server.Address(
        arguments.host,
        arguments.port,
        None if arguments.grpc_port < 0 else arguments.grpc_port,
        arguments.certificate,
        arguments.key,
    )
    server.check_ports(address)
    _check_model(arguments.model)
    start_logging()
    log("starting TensorFlow")
    import_tensorflow()
    from tfdense.serving.model import load

    with _exported(arguments.model) as (folder, name):
        name = arguments.name or name
        metrics = Metrics()
        limits = Limits(
            body=int(arguments.max_body * 2**20),
            pixels=int(arguments.max_pixels * 1e6),
            seconds=arguments.timeout,
        )
        versions = Versions(
            folder,
            name,
            lambda path: load(path, arguments.threads),
            arguments.poll,
            lambda version: metrics.version.labels(name).set(version),
        )
        batcher = Batcher(
            lambda model, signature, inputs: model.run(signature, inputs),
            arguments.queue,
            arguments.batch,
            arguments.patience / 1000,
            arguments.workers,
            metrics,
        )
        service = Service(versions, batcher, limits, metrics)
        server.warn_of_strangers(address, token)

        def announce(actual: server.Address) -> None:
            scheme = "http" if actual.certificate is None else "https"
            log(
                "ready",
                model=name,
                version=versions.get()[0],
                http=f"{scheme}://{actual.host}:{actual.port}",
                grpc=actual.grpc_port and f"{actual.host}:{actual.grpc_port}",
            )

        server.Server(service, address, token, announce).run()
        service.close()
    return 0


def _check_numbers(arguments: argparse.Namespace) -> None:
    for option in _POSITIVE:
        value = getattr(arguments, option)
        if value is not None and not 0 < value < math.inf:
            name, wanted = f"--{option.replace('_', '-')}", "finite" if value > 0 else "above 0"
            raise InputError(f"Expected {name} {wanted}. Received: {value}")
    if not 0 <= arguments.patience < math.inf:
        raise InputError(f"Expected --patience from 0 ms. Received: {arguments.patience}")
    if not 0 <= arguments.port <= _LAST_PORT:
        raise InputError(f"Expected --port in 0..{_LAST_PORT}. Received: {arguments.port}")
    if not -1 <= arguments.grpc_port <= _LAST_PORT:
        raise InputError(
            f"Expected --grpc-port in 0..{_LAST_PORT}, or -1 for none. "
            f"Received: {arguments.grpc_port}"
        )
    if arguments.port == arguments.grpc_port != 0:
        raise InputError(
            f"Expected different numbers for --port and --grpc-port. Received: {arguments.port}"
        )


def _check_model(model: str) -> None:
    path = Path(model)
    if not is_preset(model):
        expected = (
            "Expected the folder that `tfdense export saved-model` wrote, of exported versions, a "
            "preset, or the folder of a run."
        )
        if not path.exists():
            raise InputError(f"There is no {model}. {expected}")
        if path.name == "saved_model.pb":
            raise InputError(f"{expected} Received a file in one: {printable(model)}")
        if path.is_dir() and not newest_saved_model(path) and not (path / "config.yaml").is_file():
            raise InputError(
                f"{expected} Received: {printable(model)}, which holds {_content(path)}"
            )
    check_network(model)


def _content(folder: Path) -> str:
    """Says what lies in a folder that is no model."""
    names = sorted(path.name for path in folder.iterdir())
    models = [name for name in names if newest_saved_model(folder / name)]
    if models:
        return f"the models {listed(models)}: give one of them"
    versions = [name for name in names if name.isdecimal()]
    if versions:
        return f"{listed(versions)} without saved_model.pb"
    return listed(names) or "nothing"


@contextlib.contextmanager
def _exported(model: str) -> Iterator[tuple[Path, str]]:
    """Gives the folder of a model's versions and its name; exports it first if it is none."""
    path = Path(model)
    if not is_preset(model) and newest_saved_model(path):
        versioned = (path / "saved_model.pb").is_file() and path.resolve().name.isdecimal()
        resolved = path.resolve()
        yield path, (resolved.parent if versioned else resolved).name
        return
    from tfdense.exporting import export_saved_model
    from tfdense.serving.logs import log

    log("exporting", model=model)
    with tempfile.TemporaryDirectory(prefix="tfdense-") as folder:
        name = path.resolve().name.partition(".")[0]
        export_saved_model(model, Path(folder, name))
        yield Path(folder, name), name


def _token(path: Path | None) -> str | None:
    if path is None:
        token = os.environ.get(_TOKEN)
        return check_token(token, f" in {_TOKEN}") if token else None
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the token of {path}: {error}") from None
    if not token:
        raise InputError(f"Expected a token in {path}. Received: an empty file")
    return check_token(token, f" in {path}")
