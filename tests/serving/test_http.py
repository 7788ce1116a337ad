"""TensorFlow Serving's REST and the open inference protocol, as clients send them."""

import base64
import gzip
import socket
import struct
import threading
import zlib

import httpx
import numpy as np
import pytest
from known_server import KnownModel, image, png, running, until

from tfdense.serving.limits import Limits
from tfdense.serving.protocols import open_inference, rest
from tfdense.serving.refusal import Refusal


def b64(content):
    return {"b64": base64.b64encode(content).decode()}


def test_status_and_metadata(serving):
    server = serving()
    with httpx.Client(base_url=server.url) as client:
        (state,) = client.get("/v1/models/known").json()["model_version_status"]
        assert (state["version"], state["state"]) == ("1", "AVAILABLE")
        assert client.get("/v1/models/known/versions/1").status_code == 200
        assert client.get("/v1/models/known/versions/2").status_code == 404
        assert "Expected the model known" in client.get("/v1/models/other").json()["error"]
        metadata = client.get("/v1/models/known/metadata").json()
        assert metadata["model_spec"]["version"] == "1"
        definitions = metadata["metadata"]["signature_def"]["signature_def"]
        assert {*definitions} == {*server.models[1].signatures}
        assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
        described = client.get("/v2/models/known").json()
        flow = next(x for x in described["outputs"] if x["name"] == "flow")
        assert flow["datatype"] == "FP32" and flow["shape"] == [-1, -1, -1, 2]
        assert "px of the source" in flow["parameters"]["description"]
        for path in ("/livez", "/readyz", "/v2/health/live", "/v2/models/known/ready"):
            assert client.get(path).status_code == 200
        page = client.get("/")
        assert "v2/models/known/infer" in page.text and "{{" not in page.text


def test_rows_and_columns(serving):
    server = serving()
    one = {"source": image(5).tolist(), "target": image(6).tolist()}
    row = httpx.post(f"{server.url}/v1/models/known:predict", json={"instances": [one, one]})
    assert row.status_code == 200, row.text
    predictions = row.json()["predictions"]
    assert len(predictions) == 2 and {*predictions[0]} == {
        "flow",
        "confidence",
        "log_variance",
        "logits",
    }
    np.testing.assert_array_equal(np.array(predictions[1]["flow"])[0, 0], [5, 1])
    body = {
        "signature_name": "match_encoded",
        "inputs": {
            "source": [b64(png(image(3))), b64(png(image(4)))],
            "target": [b64(png(image(1))), b64(png(image(1, 20, 40)))],
        },
    }
    url = f"{server.url}/v1/models/known/versions/1:predict"
    answer = httpx.post(url, json=body)
    assert answer.status_code == 200, answer.text
    columns = answer.json()["outputs"]
    assert columns["target_size"] == [[16, 24], [20, 40]]
    flow = np.array(columns["flow"])
    assert flow.shape == (2, 20, 40, 2)
    assert flow[0, 0, 0, 0] == 3 and flow[1, 19, 0, 0] == 4 and not flow[0, 16:].any()
    body = gzip.compress(httpx.Request("POST", url, json=body).content)
    assert httpx.post(url, content=body, headers={"Content-Encoding": "gzip"}).json()


def binary_request(signature="match", wanted=("flow",), **inputs):
    pieces, length = open_inference.write_request(signature, inputs, wanted)
    return b"".join(pieces), {open_inference.HEADER_LENGTH: str(length)}


def test_open_inference_with_bytes_and_without(serving):
    server = serving()
    url = f"{server.url}/v2/models/known/infer"
    content, headers = binary_request(source=image(9)[None], target=image()[None])
    response = httpx.post(url, content=content, headers=headers)
    outputs = open_inference.read_response(
        response.content, response.headers[open_inference.HEADER_LENGTH]
    )
    assert {*outputs} == {"flow"} and outputs["flow"].dtype == np.float32
    np.testing.assert_array_equal(outputs["flow"][0, :, :-1, 0], 9)
    request = {
        "id": "mine",
        "parameters": {"signature_name": "match_points"},
        "inputs": [
            {
                "name": name,
                "shape": [1],
                "datatype": "BYTES",
                "parameters": {"content_type": "base64"},
                "data": [base64.b64encode(png(image(2))).decode()],
            }
            for name in ("source", "target")
        ]
        + [{"name": "target_points", "shape": [1, 1, 2], "datatype": "FP32", "data": [3.5, 4]}],
    }
    answer = httpx.post(f"{server.url}/v2/models/known/versions/1/infer", json=request).json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("mine", "known", "1")
    points = next(x for x in answer["outputs"] if x["name"] == "source_points")
    assert points["shape"] == [1, 1, 2] and points["data"] == [5.5, 6.0]


