"""What a client sends and how it takes the answer, for each protocol; without any network.

A call is a generator: it yields what to do (`Send` or `Wait`), is sent the `Response` or thrown the
`NoAnswer`, and returns the outputs. So clients that block and asynchronous ones share it.
"""

import contextlib
import numbers
import random
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from tfdense.checks import check_number
from tfdense.errors import InputError, listed, printable, shown
from tfdense.serving.protocols import messages, open_inference, rest
from tfdense.serving.refusal import Refusal

PROTOCOLS = ("open-inference", "rest", "grpc")
_RETRIED = (429, 502, 503)
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 10.0
_LONGEST_TIMEOUT = 1e6  # s; sockets know no more than 2^31 ms


class ServerError(InputError):
    """A server that did not answer as asked.

    Attributes:
        status: of HTTP, whatever the protocol; None if there was no answer.
    """

    def __init__(self, message: str, status: int | None = None):
        super().__init__(message)
        self.status = status


class NoAnswer(Exception):
    """The connection failed."""


class Response(NamedTuple):
    """What came back. Its headers have names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Send(NamedTuple):
    """To be sent: by POST if there is a body, over HTTP; the path is a method's over gRPC."""

    path: str
    body: bytes | None
    headers: dict[str, str]
    timeout: float


class Wait(NamedTuple):
    """To be waited, in s."""

    seconds: float


Call = Generator[Send | Wait, Response | None, Any]


