"""A browser for the tests of the page: Debian's Chromium, or what CHROMIUM names."""

import os
import shutil

import numpy as np
import pytest
from browsing import serving
from PIL import Image

from web.prepare import PAGE, PAIR
from web.serve import make_server

# A shared machine may be slow; nothing here depends on how slow.
TIMEOUT = 240_000


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert chromium, "Chromium was not found: install it, or name it by CHROMIUM"
    assert (PAGE / "built" / "models.json").is_file(), "run `make test-web`"
    arguments = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    # SwiftShader: a GPU that is a program, and need not compute what a GPU would.
    arguments += ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address():
    with serving(make_server(0)) as address:
        yield address


@pytest.fixture
def open_page(browser, address):
    """Opens the page; gives it with what it asked for and which errors nobody caught."""
    contexts = []

    def open_page(query="", at=address, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(TIMEOUT)
        page = context.new_page()
        page.requested, page.errors = [], []
        context.on("request", lambda request: page.requested.append(request.url))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(at + query)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Files: cuts of the bundled pair, small, so that every pixel of theirs is enlarged."""
    folder = tmp_path_factory.mktemp("pictures")
    source, target = (Image.open(PAIR / f"{role}.jpg") for role in ("source", "target"))
    source.crop((0, 150, 200, 350)).save(folder / "source.png")
    target.crop((330, 200, 530, 350)).save(folder / "target.png")
    for role, corner in (("source", np.s_[40:90, :60]), ("target", np.s_[100:, 120:])):
        pixels = np.array(Image.open(folder / f"{role}.png").convert("RGBA"))
        pixels[(*corner, 3)] = 0
        Image.fromarray(pixels).save(folder / f"{role}-masked.png")
    Image.open(PAIR / "source.jpg").resize((5472, 3648), Image.Resampling.BICUBIC).save(
        folder / "large.jpg", quality=90
    )
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by a quarter
    target.crop((330, 200, 530, 350)).save(folder / "turned.jpg", exif=turned)
    (folder / "broken.jpg").write_bytes((PAIR / "source.jpg").read_bytes()[:300])
    source.crop((0, 0, 128, 10)).save(folder / "low.png")
    return folder
