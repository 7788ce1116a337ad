"""Requests to `tfdense serve`, by all its protocols, to a server of a model that needs no time."""

import base64
import contextlib
import json
import socket
import struct

import grpc
import numpy as np
import pytest
from hypothesis import strategies as st
from known_server import image, png, running
from mutations import EDITS, apply, mutated
from oracle import Finding, by_the_test, fuzz

from tfdense.serving import server as servers
from tfdense.serving.limits import Limits
from tfdense.serving.protocols import open_inference, rest
from tfdense.serving.protocols.messages import MESSAGES, from_message, to_message
from tfdense.serving.refusal import Refusal

pytestmark = pytest.mark.fuzz

_LIMITS = Limits(body=2**18, pixels=4096, reading=0.3, seconds=3.0)
_NAME = "known"


class Refused(Exception):
    """What the server answered, where that is a refusal."""


@pytest.fixture
def trial(trial):
    trial.refusals = (Refused, Refusal)
    return trial


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers, "_HEADER_SECONDS", 0.3)
        with running(tmp_path_factory.mktemp("server"), limits=_LIMITS) as server:
            yield server


@pytest.fixture(autouse=True)
def address(server, trial):
    """The server's threads are of this process: what they do is watched, too."""
    trial.server = server
    yield
    answer = _ask(server, b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b'{"live":true}' in answer


_B64 = {"b64": base64.b64encode(png(image())).decode()}
_DENSE = {"source": image(5)[None], "target": image(6)[None]}
_ENCODED = {role: np.array([png(image())], object) for role in ("source", "target")}
_POINTS = {**_ENCODED, "target_points": np.ones([1, 2, 2], np.float32)}
_BY_SIGNATURE = {"match": _DENSE, "match_encoded": _ENCODED, "match_points": _POINTS}

_REST = [rest.write_request(name, inputs) for name, inputs in _BY_SIGNATURE.items()]
_REST.append(json.dumps({"instances": [{"source": image().tolist()} for _ in range(2)]}).encode())
_REST.append(
    json.dumps(
        {"signature_name": "match_encoded", "inputs": {"source": [_B64], "target": [_B64]}}
    ).encode()
)


def _binary(binary: bool) -> list[tuple[bytes, int | None]]:
    found = []
    for name, inputs in _BY_SIGNATURE.items():
        pieces, length = open_inference.write_request(name, inputs, (), binary)
        found.append((b"".join(pieces), length))
    return found


_OPEN = _binary(True) + _binary(False)


def _signatures(trial):
    return trial.server.models[1].signatures


def _ask(server, content: bytes) -> bytes:
    """Sends bytes as they are; returns all that comes back until the connection ends."""
    answer = b""
    with by_the_test():
        client = socket.create_connection(("127.0.0.1", server.port), 10)
    with client:
        with contextlib.suppress(ConnectionError):
            client.sendall(content)
        with contextlib.suppress(ConnectionError):
            while part := client.recv(2**16):
                answer += part
    return answer


def _check(answer: bytes) -> None:
    """Raises what an answer means; none at all is that of a connection which was broken off."""
    if not answer:
        raise Refused("the connection was closed")
    head, _, body = answer.partition(b"\r\n\r\n")
    line = head.split(b"\r\n")[0].split(b" ", 2)
    status = int(line[1])
    if status < 400:
        return
    if status >= 500 and status not in (503, 504):
        raise Finding(f"the server answered {status}: {body[:300]!r}")
    if b"application/json" in head:
        reason = json.loads(body.split(b"\r\nHTTP/")[0] or b"{}")["error"]
    else:
        reason = body.decode()
    if not reason.strip():
        raise Finding(f"the server answered {status} without a reason")
    raise Refused(" ".join(reason.split()))


def _post(path: str, body: bytes, *headers: str) -> bytes:
    own = ["Host: x", "Connection: close", f"Content-Length: {len(body)}"]
    lines = [f"POST {path} HTTP/1.1", *own, *headers, "", ""]
    return "\r\n".join(lines).encode() + body


_PREDICT, _INFER = f"/v1/models/{_NAME}:predict", f"/v2/models/{_NAME}/infer"
_WHOLE = [
    _post(_PREDICT, _REST[1]),
    *(_post(_INFER, body, f"{open_inference.HEADER_LENGTH}: {n}") for body, n in _OPEN[:2]),
    b"GET /v1/models/known/metadata HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
]


@pytest.mark.parametrize("content", _WHOLE, ids=range(len(_WHOLE)))
def test_the_seeds_are_whole(content, server):
    _check(_ask(server, content))


@fuzz(mutated(_WHOLE))
def test_whatever_comes_through_the_socket(trial, content):
    _check(_ask(trial.server, content))


@fuzz(mutated(_REST))
def test_bodies_of_rest(trial, body):
    _check(_ask(trial.server, _post(_PREDICT, body)))


@fuzz(st.tuples(st.sampled_from(_OPEN), EDITS, st.integers(-3, 3) | st.just(10**6)))
def test_bodies_of_open_inference(trial, drawn):
    (body, length), edits, wrong = drawn
    headers = [] if length is None else [f"{open_inference.HEADER_LENGTH}: {length + wrong}"]
    _check(_ask(trial.server, _post(_INFER, apply(body, edits), *headers)))


_LENGTHS = st.sampled_from(
    ["0", "-1", "1", "99999999999999999999", "0x10", "1e3", "+5", "", "5, 6"]
)
_HEADERS = st.lists(
    st.one_of(
        _LENGTHS.map("Content-Length: {}".format),
        _LENGTHS.map("Inference-Header-Content-Length: {}".format),
        st.sampled_from(["gzip", "br", "gzip, gzip", "GZIP", ""]).map(
            "Content-Encoding: {}".format
        ),
        st.sampled_from(["chunked", "identity", "x"]).map("Transfer-Encoding: {}".format),
        st.just("Expect: 100-continue"),
        st.text(st.characters(codec="latin-1"), max_size=20).map("X-Request-Id: {}".format),
        st.text(st.characters(codec="ascii"), max_size=20),
    ),
    max_size=3,
)
_PATHS = st.sampled_from(
    [_PREDICT, _INFER, "/v1/models/known/versions/1:predict", "//", "/v2/a%00"]
)


@fuzz(st.tuples(_PATHS, _HEADERS, st.sampled_from([*_REST, b"", b"5\r\nhello\r\n0\r\n\r\n"])))
def test_headers(trial, drawn):
    path, headers, body = drawn
    content = _post(path, body).partition(b"\r\n\r\n")
    more = "\r\n".join(["", *headers]).encode("latin-1", "replace")
    _check(_ask(trial.server, b"".join([content[0], more, *content[1:]])))


_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
    st.just(_B64),
)
_TREES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["source", "target", "b64", "name", "data"]), inner)
    ),
    max_leaves=9,
)
_NAMES = st.sampled_from(["match", "match_encoded", "match_points", "match_masked", "", "x" * 999])


