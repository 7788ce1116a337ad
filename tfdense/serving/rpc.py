"""The server's gRPC: what TensorFlow Serving's own client calls, and gRPC's health check."""

import hmac
import time

import grpc
from google.protobuf.message import DecodeError

from tfdense.serving.logs import log
from tfdense.serving.protocols.messages import (
    HEALTH_SERVICE,
    MESSAGES,
    MODEL_SERVICE,
    PREDICTION_SERVICE,
    from_message,
    to_message,
)
from tfdense.serving.protocols.rest import signature_of
from tfdense.serving.refusal import Refusal, wrong
from tfdense.serving.service import Service

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_AVAILABLE, _ENDED, _UNKNOWN = 30, 50, 2
_SERVING, _NOT_SERVING = 1, 2
_SIGNATURE_DEF = "signature_def"
_MAP_TYPE = "type.googleapis.com/tensorflow.serving.SignatureDefMap"


def make_server(service: Service, token: str | None = None) -> grpc.aio.Server:
    """Returns a server without a port, for the running event loop.

    Args:
        service: answers the requests.
        token: that calls must bear in their metadata ("authorization", "Bearer ..."), but those
            of health.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", service.limits.body),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ],
        maximum_concurrent_rpcs=512,
    )
    calls = _Calls(service, token)
    for name, methods in (
        (
            PREDICTION_SERVICE,
            {"Predict": calls.predict, "GetModelMetadata": calls.get_model_metadata},
        ),
        (MODEL_SERVICE, {"GetModelStatus": calls.get_model_status}),
        (HEALTH_SERVICE, {"Check": calls.check}),
    ):
        handlers = {key: _handler(key, method) for key, method in methods.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    return server


def _handler(name: str, method) -> grpc.RpcMethodHandler:
    prefix = "HealthCheck" if name == "Check" else name
    message = MESSAGES[f"{prefix}Request"]

    def read(content: bytes):
        try:
            return message.FromString(content)
        except DecodeError:  # of which gRPC would make a failure of the server
            return None

    async def call(request, context):
        if request is None:
            reason = f"Expected a message {prefix}Request. Received: what is none"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
        return await method(request, context)

    return grpc.unary_unary_rpc_method_handler(
        call, read, MESSAGES[f"{prefix}Response"].SerializeToString
    )


class _Calls:
    def __init__(self, service: Service, token: str | None):
        self._service, self._token = service, token

    async def predict(self, request, context):
        start, status, signature = time.monotonic(), 499, ""  # the client has gone
        try:
            self._check_token(context)
            version, model = self._model(request.model_spec)
            self._service.admit()
            signature = signature_of(request.model_spec.signature_name, model.signatures)
            inputs = {
                name: from_message(tensor, name[:80]) for name, tensor in request.inputs.items()
            }
            wanted = list(request.output_filter) or list(model.signatures[signature].outputs)
            for name in wanted:
                if name not in model.signatures[signature].outputs:
                    raise wrong(f"There is no output {name[:80]!r}.")
            outputs = await self._service.run(model, signature, inputs, start)
            response = MESSAGES["PredictResponse"]()
            self._fill(response.model_spec, version)
            response.model_spec.signature_name = signature
            for name in wanted:
                response.outputs[name].CopyFrom(to_message(outputs[name]))
            status = 200
        except Exception as error:
            refusal = self._service.refusal(error)
            status = refusal.status
            await self._abort(context, refusal)
        finally:
            seconds = time.monotonic() - start
            self._service.metrics.requests.labels("grpc", signature, status).inc()
            self._service.metrics.latency.labels("grpc").observe(seconds)
            log(
                "request",
                protocol="grpc",
                signature=signature,
                status=status,
                ms=round(1000 * seconds, 1),
            )
        return response

    async def get_model_metadata(self, request, context):
        try:
            self._check_token(context)
            version, model = self._model(request.model_spec)
            if list(request.metadata_field) != [_SIGNATURE_DEF]:
                raise wrong(f"Expected the metadata field {_SIGNATURE_DEF}.")
        except Refusal as refusal:
            await self._abort(context, refusal)
        signatures = MESSAGES["SignatureDefMap"]()
        for name, definition in model.definitions.items():
            signatures.signature_def[name] = definition.SerializeToString()
        response = MESSAGES["GetModelMetadataResponse"]()
        self._fill(response.model_spec, version)
        response.metadata[_SIGNATURE_DEF].type_url = _MAP_TYPE
        response.metadata[_SIGNATURE_DEF].value = signatures.SerializeToString()
        return response

    async def get_model_status(self, request, context):
        try:
            self._check_token(context)
            self._model(request.model_spec)
        except Refusal as refusal:
            await self._abort(context, refusal)
        response = MESSAGES["GetModelStatusResponse"]()
        for version, reason in sorted(self._service.versions.states().items(), reverse=True):
            status = response.model_version_status.add(version=version)
            status.state = _ENDED if reason else _AVAILABLE
            status.status.error_code = _UNKNOWN if reason else 0
            status.status.error_message = reason
        return response

    async def check(self, request, context):
        status = _NOT_SERVING if self._service.stopping else _SERVING
        return MESSAGES["HealthCheckResponse"](status=status)

    def _model(self, spec):
        if spec.version_label:
            raise Refusal(404, "Expected a version as a number. Received: a label")
        version = spec.version.value if spec.HasField("version") else None
        return self._service.model(spec.name, version)

    def _fill(self, spec, version: int) -> None:
        spec.name = self._service.name
        spec.version.value = version

    def _check_token(self, context) -> None:
        if self._token is None:
            return
        given = dict(context.invocation_metadata() or ()).get("authorization", "")
        if not hmac.compare_digest(str(given).encode(), f"Bearer {self._token}".encode()):
            raise Refusal(401, "Expected the metadata authorization: Bearer TOKEN.")

    async def _abort(self, context, refusal: Refusal) -> None:
        metadata = ()
        if refusal.retry_after is not None:
            metadata = (("retry-after", str(round(refusal.retry_after))),)
        code = _CODES.get(refusal.status, grpc.StatusCode.INTERNAL)
        await context.abort(code, refusal.reason, metadata)