def _refused(server, path, **request):
    response = httpx.post(server.url + path, **request)
    assert set(response.json()) == {"error"}
    return response.status_code, response.json()["error"]


_PREDICT, _INFER = "/v1/models/known:predict", "/v2/models/known/infer"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "no JSON"),
        ("[1]", "an object"),
        ("{}", '"instances" or "inputs"'),
        ('{"a": 1}', "Received: 'a'"),
        ('{"inputs": [1]}', "by name"),
        ('{"instances": []}', "a list of objects"),
        ('{"instances": [{"source": [1]}, {}]}', "the same inputs"),
        ('{"signature_name": "no", "inputs": {}}', "a signature of"),
        ('{"signature_name": ["no"], "inputs": {}}', "a signature of"),
        ('{"inputs": {"source": [[1], [2, 3]]}}', "equal lengths"),
        ('{"inputs": {"source": [[[[256, 0, 0]]]]}}', "0..255"),
        ('{"inputs": {"source": [[[[0.5, 0, 0]]]]}}', "whole numbers"),
        ('{"inputs": {"source": "text"}}', "type uint8"),
        ('{"inputs": {"source": [[[[1, 2, 3]]]]}}', "target is missing"),
        ('{"inputs": {"source": [1], "target": [2]}}', "of the shape [any, any, any, 3]"),
        ('{"inputs": {"source": [[[]]], "target": [[[]]]}}', "of the shape"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_malformed_json_is_refused(serving_once, body, message):
    status, reason = _refused(serving_once, _PREDICT, content=body)
    assert status in (400, 404) and message in reason, reason


@pytest.fixture(scope="module")
def serving_once(tmp_path_factory):
    limits = Limits(body=400_000, pixels=100_000, pairs=2, points=5, reading=1.0)
    with running(tmp_path_factory.mktemp("server"), limits=limits) as server:
        yield server


def _tensor(**changes):
    tensor = {"name": "source", "shape": [1, 16, 16, 3], "datatype": "UINT8"}
    return {"inputs": [{**tensor, "data": [0] * 768, **changes}]}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, '"inputs" as a list'),
        ({"inputs": [1]}, "input as an object"),
        ({"inputs": [], "parameters": 3}, "parameters as an object"),
        ({"inputs": [], "outputs": [{"name": "no"}]}, "outputs of"),
        (_tensor(name=3), "with a name"),
        (_tensor(datatype="FP12"), "datatype of source"),
        (_tensor(datatype=["FP32"]), "datatype of source"),
        (_tensor(shape=[1, -16, 16, 3]), "numbers from 0"),
        (_tensor(shape=[2**31]), "numbers from 0"),
        (_tensor(shape=[2**30] * 8), "but 768 values"),
        (_tensor(shape="no"), "a list of numbers"),
        (_tensor(data=[1, 2]), "but 2 values"),
        (_tensor(data="no"), '"data" or binary_data_size'),
        (_tensor(data=["a"]), "as numbers"),
        (_tensor(data=[300] * 768), "0..255"),
        (_tensor(parameters={"binary_data_size": 5}), "5 bytes, but 0 follow"),
        (_tensor(parameters={"binary_data_size": -1}), "number from 0. Received: -1"),
        (_tensor(parameters={"binary_data_size": "no"}), "number from 0. Received: 'no'"),
        (_tensor(parameters={"binary_data_size": 0}), "Received: both"),
        (_tensor(data="abc"), "Received: 'abc'"),
        (_tensor(data=[1.5] * 768), "source as whole numbers. Received: fractions"),
        ({"inputs": 2 * _tensor()["inputs"]}, "Received: source twice"),
        (_tensor(), "target is missing"),
        (_tensor(name="unknown"), "Expected the inputs"),
    ],
)
def test_malformed_tensors_are_refused(serving_once, request_, message):
    status, reason = _refused(serving_once, _INFER, json=request_)
    assert status == 400 and message in reason, reason