@fuzz(
    st.fixed_dictionaries(
        {},
        optional={
            "signature_name": _NAMES | _TREES,
            "inputs": st.dictionaries(st.sampled_from([*_POINTS, "source_mask"]), _TREES) | _TREES,
            "instances": st.lists(st.dictionaries(st.sampled_from([*_POINTS]), _TREES)) | _TREES,
        },
    )
)
def test_json_of_rest(trial, content):
    rest.read_request(json.dumps(content).encode("utf-8", "surrogatepass"), _signatures(trial))


_TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["source", "target", "target_points"]) | _TREES,
        "shape": st.lists(st.integers(-1, 2**33), max_size=9) | _TREES,
        "datatype": st.sampled_from(["UINT8", "FP32", "BYTES", "BOOL", "INT64"]) | _TREES,
        "data": _TREES,
        "parameters": st.fixed_dictionaries(
            {},
            optional={
                "binary_data_size": st.integers(-1, 40) | _TREES,
                "content_type": st.just("base64") | _TREES,
            },
        ),
    },
)


@fuzz(
    st.tuples(
        st.fixed_dictionaries(
            {},
            optional={
                "inputs": st.lists(_TENSORS, max_size=3) | _TREES,
                "outputs": st.lists(_TENSORS, max_size=3) | _TREES,
                "parameters": st.dictionaries(
                    st.sampled_from(["signature_name", "binary_data_output"]), _NAMES | _TREES
                ),
                "id": _TREES,
            },
        ),
        st.binary(max_size=40),
    )
)
def test_json_of_open_inference(trial, drawn):
    content, binary = drawn
    text = json.dumps(content).encode("utf-8", "surrogatepass")
    open_inference.read_request(text + binary, str(len(text)), _signatures(trial))


