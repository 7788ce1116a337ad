"""How fast `tfdense serve` answers, what it does when too much is asked, and what memory it takes.

    python bench/serving.py models/pdcnet                  # starts servers and loads them
    python bench/serving.py --url http://HOST:PORT --name pdcnet    # a server that runs already

Clients and server share the machine; only this machine should be loaded. Loads are of two kinds:
closed, N clients that ask again when they are answered; and open, requests that come at fixed times
whatever became of the former, whose latency counts from the time at which they should have begun.
"""

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import httpx
import numpy as np

from tfdense.data import bundled_pair
from tfdense.images import encode_image, read_image
from tfdense.serving.protocols import open_inference, rest

_REFUSED = (429, 503)


class Body(NamedTuple):
    """A request as it is sent.

    Attributes:
        path: behind the server's URL.
        content: its bytes.
        headers: that say what they are.
    """

    path: str
    content: bytes
    headers: dict[str, str]


class Answers(NamedTuple):
    """What became of a load.

    Attributes:
        latencies: of the answers, in s.
        refusals: latencies of what was refused, in s.
        failures: how many ended otherwise.
        seconds: that it took.
    """

    latencies: list[float]
    refusals: list[float]
    failures: int
    seconds: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def __str__(self) -> str:
        text = f"{self.rate:6.2f}/s  {_percentiles(self.latencies)}"
        if self.refusals:
            text += f"  refused {len(self.refusals)}: {_percentiles(self.refusals)}"
        return text + (f"  failed {self.failures}" if self.failures else "")


def _percentiles(seconds: list[float]) -> str:
    if not seconds:
        return "none"
    shown = np.percentile(seconds, (50, 95, 99)) * 1000
    return "p50 {:.0f}, p95 {:.0f}, p99 {:.0f} ms".format(*shown)


def bodies(name: str, side: int) -> dict[str, Body]:
    """Returns the same pair in each form: pixels and files, as JSON and as bytes."""
    images = {
        role: cv2.resize(read_image(path), (side, side), interpolation=cv2.INTER_AREA)
        for role, path in zip(("source", "target"), bundled_pair(), strict=True)
    }
    files = {role: np.empty(1, object) for role in images}
    for role, image in images.items():
        files[role][0] = encode_image("x.jpg", image)
    pixels = {role: image[None] for role, image in images.items()}
    found = {}
    for form, signature, inputs in (("pixels", "match", pixels), ("files", "match_encoded", files)):
        content = rest.write_request(signature, inputs)
        path = f"/v1/models/{name}:predict"
        found[f"{form}, JSON"] = Body(path, content, {"Content-Type": "application/json"})
        wanted = ("flow", "confidence")
        pieces, length = open_inference.write_request(signature, inputs, wanted)
        headers = {open_inference.HEADER_LENGTH: str(length)}
        found[f"{form}, bytes"] = Body(f"/v2/models/{name}/infer", b"".join(pieces), headers)
    return found


async def closed(client: httpx.AsyncClient, body: Body, clients: int, seconds: float) -> Answers:
    """Loads a server by clients that wait for each answer."""
    load = _Load(client, body)
    end = time.perf_counter() + seconds

    async def ask():
        while time.perf_counter() < end:
            await load.ask(time.perf_counter())

    start = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(clients)))
    return load.answers(time.perf_counter() - start)


async def opened(client: httpx.AsyncClient, body: Body, rate: float, seconds: float) -> Answers:
    """Loads a server by requests at fixed times."""
    load, tasks = _Load(client, body), []
    start = time.perf_counter()
    for i in range(max(1, round(rate * seconds))):
        due = start + i / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(load.ask(due)))
    await asyncio.gather(*tasks)
    return load.answers(time.perf_counter() - start)


class _Load:
    def __init__(self, client: httpx.AsyncClient, body: Body):
        self._client, self._body = client, body
        self._latencies, self._refusals, self._failures = [], [], 0

    async def ask(self, begin: float) -> None:
        path, content, headers = self._body
        try:
            answer = await self._client.post(path, content=content, headers=headers)
        except httpx.HTTPError:
            self._failures += 1
            return
        latency = time.perf_counter() - begin
        if answer.status_code == 200:
            self._latencies.append(latency)
        elif answer.status_code in _REFUSED:
            self._refusals.append(latency)
        else:
            self._failures += 1

    def answers(self, seconds: float) -> Answers:
        return Answers(self._latencies, self._refusals, self._failures, seconds)


