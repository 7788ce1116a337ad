"""The server's ports, TLS, silent connections, and how it ends."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from known_server import image

from tfdense import cli
from tfdense.client import Client, ServerError
from tfdense.data import bundled_pair
from tfdense.errors import InputError
from tfdense.exporting import export_saved_model
from tfdense.serving import model as models
from tfdense.serving import server as servers
from tfdense.serving.logs import log, start_logging
from tfdense.serving.server import Address, Server


def test_a_port_that_is_taken(serving):
    server = serving()
    with pytest.raises(InputError, match="Cannot listen on 127"):
        Server(server.service, Address("127.0.0.1", server.port, None)).run()
    server.service.stopping = False


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of 127.0.0.1 and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl")
    folder = tmp_path_factory.mktemp("tls")
    paths = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext"
    command = [*command.split(), "subjectAltName=IP:127.0.0.1", "-out", paths[0], "-keyout"]
    subprocess.run([*command, paths[1]], check=True, capture_output=True)
    return paths


def test_tls(serving, certificate):
    server = serving(tls=certificate)
    trusted = {"name": "known", "verify": str(certificate[0])}
    for url in (server.url, f"grpcs://{server.grpc}"):
        with Client(url, **trusted) as client:
            assert client.match(image(4), image())["flow"][0, 0, 0] == 4
    with (
        Client(server.url, "known", retries=0) as client,
        pytest.raises(ServerError, match="verif"),
    ):
        client.match(image(), image())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent"], "absent"),
        (["absent", "--queue", "0"], "Expected --queue above 0. Received: 0"),
        (["absent", "--certificate", "x.pem"], "both a certificate and its key"),
        (["absent", "--certificate", "x.pem", "--key", "y.pem"], "are no pair for TLS"),
        (["absent", "--token-file", "absent.txt"], "Cannot read the token of absent.txt"),
        (["absent", "--timeout", "inf"], "Expected --timeout finite. Received: inf"),
        (["absent", "--threads", "0"], "Expected --threads above 0. Received: 0"),
        (["absent", "--patience", "-1"], "Expected --patience from 0 ms. Received: -1"),
        (["absent", "--port", "70000"], "Expected --port in 0..65535. Received: 70000"),
        (["absent", "--port", "-5"], "Expected --port in 0..65535. Received: -5"),
        (["absent", "--grpc-port", "70000"], "Expected --grpc-port in 0..65535, or -1 for none."),
        (["absent", "--grpc-port", "-2"], "or -1 for none. Received: -2"),
        (
            ["absent", "--port", "8500", "--grpc-port", "8500"],
            "different numbers for --port and --grpc-port",
        ),
        (["absent", "--host", "ä..b"], "Cannot listen on ä..b:0: no name of a machine"),
        (["empty"], "of exported versions, a preset, or the folder of a run. Received: empty"),
        (["empty"], "which holds nothing"),
        (["versions"], "which holds 1, 2 without saved_model.pb"),
        (["two"], "which holds the models a, b: give one of them"),
        (["photos"], "which holds x.jpg"),
        (["two/a/1/saved_model.pb"], "Received a file in one: two/a/1/saved_model.pb"),
    ],
)
def test_mistakes_of_the_command_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "versions/1", "versions/2", "two/a/1", "two/b/1", "photos"):
        Path(folder).mkdir(parents=True)
    for file in ("two/a/1/saved_model.pb", "two/b/1/saved_model.pb", "photos/x.jpg"):
        Path(file).touch()
    free = ["--port", "0", "--grpc-port", "-1"]
    assert cli.main(["serve", *free, *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_host_that_there_is_not(monkeypatch):
    def nobody(*arguments):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(servers.socket.socket, "bind", nobody)
    with pytest.raises(InputError, match=r"on nope\.invalid:0: Name or service not known$"):
        servers.check_ports(Address("nope.invalid", 0, None))


def test_ports_that_others_listen_on():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for ports in ((port, None), (0, port)):
            with pytest.raises(InputError, match=f"{port}; is another program there"):
                servers.check_ports(Address("127.0.0.1", *ports))


@pytest.mark.parametrize("token", ["secr\u00e4t", "secret\nmore", "a\tb", "  "])
@pytest.mark.parametrize("place", ["file", "variable"])
def test_tokens_that_nobody_can_send(token, place, capsys, tmp_path, monkeypatch):
    command = ["serve", "absent", "--port", "0", "--grpc-port", "-1"]
    if place == "file":
        path = tmp_path / "token.txt"
        path.write_text(token, "utf-8")
        command += ["--token-file", str(path)]
    else:
        monkeypatch.setenv("TFDENSE_TOKEN", token)
    assert cli.main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Expected a token in" in line and "secr" not in line


def test_a_key_with_a_passphrase(certificate, tmp_path):
    path = tmp_path / "locked.pem"
    command = f"openssl rsa -aes256 -passout pass:word -in {certificate[1]} -out {path}"
    subprocess.run(command.split(), check=True, capture_output=True)
    with pytest.raises(InputError, match=r"without a passphrase. Received: .*locked\.pem"):
        servers.check_tls(certificate[0], path)


def test_a_connection_that_says_nothing_is_closed(serving, monkeypatch):
    monkeypatch.setattr(servers, "_HEADER_SECONDS", 0.2)
    server = serving()
    for begin in (b"", b"POST /v1/models/known:predict HT"):
        with socket.create_connection(("127.0.0.1", server.port), 10) as client:
            client.sendall(begin)
            assert client.recv(10) == b""


def test_a_further_request_that_does_not_come_ends_its_connection(serving, monkeypatch):
    monkeypatch.setattr(servers, "_HEADER_SECONDS", 0.3)
    server = serving()
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        while not client.recv(2**16).endswith(b"}"):
            pass
        client.sendall(b"GET /livez HT")
        assert client.recv(10) == b""


def test_logs_are_json(capsys):
    start_logging()
    log("it happened", path='a"b', status=200)
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"], line["path"]) == ("it happened", "info", 'a"b')


def test_it_says_what_it_does_until_it_is_ready(tmp_path, monkeypatch, capsys):
    version = tmp_path / "own" / "1"
    version.mkdir(parents=True)
    (version / "saved_model.pb").touch()
    said = lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]  # noqa: E731
    events = []

    class Model:
        def __init__(self, folder, threads):
            events.extend(said())

        def warm_up(self):
            assert said()[-1]["event"] == "warming up"

    monkeypatch.setattr(models, "ServedModel", Model)
    monkeypatch.setattr(Server, "run", lambda self: self._started(Address("127.0.0.1", 7, None)))
    assert cli.main(["serve", str(tmp_path / "own"), "--port", "0", "--grpc-port", "-1"]) == 0
    assert [event["event"] for event in events] == ["starting TensorFlow", "loading"]
    assert events[-1]["path"] == str(version)
    (ready,) = said()
    assert (ready["event"], ready["http"]) == ("ready", "http://127.0.0.1:7")


_SLOW_MODEL = """
import signal, sys, threading, time
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from tfdense.serving.batching import Batcher
from tfdense.serving.limits import Limits
from tfdense.serving.metrics import Metrics
from tfdense.serving.server import Address, Server
from tfdense.serving.service import Service
from tfdense.serving.versions import Versions

