"""The server's HTTP: TensorFlow Serving's REST, the open inference protocol, health, metrics."""

import contextlib
import hmac
import re
import time
import uuid
from collections.abc import Callable
from importlib import resources

import orjson
from google.protobuf.json_format import MessageToDict
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import tfdense.serving
from tfdense.serving.bodies import read_body
from tfdense.serving.logs import log
from tfdense.serving.protocols import open_inference, rest
from tfdense.serving.protocols.tensors import type_name
from tfdense.serving.refusal import Refusal, wrong
from tfdense.serving.service import Service

_OPEN = ("/", "/livez", "/readyz", "/v2/health/live", "/v2/health/ready")
_BINARY = "application/octet-stream"


def make_app(service: Service, token: str | None = None, lifespan: Callable | None = None):
    """Returns the ASGI application.

    Args:
        service: answers the requests.
        token: that requests must bear, but those of health and the page; None lets all pass.
        lifespan: of Starlette, run around the application.
    """
    v1, v2 = "/v1/models/{name}", "/v2/models/{name}"
    handlers = _Handlers(service)
    routes = [Route("/", handlers.page), Route("/metrics", handlers.metrics)]
    for path in ("/livez", "/v2/health/live"):
        routes.append(Route(path, handlers.live))
    for path in ("/readyz", "/v2/health/ready"):
        routes.append(Route(path, handlers.ready))
    for version in ("", "/versions/{version}"):
        routes += [
            Route(f"{v1}{version}:predict", handlers.predict, methods=["POST"]),
            *(
                Route(f"{v1}{version}:{verb}", handlers.other_verb, methods=["GET", "POST"])
                for verb in ("predict", "classify", "regress")
            ),
            Route(f"{v1}{version}/metadata", handlers.metadata),
            Route(f"{v2}{version}/infer", handlers.infer, methods=["POST"]),
            Route(f"{v2}{version}/ready", handlers.model_ready),
            Route(f"{v2}{version}", handlers.model_metadata),
            Route(f"{v1}{version}", handlers.status),
        ]
    routes.append(Route("/v2", handlers.server_metadata))
    app = Starlette(routes=routes, lifespan=lifespan)
    app.add_exception_handler(Refusal, lambda request, refusal: _refused(refusal))
    app.add_exception_handler(
        HTTPException, lambda request, error: _refused(Refusal(error.status_code, error.detail))
    )
    app.add_exception_handler(Exception, lambda request, error: _refused(service.refusal(error)))
    return _Front(app, service, token)


class _Front:
    """Checks the token, and logs and counts every request."""

    def __init__(self, app, service: Service, token: str | None):
        self._app, self._service, self._token = app, service, token

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        start, status = time.monotonic(), 499
        identity = _header(scope, b"x-request-id") or uuid.uuid4().hex
        identity = re.sub(r"[^\w.-]", "", identity)[:64]

        async def sending(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", identity.encode())]
            await send(message)

        if scope["path"] not in _OPEN and not self._is_allowed(scope):
            response = _refused(Refusal(401, "Expected the header Authorization: Bearer TOKEN."))
            await response(scope, receive, sending)
        else:
            with contextlib.suppress(Exception):  # was answered and logged, and is raised again
                await self._app(scope, receive, sending)
        seconds = time.monotonic() - start
        answered = scope.get("tfdense", {})
        if scope["method"] == "POST":
            metrics, protocol = self._service.metrics, answered.get("protocol", "http")
            metrics.requests.labels(protocol, answered.get("signature", ""), status).inc()
            metrics.latency.labels(protocol).observe(seconds)
        if scope["path"] not in (*_OPEN, "/metrics"):
            log(
                "request",
                id=identity,
                method=scope["method"],
                path=scope["path"][:200],
                status=status,
                ms=round(1000 * seconds, 1),
                **answered,
            )

    def _is_allowed(self, scope) -> bool:
        if self._token is None:
            return True
        given = _header(scope, b"authorization") or ""
        return hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode())