def test_wrong_lengths_of_bytes_are_refused(serving_once):
    content, headers = binary_request(source=image()[None], target=image()[None])
    name = open_inference.HEADER_LENGTH
    for changed, length, message in (
        (content[:-1], headers[name], "but 1151 follow"),
        (content + b"x", headers[name], "no bytes behind"),
        (content, "999999", "but the body has"),
        (content, "-4", "as a number"),
        (content, "9" * 30, "as a number"),
    ):
        status, reason = _refused(serving_once, _INFER, content=changed, headers={name: length})
        assert status == 400 and message in reason, reason
    strings = np.empty(1, object)
    strings[0] = png(image())
    content, headers = binary_request("match_encoded", source=strings, target=strings)
    place = content.rindex(struct.pack("<I", len(strings[0])))
    broken = content[:place] + struct.pack("<I", 2**31) + content[place + 4 :]
    status, reason = _refused(serving_once, _INFER, content=broken, headers=headers)
    assert status == 400 and "ends within" in reason


def test_limits_of_size(serving_once):
    def ask(signature="match", **inputs):
        content, headers = binary_request(signature, (), **inputs)
        return _refused(serving_once, _INFER, content=content, headers=headers)

    large = np.zeros((1, 400, 300, 3), np.uint8)
    assert ask(source=image()[None], target=large)[0] == 413
    assert ask(source=image()[None], target=np.repeat(large, 2, 0)[:, :300])[0] == 413
    three = np.repeat(image()[None], 3, 0)
    assert "at most 2 pairs" in ask(source=three, target=three)[1]
    assert "at least 16 px" in ask(source=image()[None], target=image(1, 15)[None])[1]
    mask = np.ones((1, 3, 3), np.uint8)
    assert (
        "source_mask of 24x16"
        in ask(source=image()[None], target=image()[None], source_mask=mask)[1]
    )

    def strings(*contents):
        array = np.empty(len(contents), object)
        array[:] = contents
        return array

    good = strings(png(image()))
    # A few bytes promise 60,000 x 60,000 pixels.
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n"
    for chunk in (header, b"IDAT" + zlib.compress(bytes(1000))):
        bomb += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    status, reason = ask("match_encoded", source=good, target=strings(bomb))
    assert status == 413 and "60000x60000" in reason
    status, reason = ask("match_encoded", source=good, target=strings(b"no image"))
    assert status == 400 and "target is not an image" in reason
    points = np.zeros((1, 6, 2), np.float32)
    assert (
        "at most 5 points" in ask("match_points", source=good, target=good, target_points=points)[1]
    )
    other = strings(png(image(1, 20, 20)))
    reason = ask("match_encoded", source=good, target=good, source_mask=other)[1]
    assert "the image's size. Received: 20x20 px" in reason


def test_bodies_too_large_or_packed(serving_once):
    assert _refused(serving_once, _PREDICT, content=b" " * 500_000)[0] == 413

    def chunks():
        for _ in range(10):
            yield b" " * 100_000

    assert _refused(serving_once, _PREDICT, content=chunks())[0] == 413
    packed = {"Content-Encoding": "gzip"}
    bomb = gzip.compress(bytes(5_000_000))
    assert len(bomb) < 100_000
    assert _refused(serving_once, _PREDICT, content=bomb, headers=packed)[0] == 413
    assert "no gzip" in _refused(serving_once, _PREDICT, content=b"no", headers=packed)[1]
    cut = gzip.compress(b"{}")[:-4]
    assert "too early" in _refused(serving_once, _PREDICT, content=cut, headers=packed)[1]
    headers = {"Content-Encoding": "br"}
    assert _refused(serving_once, _PREDICT, content=b"x", headers=headers)[0] == 415


def test_a_request_that_dribbles_is_ended(serving_once):
    with socket.create_connection(("127.0.0.1", serving_once.port), 10) as client:
        client.sendall(
            b"POST /v1/models/known:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"
        )
        assert b" 408 " in client.recv(1000).partition(b"\r\n")[0]