image = SimpleNamespace(
    dtype=np.dtype(np.uint8), shape=(None, None, None, 3), optional=False, description=""
)
signature = SimpleNamespace(inputs={"source": image, "target": image}, outputs={"flow": image})
model = SimpleNamespace(signatures={"match": signature}, definitions={}, description={})

def run(model, name, inputs):
    print("running", flush=True)
    time.sleep(1)
    return {"flow": np.ones((1, 2), np.float32)}

folder = Path(sys.argv[1])
(folder / "saved_model.pb").touch()
metrics = Metrics()
versions = Versions(folder, "slow", lambda path: model)
service = Service(versions, Batcher(run, metrics=metrics), Limits(), metrics)
Server(service, Address(port=0, grpc_port=0), started=lambda at: print(at.port, flush=True)).run()
service.close()
print("ended", flush=True)
"""


def test_a_signal_ends_it_once_all_is_answered(tmp_path):
    command = [sys.executable, "-c", _SLOW_MODEL, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url, answers = f"http://127.0.0.1:{int(process.stdout.readline())}", []

        def ask():
            with Client(url, "slow", retries=0) as client:
                images = {"source": image()[None], "target": image()[None]}
                answers.append(client.predict("match", images)["flow"].sum())

        thread = threading.Thread(target=ask)
        thread.start()
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGTERM)
        thread.join(30)
        assert process.wait(30) == 0
        assert process.stdout.read().endswith("ended\n")
        assert answers == [2]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.slow
def test_the_command_answers_what_runs_when_it_is_told_to_end(tmp_path):
    folder = export_saved_model("pdcnet-lite", tmp_path / "model").path.parent
    code = "import sys; from tfdense.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "serve", str(folder), "--port", "0", "--grpc-port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        said = {}
        while said.get("event") != "ready":
            said = json.loads(process.stderr.readline())
        assert httpx.get(f"{said['http']}/readyz").status_code == 200
        answers = []

        def ask():
            with Client(said["http"], said["model"]) as client:
                answers.append(client.match(*bundled_pair())["flow"].shape)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        while "tfdense_queue_requests 2.0" not in httpx.get(f"{said['http']}/metrics").text:
            pass
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(120)
        assert len(answers) == 3
        assert process.wait(60) == 0
        assert '"event": "stopped"' in process.stderr.read()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