class _Handlers:
    """What answers each path."""

    def __init__(self, service: Service):
        self._service = service
        page = resources.files(tfdense.serving).joinpath("page.html").read_text("utf-8")
        self._page = page.replace("{{MODEL}}", service.name)

    async def page(self, request: Request) -> Response:
        policy = "default-src 'self'; img-src blob: data:; style-src 'unsafe-inline'; "
        policy += "script-src 'unsafe-inline'; frame-ancestors 'none'"
        return Response(
            self._page, media_type="text/html", headers={"Content-Security-Policy": policy}
        )

    async def live(self, request: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        stopping = self._service.stopping
        return _json({"ready": not stopping}, 503 if stopping else 200)

    async def metrics(self, request: Request) -> Response:
        return Response(
            self._service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    async def status(self, request: Request) -> Response:
        self._model(request)
        states = [
            {
                "version": str(version),
                "state": "END" if reason else "AVAILABLE",
                "status": {
                    "error_code": "UNKNOWN" if reason else "OK",
                    "error_message": reason,
                },
            }
            for version, reason in sorted(self._service.versions.states().items(), reverse=True)
            if str(version) == request.path_params.get("version", str(version))
        ]
        return _json({"model_version_status": states})

    async def metadata(self, request: Request) -> Response:
        version, model = self._model(request)
        definitions = {
            name: MessageToDict(
                definition,
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
            for name, definition in model.definitions.items()
        }
        return _json(
            {
                "model_spec": {
                    "name": self._service.name,
                    "signature_name": "",
                    "version": str(version),
                },
                "metadata": {
                    "signature_def": {"signature_def": definitions},
                    "tfdense": model.description,
                },
            }
        )

    async def server_metadata(self, request: Request) -> Response:
        return _json(
            {
                "name": "tfdense",
                "version": tfdense.__version__,
                "extensions": ["binary_tensor_data"],
                "models": [self._service.name],
            }
        )

    async def model_ready(self, request: Request) -> Response:
        self._model(request)
        return await self.ready(request)

    async def model_metadata(self, request: Request) -> Response:
        version, model = self._model(request)
        signatures = {
            name: {
                kind: [_described(name, spec) for name, spec in getattr(signature, kind).items()]
                for kind in ("inputs", "outputs")
            }
            for name, signature in model.signatures.items()
        }
        return _json(
            {
                "name": self._service.name,
                "versions": [str(version)],
                "platform": "tensorflow_savedmodel",
                **signatures[rest.DEFAULT_SIGNATURE],
                "signatures": signatures,
                "tfdense": model.description,
            }
        )

    async def predict(self, request: Request) -> Response:
        start = time.monotonic()
        version, model, body = await self._begin(request, "rest")
        signature, inputs, rows = await self._service.in_thread(
            len(body), rest.read_request, body, model.signatures
        )
        request.scope["tfdense"] |= {"signature": signature, "version": version}
        outputs = await self._service.run(model, signature, inputs, start)
        content = await self._service.in_thread(_size(outputs), rest.write_response, outputs, rows)
        return Response(content, media_type="application/json")

    async def other_verb(self, request: Request) -> Response:
        verb = request.url.path.rpartition(":")[2]
        raise Refusal(405, f"Expected POST of :predict. Received: {request.method} of :{verb}")

    async def infer(self, request: Request) -> Response:
        start = time.monotonic()
        version, model, body = await self._begin(request, "open-inference")
        signature, inputs, wanted, as_bytes, identity = await self._service.in_thread(
            len(body),
            open_inference.read_request,
            body,
            request.headers.get(open_inference.HEADER_LENGTH),
            model.signatures,
        )
        request.scope["tfdense"] |= {"signature": signature, "version": version}
        outputs = await self._service.run(model, signature, inputs, start)
        if wanted:
            outputs = {name: outputs[name] for name in wanted}
        pieces, length = await self._service.in_thread(
            _size(outputs),
            open_inference.write_response,
            self._service.name,
            str(version),
            identity,
            outputs,
            as_bytes,
        )
        headers = {} if length is None else {open_inference.HEADER_LENGTH: str(length)}
        kind = "application/json" if length is None else _BINARY
        return Response(b"".join(pieces), media_type=kind, headers=headers)

    def _model(self, request: Request):
        text = request.path_params.get("version")
        if text is not None and not (text.isascii() and text.isdecimal() and len(text) < 19):
            raise wrong(f"Expected a version as a number. Received: {text[:40]!r}")
        if text is not None and text != str(int(text)):  # a version has one name
            raise Refusal(404, f"There is no version {text}.")
        return self._service.model(request.path_params["name"], text and int(text))

    async def _begin(self, request: Request, protocol: str):
        """Takes a request if there is room for it; returns what answers it, and its body."""
        request.scope["tfdense"] = {"protocol": protocol}
        try:
            version, model = self._model(request)
            self._service.admit()
        except Refusal:
            # A connection that is closed on unread data loses the answer.
            with contextlib.suppress(Refusal):
                await read_body(request, self._service.limits, keep=False)
            raise
        return version, model, await read_body(request, self._service.limits)


def _refused(refusal: Refusal) -> Response:
    headers = {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(round(refusal.retry_after))
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _json({"error": refusal.reason}, refusal.status, headers)


def _json(content, status: int = 200, headers: dict | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")


def _described(name: str, spec) -> dict:
    return {
        "name": name,
        "datatype": open_inference.datatype(spec.dtype),
        "shape": [-1 if side is None else side for side in spec.shape],
        "parameters": {
            "description": spec.description,
            "optional": spec.optional,
            "type": type_name(spec.dtype),
        },
    }


def _size(outputs) -> int:
    return sum(values.nbytes for values in outputs.values())


def _header(scope, name: bytes) -> str | None:
    found = [value for key, value in scope["headers"] if key == name]
    return found[0].decode("latin-1") if found else None
