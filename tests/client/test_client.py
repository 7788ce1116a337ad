"""The client against a server whose answers are known, by every protocol, blocking and not."""

import asyncio
import inspect
import subprocess
import sys
import threading

import numpy as np
import pytest
from known_server import image, png, until

from tfdense.client import AsyncClient, Client, ServerError
from tfdense.client.calls import Caller, NoAnswer, Response, Send, Wait
from tfdense.errors import InputError
from tfdense.images import write_image

_PROTOCOLS = ("open-inference", "rest", "grpc")


class Blocking:
    """An `AsyncClient` that is waited for."""

    def __init__(self, *arguments, **options):
        self._loop = asyncio.new_event_loop()
        self._client = self._run(self._make(*arguments, **options))

    async def _make(self, *arguments, **options):
        return AsyncClient(*arguments, **options)

    def _run(self, awaitable):
        return self._loop.run_until_complete(awaitable)

    def __getattr__(self, name):
        method = getattr(self._client, name)
        assert inspect.iscoroutinefunction(type(self._client)._perform)
        return lambda *arguments, **options: self._run(method(*arguments, **options))


@pytest.fixture(params=[Client, Blocking], ids=["blocking", "asynchronous"])
def make(request):
    made = []

    def make(server, protocol="open-inference", **options):
        url = f"grpc://{server.grpc}" if protocol == "grpc" else server.url
        options = {"name": "known", "protocol": protocol, **options}
        made.append(request.param(url, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.mark.parametrize("protocol", _PROTOCOLS)
def test_every_protocol_gives_the_same(serving, make, protocol, tmp_path):
    client = make(serving(), protocol)
    assert client.ready()
    answer = client.predict("match", {"source": image(9)[None], "target": image()[None]})
    assert {*answer} == {"flow", "confidence", "log_variance", "logits"}
    assert answer["flow"].dtype == np.float32 and answer["flow"].shape == (1, 16, 24, 2)
    np.testing.assert_array_equal(answer["flow"][0, 3, 4], [9, 1])
    path = tmp_path / "target.png"
    write_image(path, image(3, 20, 30))
    for source in (png(image(5)), image(5)):
        dense = client.match(source, path, target_mask=np.ones((20, 30)))
        assert dense["flow"].shape == (20, 30, 2) and dense["confidence"].shape == (20, 30)
        assert dense["flow"][0, 0, 0] == 5 and "target_size" not in dense
    places, confidence = client.match_points(image(2), path, [[1, 2], [3, 4.5]])
    np.testing.assert_array_equal(places, [[3, 4], [5, 6.5]])
    np.testing.assert_array_equal(confidence, [1, 1])
    only = client.predict(
        "match", {"source": image()[None], "target": image()[None]}, ("confidence",)
    )
    assert [*only] == ["confidence"]
    if protocol != "grpc":
        assert client.description()["stride"] == 16


@pytest.mark.parametrize("protocol", _PROTOCOLS)
def test_what_the_server_refuses(serving, make, protocol):
    server = serving(token="secret")
    with pytest.raises(ServerError, match="Bearer TOKEN") as caught:
        make(server, protocol).match(image(), image())
    assert caught.value.status == 401
    client = make(server, protocol, token="secret")
    with pytest.raises(ServerError, match="at least 16 px") as caught:
        client.match(image(), image(1, 8, 20))
    assert caught.value.status == 400
    with pytest.raises(ServerError, match="served in version 1"):
        make(server, protocol, token="secret", version=7).match(image(), image())
    other = make(server, protocol, token="secret", name="other")
    with pytest.raises(ServerError, match="Expected the model known"):
        other.match(image(), image())


def test_the_model_names_itself(serving, make):
    assert make(serving(), name=None).match(image(4), image())["flow"][0, 0, 0] == 4


@pytest.mark.parametrize("protocol", _PROTOCOLS)
def test_a_full_server_is_asked_again(serving, make, protocol):
    server = serving(queue=1)
    model = server.models[1]
    model.go_on.clear()
    answers = []

    def ask():
        with Client(server.url, retries=8) as client:
            answers.append(client.match(image(6), image()))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: model.batches and server.batcher._tasks)
    with pytest.raises(ServerError, match="1 requests wait") as caught:
        make(server, protocol, retries=0).match(image(), image())
    assert caught.value.status == 429
    threading.Timer(0.3, model.go_on.set).start()
    assert make(server, protocol, retries=5).match(image(8), image())["flow"][0, 0, 0] == 8
    for thread in threads:
        thread.join(20)
    assert [answer["flow"][0, 0, 0] for answer in answers] == [6, 6]


@pytest.mark.parametrize("protocol", _PROTOCOLS)
def test_no_server(make, protocol):
    class Nowhere:
        url, grpc = "http://127.0.0.1:9", "127.0.0.1:9"

    client = make(Nowhere, protocol, retries=1, timeout=5)
    with pytest.raises(ServerError, match=r"127\.0\.0\.1:9"):
        client.match(image(), image())
    assert not client.ready()


def test_waits_grow_and_end_with_the_time():
    caller = Caller("http://x", "m", "open-inference", None, timeout=100, retries=3)
    call = caller.predict("match", {"source": image()[None]}, ())
    assert isinstance(next(call), Send)
    waits = []
    for answer in (
        NoAnswer("reset"),
        Response(503, {}, b""),
        Response(429, {"retry-after": "7"}, b""),
    ):
        wanted = call.throw(answer) if isinstance(answer, NoAnswer) else call.send(answer)
        assert isinstance(wanted, Wait)
        waits.append(wanted.seconds)
        assert isinstance(call.send(None), Send)
    assert 0.125 <= waits[0] <= 0.25 and 0.25 <= waits[1] <= 0.5 and waits[2] == 7
    with pytest.raises(ServerError, match="status 503"):
        call.send(Response(503, {}, b""))

    call = Caller("http://x", "m", "rest", None, timeout=2, retries=3).predict("match", {}, ())
    next(call)
    with pytest.raises(ServerError):  # seven seconds are more than are left
        call.send(Response(429, {"retry-after": "7"}, b'{"error": "full"}'))
    call = Caller("http://x", "m", "rest", None, timeout=2, retries=3).predict("match", {}, ())
    next(call)
    with pytest.raises(ServerError, match="it is wrong") as caught:  # of no use again
        call.send(Response(400, {}, b'{"error": "it is wrong"}'))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("localhost:80",), {}, "Expected a server as http"),
        (("http://",), {}, "Expected a server as http"),
        (("http://[x",), {}, r"Expected a server as http.*\[x"),
        (("http://x:99999",), {}, "Expected a server as http.*99999"),
        (("grpc://x:1",), {}, "the model's name"),
        (("grpc://x:1", "m"), {"protocol": "rest"}, "grpc:// for gRPC"),
        (("http://x", "m"), {"protocol": "soap"}, "a protocol of"),
        (("https://x", "m"), {"verify": "absent.pem"}, "absent.pem holds no certificates"),
    ],
)
def test_what_is_no_server(arguments, options, message):
    with pytest.raises(InputError, match=message):
        Client(*arguments, **options)


def test_it_needs_no_tensorflow():
    code = (
        "import sys, tfdense.client; tfdense.client.Client('http://127.0.0.1:9');"
        "print({'tensorflow', 'keras', 'jax'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
