"""The page as its user meets it, in headless Chromium."""

import functools
import http.server
import io
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
from browsing import choose, serving, wait_for_match
from PIL import Image

from web.prepare import PAGE
from web.serve import Handler

pytestmark = pytest.mark.browser

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
SHOTS = Path("runs/web/screenshots")


def violations(page) -> list[str]:
    """What axe finds, by rule and place."""
    import axe_playwright_python

    script = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text("utf-8")
    page.evaluate(script)
    found = page.evaluate("axe.run()")["violations"]
    return [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]


def picture(page, kind: str) -> np.ndarray:
    """Saves a picture as the user does."""
    with page.expect_download() as download:
        page.locator(f"[data-save={kind}]").click()
    return np.asarray(Image.open(io.BytesIO(download.value.path().read_bytes())).convert("RGB"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_opens_with_a_match(open_page, device, scheme):
    page = open_page(color_scheme=scheme, **device)
    wait_for_match(page)
    SHOTS.mkdir(parents=True, exist_ok=True)
    name = f"{device['viewport']['width']}-{scheme}.png"
    page.screenshot(path=SHOTS / name, full_page=True)
    assert "threads)" in page.inner_text("#runs-on")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert violations(page) == []
    assert page.errors == []
    # Nothing was asked of any other place.
    own = urllib.parse.urlsplit(page.url).netloc
    hosts = {urllib.parse.urlsplit(url).netloc for url in page.requested if url[:4] == "http"}
    assert hosts == {own}


def test_pictures_show_the_match(open_page):
    page = open_page()
    wait_for_match(page)
    page.locator("#threshold").evaluate(
        "e => { e.value = 0.9; e.dispatchEvent(new Event('input')); }"
    )
    page.locator("#threshold-value:has-text('0.90')").wait_for()
    page.wait_for_timeout(2000)
    warped, confidence = picture(page, "warped"), picture(page, "confidence")
    target = np.asarray(Image.open(PAGE / "built" / "target.jpg"))
    assert warped.shape == target.shape
    bright = confidence[..., 0] > 230  # yellow
    assert 0.05 < bright.mean() < 0.6
    error = np.abs(warped.astype(float) - target).mean(-1)
    assert np.median(error[bright]) < 12 < np.median(error[~bright])
    assert picture(page, "matches").shape[1] == 2 * 640 + 8
    assert picture(page, "flow").shape == target.shape
    assert page.errors == []


def test_works_by_keyboard(open_page):
    page = open_page()
    wait_for_match(page)
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "document.activeElement.id || document.activeElement.dataset.save"
                " || document.activeElement.closest('.slot')?.id"
            )
        )
    order = ["source", "source", "target", "target", "match", "swap", "example", "threshold"]
    order += ["swipe", "warped", "confidence", "flow", "matches", "npz", "flo"]
    assert reached[: len(order)] == order
    page.locator("#threshold").focus()
    before = page.inner_text("#share")
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    page.locator("#threshold-value:has-text('0.80')").wait_for()
    page.wait_for_timeout(1500)
    assert page.inner_text("#share") != before
    page.locator("#swipe").focus()
    page.keyboard.press("Home")
    place = page.locator(".swipe").evaluate("e => e.style.getPropertyValue('--place')")
    assert place == "0%"
    page.locator("#match").focus()
    page.keyboard.press("Enter")
    wait_for_match(page)


def test_works_without_a_network(open_page):
    page = open_page()
    wait_for_match(page)
    page.context.set_offline(True)
    page.reload()
    wait_for_match(page)
    assert page.errors == []


def test_names_what_it_cannot_read(open_page, pictures):
    page = open_page()
    wait_for_match(page)
    cases = {
        "broken.jpg": "broken.jpg is not a picture that this browser can read (300 bytes).",
        "low.png": "Expected pictures with sides of 16 to 32766 px. "
        "Received: low.png of 128 x 10 px.",
    }
    for name, message in cases.items():
        choose(page, "source", pictures / name)
        assert page.inner_text("#source .message") == message
        assert "example" in page.inner_text("#source .name")
    choose(page, "source", pictures / "source.png")
    assert page.inner_text("#source .message") == ""
    wait_for_match(page)
    assert page.errors == []


def test_turns_pictures_upright(open_page, pictures):
    page = open_page()
    choose(page, "source", pictures / "turned.jpg")
    assert "150 × 200 px" in page.inner_text("#source .name")


