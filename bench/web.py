"""Measures the page of web/ in headless Chromium: python -m bench.web

Beside it, the same file in Python's LiteRT. Needs what `make test-web` installs.
"""

import argparse
import json
import re
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np

from bench.lite import measure
from tfdense.lite import LiteMatcher
from web.prepare import PAGE
from web.serve import Handler, make_server

_TIMEOUT = 240_000  # in ms
_MATCHED = "#status:has-text('Matched in')"


class CountingHandler(Handler):
    """Counts the bytes of the files that it sends."""

    sent = 0

    def copyfile(self, source, outputfile):
        """Sends a file."""
        content = source.read()
        CountingHandler.sent += len(content)
        outputfile.write(content)


def visit(context, address: str, pairs: int) -> str:
    """Opens the page, matches, and returns in words how long it took."""
    CountingHandler.sent = 0
    page = context.new_page()
    start = time.perf_counter()
    page.goto(address)
    page.locator(_MATCHED).wait_for(timeout=_TIMEOUT)
    seconds = time.perf_counter() - start
    page.locator("#offline:not(:empty)").wait_for(timeout=_TIMEOUT)
    megabytes = CountingHandler.sent / 1e6
    times = []
    for _ in range(pairs):
        # The line is emptied first, so that the one of the pair before is not read again.
        page.locator("#status").evaluate("element => { element.textContent = ''; }")
        page.locator("#match").click()
        line = page.locator(_MATCHED)
        line.wait_for(timeout=_TIMEOUT)
        times.append([int(value) for value in re.findall(r"(\d+) ms", line.inner_text())])
    whole, resizing, network, drawing = np.median(times, axis=0)
    runs_on = page.inner_text("#runs-on")
    page.close()
    return (
        f"first match after {seconds:.1f} s, {megabytes:.1f} MB; then {whole:.0f} ms a pair "
        f"(resizing {resizing:.0f}, network {network:.0f}, drawing {drawing:.0f}); {runs_on}"
    )


def main() -> int:
    """Prints what was measured."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15, help="for each row (%(default)s)")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="(%(default)s)")
    arguments = parser.parse_args()
    server = make_server(0, handler=CountingHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://localhost:{server.server_port}/"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=arguments.chromium)
        for query, title in (("?threads=0", "one thread"), ("", "several threads")):
            context = browser.new_context()
            for name in ("first visit", "second visit"):
                print(f"{title}, {name}: {visit(context, address + query, arguments.pairs)}")
            context.close()
        browser.close()
    model = json.loads((PAGE / "built" / "models.json").read_text("utf-8"))["models"][0]
    path = Path(PAGE, "built", model["file"])
    for threads in (1, 2):
        times = measure(LiteMatcher(path, threads), arguments.pairs)
        print(f"LiteRT in Python, {threads} threads: {np.median(times):.0f} ms a pair")
    return 0


if __name__ == "__main__":
    sys.exit(main())