def test_paths_and_methods(serving_once):
    for path, status in (
        ("/no", 404),
        (_INFER, 405),
        ("/v1/models/known/versions/x", 400),
        ("/v1/models/known/versions/01", 404),
        ("/v2/models/known/versions/01", 404),
    ):
        response = httpx.get(serving_once.url + path)
        assert response.status_code == status and response.json()["error"]
    for method, verb in (("GET", "predict"), ("GET", "classify"), ("POST", "regress")):
        for version in ("", "/versions/1"):
            url = f"{serving_once.url}/v1/models/known{version}:{verb}"
            response = httpx.request(method, url)
            assert response.status_code == 405
            assert f"Expected POST of :predict. Received: {method} of :{verb}" in response.text


@pytest.mark.parametrize("name", ["", None])
def test_no_signature_is_the_default_one(serving_once, name):
    images = {"source": [image().tolist()], "target": [image().tolist()]}
    body = {"signature_name": name, "inputs": images}
    assert httpx.post(serving_once.url + _PREDICT, json=body).status_code == 200
    pieces, _ = open_inference.write_request(
        "", {name: np.array(values, np.uint8) for name, values in images.items()}, (), False
    )
    assert httpx.post(serving_once.url + _INFER, content=pieces[0]).status_code == 200


def test_points_that_are_not_finite_are_refused_before_the_network_runs(serving_once):
    batches = serving_once.models[1].batches
    before = len(batches)
    strings = np.empty(1, object)
    strings[0] = png(image())
    for value in (np.nan, np.inf, -np.inf):
        points = np.float32([[[1, value]]])
        content, headers = binary_request(
            "match_points", (), source=strings, target=strings, target_points=points
        )
        status, reason = _refused(serving_once, _INFER, content=content, headers=headers)
        assert status == 400 and "target_points as finite numbers" in reason
    file = [b64(png(image()))]
    inputs = {"source": file, "target": file, "target_points": [[[1e40, 1]]]}
    body = {"signature_name": "match_points", "inputs": inputs}
    status, reason = _refused(serving_once, _PREDICT, json=body)
    assert status == 400 and "target_points as finite numbers" in reason
    assert len(batches) == before


def test_token(serving):
    server = serving(token="secret")
    for given in ({}, {"Authorization": "Bearer other"}, {"Authorization": "secret"}):
        response = httpx.get(f"{server.url}/v1/models/known", headers=given)
        assert response.status_code == 401 and response.headers["WWW-Authenticate"] == "Bearer"
    headers = {"Authorization": "Bearer secret"}
    assert httpx.get(f"{server.url}/v1/models/known", headers=headers).status_code == 200
    assert httpx.get(f"{server.url}/readyz").status_code == 200


def post(server, value=1):
    content, headers = binary_request(source=image(value)[None], target=image()[None])
    return httpx.post(server.url + _INFER, content=content, headers=headers, timeout=20)


class Waiting:
    """Requests in threads of their own."""

    def __init__(self, server, values):
        self.answers = {}
        self.threads = [threading.Thread(target=self._ask, args=(server, x)) for x in values]
        for thread in self.threads:
            thread.start()

    def _ask(self, server, value):
        self.answers[value] = post(server, value)

    def join(self):
        for thread in self.threads:
            thread.join(20)
        return self.answers


def test_a_full_queue_refuses_and_batches_what_waits(serving):
    server = serving(queue=4, max_pairs=3)
    model = server.models[1]
    model.go_on.clear()
    first = Waiting(server, [1])
    until(lambda: model.batches == [1])
    others = Waiting(server, [2, 3, 4, 5])
    until(lambda: len(server.batcher._tasks) == 4)
    refused = post(server)
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 1
    model.go_on.set()
    for value, answer in {**first.join(), **others.join()}.items():
        length = answer.headers[open_inference.HEADER_LENGTH]
        assert open_inference.read_response(answer.content, length)["flow"][0, 0, 0, 0] == value
    assert model.batches == [1, 3, 1]
    text = httpx.get(f"{server.url}/metrics").text
    assert (
        'tfdense_requests_total{protocol="open-inference",signature="match",status="200"} 5' in text
    )
    assert 'status="429"} 1' in text and "tfdense_queue_requests 0.0" in text
    assert "tfdense_batch_pairs_count 3.0" in text and "tfdense_confidence_count 5.0" in text