def test_takes_twenty_megapixels(open_page, pictures):
    page = open_page()
    choose(page, "source", pictures / "large.jpg")
    choose(page, "target", pictures / "large.jpg")
    wait_for_match(page)
    assert "5472 × 3648 px" in page.inner_text("#target .name")
    with page.expect_download() as download:
        page.locator("[data-save=flo]").click()
    content = download.value.path().read_bytes()
    assert len(content) == 12 + 8 * 5472 * 3648
    # A picture matched with itself does not move.
    flow = np.frombuffer(content, "<f4", offset=12).reshape(3648, 5472, 2)
    assert np.median(np.abs(flow)) < 3
    assert page.errors == []


def test_of_several_clicks_the_last_counts(open_page, pictures):
    page = open_page()
    wait_for_match(page)
    for _ in range(2):
        page.locator("#match").click()
    page.locator("#swap").click()
    page.locator("#source input").set_input_files(pictures / "source.png")
    page.locator("#target input").set_input_files(pictures / "target.png")
    page.locator("#match").dblclick()
    page.locator("#target .name", has_text="target.png").wait_for()
    wait_for_match(page)
    page.wait_for_timeout(1000)
    wait_for_match(page)
    assert picture(page, "warped").shape == (150, 200, 3)
    assert page.errors == []


class Plain(http.server.SimpleHTTPRequestHandler):
    """A server that knows nothing of isolation."""

    extensions_map = Handler.extensions_map

    def log_message(self, *arguments):
        pass


def test_a_plain_server_gives_threads_at_the_second_visit(open_page):
    handler = functools.partial(Plain, directory=PAGE)
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)) as address:
        page = open_page(at=address)
        wait_for_match(page)
        assert "one thread, since the page is not isolated" in page.inner_text("#runs-on")
        page.reload()
        wait_for_match(page)
        assert "threads)" in page.inner_text("#runs-on")
        page.context.close()


@pytest.fixture
def broken_page(open_page, address):
    """Opens the page with another script of a worker."""

    def open_broken(name, script):
        page = open_page("style.css", service_workers="block")
        page.context.route(
            f"**/{name}",
            lambda route: route.fulfill(
                body=script,
                content_type="text/javascript",
                headers={"Cross-Origin-Embedder-Policy": "require-corp"},
            ),
        )
        page.goto(address)
        return page

    return open_broken


def test_without_pictures(broken_page):
    page = broken_page("app.js", "")
    assert violations(page) == []
    assert page.locator("#match").is_disabled() and page.locator("#swap").is_disabled()


def test_says_that_webassembly_is_missing(broken_page):
    script = (PAGE / "network-worker.js").read_text("utf-8")
    page = broken_page("network-worker.js", f"delete self.WebAssembly;\n{script}")
    page.locator("#failure:not(:empty)").wait_for()
    assert page.inner_text("#failure") == "This browser lacks WebAssembly."
    assert page.locator("#match").is_enabled()


def test_goes_on_after_a_crash(broken_page):
    """A network that fails is replaced: the next click matches."""
    script = (PAGE / "network-worker.js").read_text("utf-8")
    script = script.replace("outputs = await model.run", "throw new Error('out of memory'); await")
    page = broken_page("network-worker.js", script)
    page.locator("#failure:not(:empty)").wait_for()
    assert page.inner_text("#failure") == "It did not work: out of memory."
    page.context.unroute("**/network-worker.js")
    page.locator("#match").click()  # with the worker that replaced the first, broken as well
    page.locator("#failure:not(:empty)").wait_for()
    page.locator("#match").click()
    wait_for_match(page)
    assert page.inner_text("#failure") == ""


def test_takes_pictures_by_camera(open_page):
    page = open_page(permissions=["camera"])
    wait_for_match(page)
    page.locator("#source .camera").click()
    page.locator("dialog video").wait_for()
    page.wait_for_timeout(1000)
    assert violations(page) == []
    page.locator("dialog button.main").click()
    page.locator("#source .name", has_text="camera").wait_for()
    wait_for_match(page)
    page.locator("#source .camera").click()
    page.locator("dialog button", has_text="Cancel").click()
    page.locator("dialog").wait_for(state="hidden")
    assert page.errors == []


def test_the_gpu_is_checked_before_it_is_used(open_page):
    """Whatever SwiftShader computes: it is compared, the page says so, and goes on matching."""
    page = open_page("?accelerator=webgpu")
    page.context.set_default_timeout(900_000)  # SwiftShader takes long for this network
    wait_for_match(page)
    page.locator("#runs-on", has_text="The GPU").wait_for()
    text = page.inner_text("#runs-on")
    if "on the GPU" in text:
        assert "The GPU's answer was checked: within" in text
    else:
        assert "WebAssembly" in text
    page.locator("#match").click()
    wait_for_match(page)
    # The second visit knows.
    page.reload()
    wait_for_match(page)
    assert page.inner_text("#runs-on") == text
    assert page.errors == []
