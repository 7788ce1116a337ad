"""What the tests of the page do in it."""

import contextlib
import threading
from pathlib import Path

MATCHED = "#status:has-text('Matched in')"


@contextlib.contextmanager
def serving(server):
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://localhost:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def choose(page, role: str, path: Path) -> None:
    """Gives the page a picture and waits until it shows it, or says why not."""
    page.locator(f"#{role} input").set_input_files(path)
    shown = page.locator(f"#{role} .name", has_text=path.name)
    shown.or_(page.locator(f"#{role} .message:not(:empty)")).first.wait_for()


def wait_for_match(page) -> None:
    """Waits until nothing is left to match."""
    page.locator("#results:not([aria-busy])").wait_for()
    page.locator(MATCHED).wait_for()
