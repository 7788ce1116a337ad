"""The client before what is no server of models, and settings that are none."""

import http.server
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from known_server import image

from tfdense import cli
from tfdense.client import Client, ServerError
from tfdense.errors import InputError
from tfdense.images import write_image

_STRANGE = {
    "html": b"<!DOCTYPE html>\n<title>Welcome</title>",
    "nothing": b"",
    "bytes": b"\xff\x00\n",
    "a list": b"[]",
    "an empty object": b"{}",
    "other json": b'{"outputs": {"flow": "x", "confidence": {}}, "models": "x", "metadata": []}',
    "other tensors": b'{"outputs": [{"name": "flow"}, 3]}',
    "empty tensors": b'{"outputs": {"confidence": [], "source_points": [], "target_size": [1e30]}}',
}


@pytest.fixture(scope="module")
def stranger():
    """A server that answers everything with what it is told to."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = self.server.answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        server.url = f"http://127.0.0.1:{server.server_port}"
        yield server
        server.shutdown()
        thread.join()


def _calls(client):
    return (
        lambda: client.match(image(), image()),
        lambda: client.match_points(image(), image(), [[1, 2]]),
        lambda: client.predict("match", {"source": image()[None]}),
        lambda: client.predict("match", {"source": image()[None]}, ("nope",)),
        client.description,
    )


@pytest.mark.parametrize("protocol", ["open-inference", "rest"])
@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("answer", _STRANGE)
def test_what_answers_is_no_server_of_models(stranger, protocol, status, answer):
    stranger.answer = status, _STRANGE[answer]
    for name in (None, "known"):
        with Client(stranger.url, name, protocol=protocol, retries=0) as client:
            for call in _calls(client):
                with pytest.raises(ServerError, match=stranger.url) as caught:
                    call()
                assert "\n" not in str(caught.value)


def test_what_answers_html_is_no_tfdense_serve(stranger, tmp_path, capsys):
    for role in ("source", "target"):
        write_image(tmp_path / f"{role}.png", image())
    stranger.answer = 200, _STRANGE["html"]
    command = ["match", str(tmp_path / "source.png"), str(tmp_path / "target.png"), "--server"]
    assert cli.main([*command, stranger.url, "-o", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{stranger.url} does not speak the protocol open-inference: is it a tfdense" in line
    assert cli.main([*command, "grpc://x:1", "-o", str(tmp_path / "out")]) == 2
    assert "http:// can, which tfdense match --server takes" in capsys.readouterr().err


@pytest.mark.parametrize("protocol", ["open-inference", "rest", "grpc"])
def test_outputs_that_there_are_not(serving, protocol):
    server = serving()
    url = f"grpc://{server.grpc}" if protocol == "grpc" else server.url
    images = {"source": image()[None], "target": image()[None]}
    with Client(url, "known", protocol=protocol) as client:
        with pytest.raises(ServerError, match="nope"):
            client.predict("match", images, ("nope",))
        for outputs in ("flow", None, (3,)):
            with pytest.raises(InputError, match="outputs as a sequence of names"):
                client.predict("match", images, outputs)


def test_other_messages_by_grpc():
    server = grpc.server(ThreadPoolExecutor(1))
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: b"\xff\xff")
    name = "tensorflow.serving.PredictionService"
    handlers = grpc.method_handlers_generic_handler(name, {"Predict": handler})
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with (
            Client(f"grpc://127.0.0.1:{port}", "known") as client,
            pytest.raises(ServerError, match="does not speak the protocol grpc"),
        ):
            client.match(image(), image())
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize(
    ("setting", "values", "message"),
    [
        ("timeout", (0, -1, np.nan, np.inf, 1e300, None, "5"), "timeout in s, above 0 and at most"),
        ("retries", (-1, 1.5, "3", None), "retries as a whole number from 0"),
        ("version", ("1", -1, 1.0, 2**70), "version as a whole number from 0"),
        ("name", (5, b"known", ""), "the model's name as a text"),
        ("url", (None, 5, b"http://x", "http://x\n:1"), "Expected a server as http"),
    ],
)
def test_settings_that_are_none(setting, values, message):
    for value in values:
        with pytest.raises(InputError, match=message) as caught:
            Client(**{"url": "grpc://127.0.0.1:9", "name": "known", setting: value})
        assert "Received: " in str(caught.value)


@pytest.mark.parametrize("token", ["", " secret", "secret\nmore", "secr\u00e4t", b"secret"])
def test_tokens_that_cannot_be_sent(token):
    for url in ("http://127.0.0.1:9", "grpc://127.0.0.1:9"):
        with pytest.raises(InputError, match="Expected a token of") as caught:
            Client(url, "known", token=token)
        assert "secr" not in str(caught.value)


def test_the_command_refuses_such_a_token(tmp_path, monkeypatch, capsys):
    write_image(tmp_path / "image.png", image())
    monkeypatch.setenv("TFDENSE_TOKEN", "secr\u00e4t")
    paths = [str(tmp_path / "image.png")] * 2
    command = ["match", *paths, "--server", "http://127.0.0.1:9", "-o", str(tmp_path / "out")]
    assert cli.main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Expected a token of" in line and "secr" not in line


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("http://me:secret@127.0.0.1:9", {}, "http://127.0.0.1:9 does not answer"),
        ("http://me:secret@x:99999", {}, "Received: 'http://x:99999'"),
        ("me:secret@x", {}, "Received: 'x'"),
        ("http://me:sec/secret@x", {}, "Received: 'http://x'"),
        ("grpc://me:secret@x:1", {}, "no user in a URL of gRPC"),
        ("grpcs://me:secret@x:1", {"protocol": "rest"}, "Received: grpcs://x:1, 'rest'"),
    ],
)
def test_no_message_shows_a_password(url, options, message):
    with (
        pytest.raises(InputError, match=message) as caught,
        Client(url, "known", retries=0, **options) as client,
    ):
        client.match(image(), image())
    assert "secret" not in str(caught.value) and "me:" not in str(caught.value)


@pytest.mark.parametrize(
    ("verify", "message"),
    [(False, "gRPC always checks them"), ("absent.pem", "absent.pem holds no certificates")],
)
def test_certificates_of_grpc(verify, message):
    with pytest.raises(InputError, match=message):
        Client("grpcs://127.0.0.1:9", "known", verify=verify)


def test_a_host_that_can_be_none():
    with Client("http://a..b", "known", retries=0) as client, pytest.raises(ServerError):
        client.match(image(), image())


def test_points():
    with Client("http://127.0.0.1:9", "known", retries=0) as client:
        places, confidence = client.match_points(image(), image(), [])
        assert places.shape == (0, 2) and confidence.shape == (0,)
        for points in ([["a", "b"]], [[1, 2], [3]], [[1, 2, 3]], None, [[np.nan, 1]]):
            with pytest.raises(InputError, match="key points of the target") as caught:
                client.match_points(image(), image(), points)
            assert not isinstance(caught.value, ServerError)