async def memory(client: httpx.AsyncClient) -> float:
    """Returns what the server holds, in MiB; NaN if it does not say."""
    for line in (await client.get("/metrics")).text.splitlines():
        if line.startswith("process_resident_memory_bytes "):
            return float(line.split()[1]) / 2**20
    return float("nan")


async def measure(url: str, name: str, arguments: argparse.Namespace, whole: bool) -> None:
    """Prints how a server does under each load."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        requests, seconds = bodies(name, arguments.side), arguments.seconds
        requests = {form: requests[form] for form in arguments.forms or requests}
        for form, body in requests.items():
            answer = await client.post(body.path, content=body.content, headers=body.headers)
            answer.raise_for_status()
            sizes = f"{len(body.content) / 1e3:.0f} kB there, {len(answer.content) / 1e3:.0f} back"
            print(f"  {form}: {sizes}")
            for clients in arguments.clients if whole or "bytes" in form else ():
                print(f"    {clients:2d} clients  {await closed(client, body, clients, seconds)}")
        if not whole:
            return
        form = "files, bytes" if "files, bytes" in requests else form
        body = requests[form]
        capacity = (await closed(client, body, 4, seconds)).rate
        print(f"  capacity {capacity:.2f}/s; at fixed rates of {form}:")
        for share in (0.5, 0.8, 3.0):
            answers = await opened(client, body, share * capacity, 2 * seconds)
            print(f"    {share:.1f} of it  {answers}  goodput {answers.rate / capacity:.0%}")
        before = None
        for done in range(0, arguments.requests, 100):
            if done == arguments.requests // 10 // 100 * 100:
                before = await memory(client)
            await asyncio.gather(*(_many(client, body, 25) for _ in range(4)))
        after = await memory(client)
        print(
            f"  memory: {before:.0f} MiB after a tenth of {arguments.requests} requests, "
            f"{after:.0f} MiB at the end ({after / before - 1:+.1%})"
        )


async def _many(client: httpx.AsyncClient, body: Body, count: int) -> None:
    load = _Load(client, body)
    for _ in range(count):
        await load.ask(time.perf_counter())


@contextlib.contextmanager
def started(folder: str, *options: str) -> Iterator[dict]:
    """Starts a server on a free port; gives what it says when it is ready, and stops it."""
    code = "import sys; from tfdense.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "serve", folder, "--port", "0", "--grpc-port", "-1"]
    with tempfile.NamedTemporaryFile("r+") as log:
        process = subprocess.Popen([*command, *options], stderr=log)
        try:
            while True:
                time.sleep(0.2)
                if process.poll() is not None:
                    raise SystemExit(f"The server did not start: {Path(log.name).read_text()}")
                for line in Path(log.name).read_text().splitlines():
                    if line.startswith("{") and (said := json.loads(line))["event"] == "ready":
                        yield said
                        return
        finally:
            process.terminate()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", help="of exported versions")
    parser.add_argument("--url", help="of a server that runs, in the place of a folder")
    parser.add_argument("--name", help="of that server's model")
    parser.add_argument("--side", type=int, default=256, help="of the images, in px (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="of a load (%(default)s)")
    parser.add_argument("--clients", type=int, nargs="+", default=(1, 4, 16))
    parser.add_argument("--forms", nargs="+", metavar="FORM", help='such as "pixels, bytes" (all)')
    parser.add_argument("--requests", type=int, default=2000, help="for memory (%(default)s)")
    arguments = parser.parse_args()
    if arguments.url:
        asyncio.run(measure(arguments.url, arguments.name, arguments, True))
        return
    if arguments.folder is None:
        parser.error("Expected a folder or --url.")
    for batch in (4, 1):
        with started(arguments.folder, "--batch", str(batch), "--queue", "16") as said:
            print(f"at most {batch} pairs in a batch")
            asyncio.run(measure(said["http"], said["model"], arguments, batch == 4))


if __name__ == "__main__":
    main()