def test_what_is_too_late_is_not_computed(serving):
    server = serving(limits=Limits(seconds=2.0))
    model = server.models[1]
    model.go_on.clear()
    first = Waiting(server, [1])
    until(lambda: model.batches)
    second = Waiting(server, [2])
    answers = [*first.join().values(), *second.join().values()]
    assert [answer.status_code for answer in answers] == [504, 504]
    model.go_on.set()
    until(lambda: not server.batcher._tasks)
    assert model.batches == [1]
    until(lambda: post(server).status_code == 200)


def test_a_new_version_takes_over_without_a_lost_request(serving):
    server = serving(poll=0.05, queue=64)
    stop, statuses, versions = threading.Event(), [], []

    def load():
        with httpx.Client() as client:
            content, headers = binary_request(source=image()[None], target=image()[None])
            while not stop.is_set():
                response = client.post(server.url + _INFER, content=content, headers=headers)
                statuses.append(response.status_code)
                length = response.headers[open_inference.HEADER_LENGTH]
                flow = open_inference.read_response(response.content, length)["flow"]
                versions.append(flow[0, 0, 0, 1])

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: versions)
    (server.folder / "10").mkdir()  # a number, but nothing in it yet
    for version, content in ((2, b"known"), (11, b"not known"), (12, b"known")):
        staged = server.folder / f".{version}"
        staged.mkdir()
        (staged / "saved_model.pb").write_bytes(content)
        staged.rename(server.folder / str(version))
        until(lambda version=version: version in server.versions.states())
        asked = len(versions)
        until(lambda asked=asked: len(versions) > asked + 6)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert {*statuses} == {200} and {*versions} == {1, 2, 12}
    states = httpx.get(f"{server.url}/v1/models/known").json()["model_version_status"]
    assert [(x["version"], x["state"]) for x in states] == [("12", "AVAILABLE"), ("11", "END")]
    assert states[1]["status"]["error_message"] == "it is broken"


def test_what_runs_is_answered_when_the_server_stops(serving):
    server = serving()
    model = server.models[1]
    model.go_on.clear()
    waiting = Waiting(server, [1, 2])
    until(lambda: model.batches and server.batcher._tasks)
    server.server.handle_exit(15, None)
    until(lambda: server.service.stopping)
    until(lambda: not _accepts(server.port))
    model.go_on.set()
    assert [answer.status_code for answer in waiting.join().values()] == [200, 200]
    server.thread.join(20)
    assert not server.thread.is_alive()


def _accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), 10).close()
    except ConnectionRefusedError:
        return False
    return True


def test_one_wrong_request_does_not_spoil_its_batch(serving):
    server = serving()
    model = server.models[1]
    run = model.run

    def picky(signature, inputs):
        if (inputs["source"][:, 0, 0, 0] == 66).any():
            raise Refusal(400, "66 is wrong")
        return run(signature, inputs)

    model.run = picky
    model.go_on.clear()
    first = Waiting(server, [1])
    until(lambda: model.batches)
    others = Waiting(server, [2, 66, 3])
    until(lambda: len(server.batcher._tasks) == 3)
    model.go_on.set()
    first.join()
    statuses = {value: answer.status_code for value, answer in others.join().items()}
    assert statuses == {2: 200, 66: 400, 3: 200}


def test_a_failure_is_told_without_its_inside(serving):
    server = serving()

    def fail(signature, inputs):
        raise RuntimeError("a secret")

    server.models[1].run = fail
    answer = post(server)
    assert (
        answer.status_code == 500
        and set(answer.json()) == {"error"}
        and "secret" not in answer.text
    )
    del server.models[1].run
    assert post(server).status_code == 200


def test_rest_round_trip():
    strings = np.empty(1, object)
    strings[0] = b"\x00\xff"
    body = rest.write_request("s", {"source": strings, "target_points": np.float32([[[1, 2.5]]])})
    signatures = {"s": KnownModel().signatures["match_points"]}
    signature, inputs, rows = rest.read_request(body, signatures)
    assert (signature, rows, inputs["source"][0]) == ("s", False, b"\x00\xff")
    np.testing.assert_array_equal(inputs["target_points"], [[[1, 2.5]]])
