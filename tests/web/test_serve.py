import gzip
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tfdense.errors import InputError
from web.prepare import PAGE
from web.serve import HEADERS, make_server

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def page(tmp_path):
    """A server of a small page; gives its folder and its address."""
    server = make_server(0, page=tmp_path)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield tmp_path, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def get(url, **headers):
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers))


def test_isolates_the_page(page):
    folder, address = page
    (folder / "index.html").write_text("<!doctype html>")
    with get(address) as answer:
        assert answer.read() == b"<!doctype html>"
        assert HEADERS.items() <= dict(answer.headers.items()).items()
        assert answer.headers["Cache-Control"] == "no-cache"


def test_sends_what_is_compressed(page):
    folder, address = page
    path = folder / "built" / "litert-0" / "wasm" / "network.wasm"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\0asm" * 1000)
    path.with_name("network.wasm.gz").write_bytes(gzip.compress(path.read_bytes()))
    url = f"{address}/built/litert-0/wasm/network.wasm"
    with get(url, **{"Accept-Encoding": "gzip"}) as answer:
        assert answer.headers["Content-Type"] == "application/wasm"
        assert answer.headers["Content-Encoding"] == "gzip"
        assert "immutable" in answer.headers["Cache-Control"]
        assert gzip.decompress(answer.read()) == path.read_bytes()
    with get(url) as answer:
        assert answer.headers["Content-Encoding"] is None
        assert answer.headers["Content-Type"] == "application/wasm"
        assert answer.read() == path.read_bytes()


@pytest.mark.parametrize("path", ["built/", "absent.js", "../serve.py", "%2e%2e/serve.py"])
def test_serves_nothing_else(page, path):
    folder, address = page
    (folder / "built").mkdir()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{address}/{path}")


def test_refuses_a_port_that_is_taken(page):
    port = int(page[1].rpartition(":")[2])
    with pytest.raises(InputError, match=f"Cannot listen at 127.0.0.1, port {port}"):
        make_server(port)
    with pytest.raises(InputError, match="port 99999"):
        make_server(99999)


def test_says_what_is_missing(tmp_path):
    program = (
        "import pathlib, sys, web.serve\n"
        "web.serve.PAGE = pathlib.Path(sys.argv.pop())\n"
        "sys.exit(web.serve.main())"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "run `make web`" in done.stderr


def test_the_service_worker_keeps_all_of_the_page():
    """What is not built: a file it does not know would be missing without a network."""
    text = (PAGE / "service-worker.js").read_text("utf-8")
    shell = set(re.findall(r'"(.+)"', re.search(r"const SHELL = \[(.*?)\]", text, re.DOTALL)[1]))
    files = {path.name for path in PAGE.iterdir() if path.is_file()}
    kept = {name for name in shell if not name.startswith("built/")}
    assert kept == files - {"index.html", "service-worker.js"} | {"./"}


def test_the_page_names_no_other_place():
    """Nothing is loaded from elsewhere: the one address is the namespace of SVG."""
    addresses = {
        address
        for path in PAGE.iterdir()
        if path.is_file()
        for address in re.findall(r"https?://[^\s\"'`]+|[\"'`]//", path.read_text("utf-8"))
    }
    assert addresses == {"http://www.w3.org/2000/svg"}