class Caller:
    """Makes the calls of one model.

    Args:
        url: of the server, for messages.
        name: of the model; None asks the server, which only `tfdense serve` answers.
        protocol: one of `PROTOCOLS`.
        version: of the model; None takes the newest.
        timeout: of a call with its repetitions, in s.
        retries: how often a call is repeated that failed for a while.
    """

    def __init__(
        self,
        url: str,
        name: str | None,
        protocol: str,
        version: int | None,
        timeout: float,
        retries: int,
    ):
        if protocol not in PROTOCOLS:
            raise InputError(
                f"Expected a protocol of {', '.join(PROTOCOLS)}. Received: {shown(protocol)}"
            )
        if name is None and protocol == "grpc":
            raise InputError(
                "Expected the model's name, which gRPC cannot ask for; http:// can, which "
                "tfdense match --server takes."
            )
        if name is not None and not (isinstance(name, str) and name):
            raise InputError(f"Expected the model's name as a text. Received: {shown(name)}")
        wanted = f"timeout in s, above 0 and at most {_LONGEST_TIMEOUT:.0f}"
        if not 0 < check_number(wanted, timeout) <= _LONGEST_TIMEOUT:
            raise InputError(f"Expected {wanted}. Received: {shown(timeout)}")
        if version is not None:
            version = _whole("version", version)
        self._url, self._name, self._protocol, self._version = url, name, protocol, version
        self._timeout, self._retries = float(timeout), _whole("retries", retries)

    def predict(self, signature: str, inputs: dict, outputs: tuple[str, ...]) -> Call:
        """Calls a signature; returns its outputs by name."""
        deadline = time.monotonic() + self._timeout
        path = yield from self._path(deadline)
        if self._protocol == "grpc":
            body = self._message(signature, inputs, outputs)
            path = f"/{messages.PREDICTION_SERVICE}/Predict"
            response = yield from self._send(path, body, {}, deadline)
            with self.understanding():
                answer = messages.MESSAGES["PredictResponse"].FromString(response.body)
                found = {
                    name: messages.from_message(tensor, name)
                    for name, tensor in answer.outputs.items()
                }
        elif self._protocol == "rest":
            body = rest.write_request(signature, inputs)
            response = yield from self._send(f"{path}:predict", body, _JSON, deadline)
            with self.understanding():
                found = rest.read_response(response.body)
        else:
            pieces, length = open_inference.write_request(signature, inputs, outputs)
            headers = {"Content-Type": "application/octet-stream"}
            if length is not None:
                headers[open_inference.HEADER_LENGTH] = str(length)
            response = yield from self._send(f"{path}/infer", b"".join(pieces), headers, deadline)
            length = response.headers.get(open_inference.HEADER_LENGTH.lower())
            with self.understanding():
                found = open_inference.read_response(response.body, length)
        missing = [name for name in outputs if name not in found]
        if missing:
            raise ServerError(
                f"{self._url} does not answer {listed(missing)}, but {listed(found) or 'nothing'}."
            )
        return {name: found[name] for name in outputs} if outputs else found

    def description(self) -> Call:
        """Returns what the export says of itself; only `tfdense serve` knows it."""
        if self._protocol == "grpc":
            raise InputError("Expected a server by http:// or https://. Received: gRPC")
        deadline = time.monotonic() + self._timeout
        path = yield from self._path(deadline)
        where = f"{path}/metadata" if self._protocol == "rest" else path
        response = yield from self._send(where, None, {}, deadline)
        with self.understanding():
            content = rest.read_json(response.body)
            description = content.get("metadata", content).get("tfdense")
        if not isinstance(description, dict):
            raise ServerError(f"{self._url} does not say what its model needs: no tfdense serve.")
        return description

    def ready(self) -> Call:
        """Returns whether the server answers requests now."""
        deadline = time.monotonic() + self._timeout
        try:
            if self._protocol == "grpc":
                path = f"/{messages.HEALTH_SERVICE}/Check"
                response = yield Send(path, b"", {}, self._timeout)
                return response.body == b"\x08\x01"
            path = yield from self._path(deadline, retries=0)
            path = path if self._protocol == "rest" else f"{path}/ready"
            response = yield Send(path, None, {}, self._timeout)
        except (NoAnswer, ServerError):
            return False
        return response.status == 200

    @contextlib.contextmanager
    def understanding(self) -> Iterator[None]:
        """Reads an answer; what is none by the protocol is an error of the server."""
        try:
            yield
        except Exception:  # strangers answer anything
            raise ServerError(
                f"What answers at {self._url} does not speak the protocol {self._protocol}: is it "
                "a tfdense serve?"
            ) from None

    def _path(self, deadline: float, retries: int | None = None) -> Call:
        """Returns the path of the model."""
        if self._protocol == "grpc":
            return ""
        if self._name is None:
            response = yield from self._send("/v2", None, {}, deadline, retries)
            with self.understanding():
                names = rest.read_json(response.body).get("models")
            if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
                raise ServerError(f"{self._url} does not name its model: give it.")
            (self._name,) = names
        version = "" if self._version is None else f"/versions/{self._version}"
        return f"/{'v1' if self._protocol == 'rest' else 'v2'}/models/{self._name}{version}"

    def _message(self, signature: str, inputs: dict, outputs: tuple[str, ...]) -> bytes:
        request = messages.MESSAGES["PredictRequest"](output_filter=outputs)
        request.model_spec.name = self._name
        request.model_spec.signature_name = signature
        if self._version is not None:
            request.model_spec.version.value = self._version
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(messages.to_message(values))
        return request.SerializeToString()

    def _send(
        self, path: str, body: bytes | None, headers: dict, deadline: float, retries=None
    ) -> Call:
        """Sends, and again after a while where that may help; returns what came back."""
        retries = self._retries if retries is None else retries
        for attempt in range(retries + 1):
            wait = _FIRST_WAIT * 2 ** min(attempt, 10) * random.uniform(0.5, 1.0)
            try:
                response = yield Send(path, body, headers, max(0.001, deadline - time.monotonic()))
            except NoAnswer as error:
                failure = ServerError(f"{self._url} does not answer: {error}")
            else:
                if response.status == 200:
                    return response
                failure = ServerError(f"{self._url}: {_reason(response)}", response.status)
                if response.status not in _RETRIED:
                    raise failure
                wait = max(wait, _seconds(response.headers.get("retry-after")))
            wait = min(wait, _LONGEST_WAIT)
            if attempt == retries or time.monotonic() + wait > deadline:
                raise failure
            yield Wait(wait)


_JSON = {"Content-Type": "application/json"}


def tensors(inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns inputs as arrays, lists of bytes as arrays of objects."""
    found = {}
    for name, values in inputs.items():
        if isinstance(values, list) and all(isinstance(each, bytes) for each in values):
            found[name] = np.empty(len(values), object)
            found[name][:] = values
        else:
            found[name] = np.asarray(values)
    return found


def _whole(what: str, value) -> int:
    """Returns a whole number from 0 as int."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise InputError(f"Expected {what} as a whole number from 0. Received: {shown(value)}")
    return int(value)


def _reason(response: Response) -> str:
    """Returns in one line why a server refuses."""
    try:
        return _line(str(rest.read_json(response.body)["error"]))
    except (Refusal, KeyError):
        text = _line(response.body[:200].decode(errors="replace"))
        return f"{text or 'no reason'} (status {response.status}, not as a tfdense serve answers)"


def _line(text: str) -> str:
    return printable(" ".join(text[:1000].split()))


def _seconds(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:  # a date
        return 0.0