def _predict(signature: str, inputs: dict) -> bytes:
    request = MESSAGES["PredictRequest"]()
    request.model_spec.name, request.model_spec.signature_name = _NAME, signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(to_message(values))
    return request.SerializeToString()


_GRPC = [_predict(name, inputs) for name, inputs in _BY_SIGNATURE.items()]
_METHODS = [
    "tensorflow.serving.PredictionService/Predict",
    "tensorflow.serving.PredictionService/GetModelMetadata",
    "tensorflow.serving.ModelService/GetModelStatus",
    "grpc.health.v1.Health/Check",
]
_INTERNAL = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}


def _channel(trial):
    if not hasattr(trial, "channel"):
        trial.channel = grpc.insecure_channel(trial.server.grpc)
    return trial.channel


@fuzz(st.tuples(st.sampled_from([*_METHODS, *_METHODS[:1] * 6]), mutated(_GRPC)))
def test_messages_of_grpc(trial, drawn):
    method, content = drawn
    call = _channel(trial).unary_unary(f"/{method}")
    try:
        call(content, timeout=10)
    except grpc.RpcError as error:
        if error.code() in _INTERNAL:
            raise Finding(f"gRPC answered {error.code()}: {error.details()}") from None
        raise Refused(" ".join(error.details().split())) from None


@fuzz(
    st.builds(
        dict,
        dtype=st.integers(-1, 30),
        tensor_content=st.binary(max_size=24),
        float_val=st.lists(st.floats(width=32), max_size=3),
        int_val=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
        string_val=st.lists(st.binary(max_size=4), max_size=3),
        bool_val=st.lists(st.booleans(), max_size=3),
        sides=st.lists(st.integers(-1, 2**40) | st.integers(0, 3), max_size=9),
    )
)
def test_tensors_of_grpc(trial, fields):
    sides = fields.pop("sides")
    message = MESSAGES["Tensor"](**fields)
    for side in sides:
        message.tensor_shape.dim.add(size=side)
    values = from_message(message, "source")
    if values.nbytes > 2**27:
        raise Finding(f"it became {values.nbytes} bytes")


@fuzz(st.tuples(st.sampled_from(_WHOLE), st.floats(0, 1), st.integers(1, 4)), inputs=40)
def test_bodies_that_stop(trial, drawn):
    """A request that ends early while its connection stays open, on a connection used before."""
    content, share, before = drawn
    kept = content.replace(b"Connection: close\r\n", b"")
    with by_the_test():
        client = socket.create_connection(("127.0.0.1", trial.server.port), 20)
    with client:
        for _ in range(before - 1):
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            said = b""
            while not said.endswith(b'{"live":true}'):
                said += client.recv(2**16)
        client.sendall(kept[: int(share * (len(kept) - 1))])
        client.settimeout(12)
        answer = b""
        try:
            while part := client.recv(2**16):
                answer += part
        except TimeoutError:
            raise Finding("the connection stays open for ever") from None
        except ConnectionError:
            pass
    _check(answer)


@fuzz(st.lists(st.integers(0, 2**32 - 1) | st.binary(max_size=5), max_size=4))
def test_lengths_within_bytes(trial, parts):
    binary = b"".join(struct.pack("<I", part) if isinstance(part, int) else part for part in parts)
    tensor = {"name": "source", "datatype": "BYTES", "shape": [len(parts)]}
    tensor["parameters"] = {"binary_data_size": len(binary)}
    text = json.dumps({"inputs": [tensor]}).encode()
    open_inference.read_request(text + binary, str(len(text)), _signatures(trial))
