"""The page computes what Python does."""

import base64
import io
import json

import numpy as np
import pytest
from browsing import choose, wait_for_match

from tfdense.flow_files import read_flow
from tfdense.images import load_image
from tfdense.lite import LiteMatcher
from tfdense.masking import hide
from tfdense.resampling import resize_image, resize_smooth
from web.prepare import PAGE, PAIR

pytestmark = pytest.mark.browser

# Calls the workers as the page does: the network's inputs, and what it answers to given ones.
_PARTS = """async ({ files, given, size, model, litert }) => {
  const { Remote } = await import("/rpc.js");
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const text = (array) => new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",")[1]);
    reader.readAsDataURL(new Blob([array]));
  });
  const pixels = new Remote(new Worker("/pixel-worker.js", { type: "module" }));
  const canvases = { source: new OffscreenCanvas(1, 1), target: new OffscreenCanvas(1, 1) };
  await pixels.call("start", { canvases, folder: "/built" }, Object.values(canvases));
  for (const [role, { content, type }] of Object.entries(files)) {
    const blob = new Blob([bytes(content)], { type });
    await pixels.call("open", { role, content: blob, name: role });
  }
  const seen = await pixels.call("inputs", { size });
  const network = new Remote(new Worker("/network-worker.js"));
  const folder = new URL(`/built/${litert}`, location).href;
  await network.call("load", { folder, accelerator: "wasm", threads: true });
  await network.call("compile", { url: `/built/${model}`, accelerator: "wasm" });
  const { source, target } = given;
  const answer = await network.call("run", { source: bytes(source), target: bytes(target), size });
  network.end();
  const found = { ...seen, flow: answer.flow, confidence: answer.confidence };
  const texts = Object.entries(found).map(async ([name, array]) => [name, await text(array)]);
  return Object.fromEntries(await Promise.all(texts));
}"""


@pytest.fixture(scope="session")
def manifest():
    return json.loads((PAGE / "built" / "models.json").read_text("utf-8"))


@pytest.fixture(scope="session")
def matcher(manifest):
    return LiteMatcher(PAGE / "built" / manifest["models"][0]["file"], threads=1)


def deviation(answer):
    """The standard deviation of one coordinate of the flow, in px."""
    weights = np.exp(answer["logits"])
    return np.sqrt((weights * np.exp(answer["log_variance"])).sum(-1) / weights.sum(-1))


def assert_equal(flow, confidence, expected, tolerance):
    """To the tolerance in px, or in 3 standard deviations where the network states more."""
    unit = np.maximum(1, 3 * deviation(expected))
    assert (np.abs(flow - expected["flow"]) / unit[..., None]).max() < tolerance
    assert np.abs(confidence - expected["confidence"]).max() < tolerance


@pytest.mark.parametrize(
    ("files", "ties"),
    [
        # Decoded from JPEG and shrunk; what lies halfway between two values may be rounded to
        # either.
        ((PAIR / "source.jpg", PAIR / "target.jpg"), 20),
        (("source.png", "target.png"), 20),
        (("large.jpg", PAIR / "target.jpg"), 20),
    ],
    ids=["jpeg", "enlarged", "large"],
)
def test_parts(open_page, pictures, matcher, manifest, files, ties):
    files = [pictures / file for file in files]
    images = [load_image(file).pixels for file in files]
    inputs = [resize_image(image, matcher.size) for image in images]

    def text(content):
        return base64.b64encode(content).decode()

    page = open_page("style.css")
    found = page.evaluate(
        _PARTS,
        {
            "files": {
                role: {"content": text(file.read_bytes()), "type": f"image/{file.suffix[1:]}"}
                for role, file in zip(("source", "target"), files, strict=True)
            },
            "given": dict(
                zip(("source", "target"), (text(x.tobytes()) for x in inputs), strict=True)
            ),
            "size": list(matcher.size),
            "model": manifest["models"][0]["file"],
            "litert": manifest["litert"],
        },
    )
    found = {name: base64.b64decode(content) for name, content in found.items()}
    for role, expected in zip(("source", "target"), inputs, strict=True):
        seen = np.frombuffer(found[role], np.uint8).reshape(expected.shape)
        difference = np.abs(seen.astype(int) - expected)
        assert difference.max() <= 1 and np.count_nonzero(difference) <= ties
    expected = matcher.run(*inputs)
    flow = np.frombuffer(found["flow"], "<f4").reshape(expected["flow"].shape)
    confidence = np.frombuffer(found["confidence"], "<f4").reshape(expected["confidence"].shape)
    assert_equal(flow, confidence, expected, 1e-3)
    certain = expected["confidence"] > 0.5
    if files[1].name == "target.jpg":
        assert certain.mean() > 0.1
        assert np.abs(flow - expected["flow"])[certain].max() < 1e-3


@pytest.mark.parametrize("kind", ["", "-masked"])
def test_downloads(open_page, pictures, matcher, tmp_path, kind):
    """From the files that are chosen to those that are saved."""
    page = open_page()
    wait_for_match(page)
    for role in ("source", "target"):
        choose(page, role, pictures / f"{role}{kind}.png")
    wait_for_match(page)
    with page.expect_download() as download:
        page.locator("[data-save=npz]").click()
    assert download.value.suggested_filename == "match.npz"
    saved = np.load(io.BytesIO(download.value.path().read_bytes()))
    with page.expect_download() as download:
        page.locator("[data-save=flo]").click()
    download.value.save_as(tmp_path / "flow.flo")
    np.testing.assert_array_equal(read_flow(tmp_path / "flow.flo"), saved["flow"])

    source, target = (load_image(pictures / f"{role}{kind}.png") for role in ("source", "target"))
    expected = matcher.match(
        source.pixels, target.pixels, source_mask=source.mask, target_mask=target.mask
    )
    assert saved["flow"].shape == (150, 200, 2) and saved["flow"].dtype == np.float32
    # Of one pixel that the network sees, where Python takes a round number of the source's.
    scale = np.array(source.pixels.shape[1::-1]) / matcher.size[::-1]
    np.testing.assert_allclose(saved["radius"], scale, rtol=1e-6)
    # And so is the confidence: what the network answers for one pixel of its own, enlarged.
    seen = [hide(x.pixels, x.mask, role) for role, x in (("source", source), ("target", target))]
    answer = matcher.run(*(resize_image(image, matcher.size) for image in seen))
    confidence = resize_smooth(answer["confidence"][..., None], (150, 200))[..., 0]
    confidence = np.where(expected["confidence"] == 0, 0, confidence)
    # A place at the border of what is masked may fall to either side by rounding.
    differs = (saved["confidence"] == 0) != (expected["confidence"] == 0)
    assert differs.mean() < 1e-3 and ((saved["confidence"] == 0).mean() > 0.1) == bool(kind)
    found = np.where(differs, confidence, saved["confidence"])
    log_variance = np.minimum(expected["log_variance"], 14)
    wanted = {
        "flow": expected["flow"],
        "confidence": confidence,
        "log_variance": log_variance,
        "logits": expected["logits"],
    }
    assert_equal(saved["flow"], found, wanted, 5e-3)
