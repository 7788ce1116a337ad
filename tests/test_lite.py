import os
import pickle
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ai_edge_litert
import numpy as np
import pytest
import tensorflow as tf

import tfdense
from tfdense.errors import InputError, shown
from tfdense.evaluation.truth_files import read_pfm
from tfdense.exporting.flatbuffer import add_metadata, merge
from tfdense.exporting.tflite import convert
from tfdense.flow_files import read_flow
from tfdense.lite import LiteMatcher
from tfdense.lite_runners import CompiledRunner
from tfdense.masking import is_masked
from tfdense.mixture import LaplaceMixture

ROOT = Path(__file__).resolve().parents[1]
SIZE = (40, 64)
FLOW = (3.0, -2.0)
MIXTURE = LaplaceMixture(maximum_variance=1e4)
DESCRIPTION = {
    "size": SIZE,
    "preset": "known",
    "mixture": {"name": "LaplaceMixture", **MIXTURE.get_config()},
}
LOCAL_SIZES = ((48, 48), (48, 64))
# What it and what it requires are called.
_LITERT = ("ai_edge_litert", "flatbuffers", "google", "ml_dtypes", "tqdm", "typing_extensions.py")
ARRAYS = ("flow", "confidence", "log_variance", "logits")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A file whose answer can be told by hand: a constant flow, the mean colours as logits."""

    def function(source, target):
        zeros = tf.zeros([1, *SIZE, 2])
        means = [
            tf.reduce_mean(tf.cast(image, tf.float32), axis=[1, 2, 3]) for image in (source, target)
        ]
        return {
            "flow": zeros + FLOW,
            "confidence": tf.cast(target[..., 0], tf.float32) / 255.0,
            "log_variance": zeros + 1.5,
            "logits": zeros + tf.stack(means, axis=-1)[:, None, None],
        }

    spec = tf.TensorSpec([1, *SIZE, 3], tf.uint8)
    content = convert(function, {"source": spec, "target": spec})
    path = tmp_path_factory.mktemp("lite") / "known.tflite"
    path.write_bytes(add_metadata(content, DESCRIPTION))
    return path


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A file of two sizes, whose answer is what is to be seen at each pixel."""

    def function(source, target):
        source, target = (tf.cast(image, tf.float32) for image in (source, target))
        return {
            "flow": (target - source)[..., :2] / 16.0,
            "confidence": source[..., 0],
            "log_variance": (target + source)[..., 1:] / 64.0,
            "logits": (source - target)[..., 1:] / 32.0,
        }

    contents = []
    for size in LOCAL_SIZES:
        spec = tf.TensorSpec([1, *size, 3], tf.uint8)
        contents.append(convert(function, {"source": spec, "target": spec}))
    description = {**DESCRIPTION, "size": LOCAL_SIZES[0], "sizes": LOCAL_SIZES}
    path = tmp_path_factory.mktemp("lite") / "local.tflite"
    content = merge(contents, ["match_48x48", "match_48x64"])
    path.write_bytes(add_metadata(content, description))
    return path


def image(value, size=SIZE, dtype=np.uint8):
    return np.full((*size, 3), value, dtype)


def test_run(path):
    matcher = LiteMatcher(path)
    assert matcher.size == SIZE and matcher.metadata["preset"] == "known"
    target = image(0)
    target[3, 5] = 255
    answer = matcher.run(image(7), target)
    assert {name: values.shape for name, values in answer.items()} == {
        "flow": (*SIZE, 2),
        "confidence": SIZE,
        "log_variance": (*SIZE, 2),
        "logits": (*SIZE, 2),
    }
    assert np.all(answer["flow"] == FLOW)
    assert answer["confidence"][3, 5] == 1 and answer["confidence"].sum() == 1
    np.testing.assert_allclose(answer["logits"][9, 9], [7, 255 / (40 * 64)], rtol=1e-5)


def test_floating_images_are_rounded(path):
    answer = LiteMatcher(path, threads=1).run(
        image(6.6, dtype=np.float64), image(254.7, dtype=np.float32)
    )
    np.testing.assert_allclose(answer["logits"][0, 0], [7, 255], rtol=1e-5)


def test_masked_pixels_are_neither_seen_nor_matched(path):
    random = np.random.default_rng(0)
    masks = [random.uniform(size=(60, 90)) < share for share in (0.9, 0.5)]
    images = [
        np.where(mask[..., None], 200, random.integers(0, 256, (60, 90, 3))) for mask in masks
    ]
    images = [image.astype(np.uint8) for image in images]
    matcher = LiteMatcher(path)
    source_mask, target_mask = masks
    answer = matcher.match(*images, source_mask=source_mask, target_mask=target_mask)
    masked = is_masked(answer.flow, *masks)
    assert 0.5 < masked.mean() < 0.95
    assert (answer.confidence[masked] == 0).all()
    assert (answer.confidence[~masked] > 0).all()
    blank = [np.where(mask[..., None], image, 0) for image, mask in zip(images, masks, strict=True)]
    other = matcher.match(
        *(image.astype(np.uint8) for image in blank),
        source_mask=source_mask,
        target_mask=target_mask,
    )
    for name in ARRAYS:
        np.testing.assert_array_equal(other[name], answer[name])
    with pytest.raises(InputError, match="mask of the target"):
        matcher.match(*images, target_mask=masks[0][:-1])


def test_sixteen_bits_are_stretched(path):
    ramp = np.linspace(51000, 51300, 40 * 64 * 3).reshape(*SIZE, 3).astype(np.uint16)
    answer = LiteMatcher(path, threads=1).run(image(7), ramp)
    np.testing.assert_allclose(answer["logits"][0, 0, 1], 127.5, atol=2)


def test_match_brings_the_answer_to_the_images(path):
    """A constant flow of the network, told by hand for images of other sizes."""
    source, target = image(50, (120, 32)), image(100, (60, 128))
    answer = LiteMatcher(path).match(source, target)
    assert answer.flow.shape == (60, 128, 2) and answer.confidence.shape == (60, 128)
    for x, y in ((0, 0), (127, 59), (31, 7)):
        seen = np.array([(x + 0.5) * 64 / 128 + FLOW[0], (y + 0.5) * 40 / 60 + FLOW[1]])
        place = seen * [32 / 64, 120 / 40] - 0.5
        np.testing.assert_allclose(answer.flow[y, x], place - [x, y], atol=1e-4)
    # One pixel that the network sees is half a pixel of the source in x and three in y.
    assert answer.radius == pytest.approx(1.5**0.5)
    np.testing.assert_allclose(answer.log_variance, 1.5 + np.log(0.5 * 3.0), rtol=1e-6)
    np.testing.assert_allclose(answer.logits[0, 0], [50, 100], rtol=1e-5)
    for radius, match in ((1.5**0.5, answer), (2, LiteMatcher(path).match(source, target, 2))):
        expected = MIXTURE.confidence([1.5, 1.5], [50.0, 100.0], (radius / 0.5, radius / 3))
        np.testing.assert_allclose(match.confidence, expected, rtol=1e-5)
    np.testing.assert_array_equal(answer["flow"], answer.flow)


@pytest.mark.parametrize(
    ("sizes", "seen"), [(((90, 120), (75, 80)), (48, 64)), (((31, 34), (50, 47)), (48, 48))]
)
def test_match_is_that_of_the_matcher(local, sizes, seen):
    random = np.random.default_rng(1)
    images = [random.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    masks = [random.uniform(size=size) < 0.95 for size in sizes]
    arguments = {"both_ways": True, "source_mask": masks[1], "target_mask": masks[0]}
    matcher = LiteMatcher(local)
    assert matcher.sizes == LOCAL_SIZES and matcher.size_for(*sizes[0]) == seen
    for options in ({}, {"radius": 2.5}, arguments):
        answer = matcher.match(*images[::-1], **options)
        expected = tfdense.load(local).match(*images[::-1], **options)
        assert answer.radius == expected.radius
        for name in (*ARRAYS, "variance"):
            np.testing.assert_allclose(answer[name], expected[name], rtol=1e-4, atol=1e-4)
    assert (answer.confidence == 0).any()
    np.testing.assert_allclose(answer.reverse.flow, expected.reverse.flow, rtol=1e-4, atol=1e-4)


def test_the_size_follows_the_target(local, path):
    matcher = LiteMatcher(local)
    # The ratio of sides first; nothing is enlarged where a smaller size will do.
    assert [matcher.size_for(*size) for size in ((480, 640), (640, 480), (20, 20), (9, 99))] == [
        (48, 64),
        (48, 48),
        (48, 48),
        (48, 64),
    ]
    only = LiteMatcher(local, size=[48, 48])
    assert only.sizes == ((48, 48),) and only.size_for(480, 640) == (48, 48)
    assert pickle.loads(pickle.dumps(only)).sizes == only.sizes
    images = [image(value, (48, 64)) for value in (3, 7)]
    np.testing.assert_array_equal(matcher.run(*images)["flow"], np.full((48, 64, 2), 0.25))
    with pytest.raises(InputError, match=r"of height and width \(48, 48\), the size of this file"):
        only.run(*images)
    with pytest.raises(InputError, match=r"size of \(48, 48\), \(48, 64\), .* \(40, 64\)"):
        LiteMatcher(local, size=(40, 64))
    with pytest.raises(InputError, match="mixture"):
        matcher.metadata = {}
        matcher.match(*images)


def test_both_apis_answer_the_same(local):
    random = np.random.default_rng(2)
    signatures = {(48, 48): "match_48x48", (48, 64): "match_48x64"}
    compiled = CompiledRunner(local, signatures, "cpu", threads=1)
    matcher = LiteMatcher(local, threads=1)
    for size in (*LOCAL_SIZES, *LOCAL_SIZES):
        images = random.integers(0, 256, (2, *size, 3), np.uint8)
        expected = matcher.run(*images)
        answer = compiled.run(size, {"source": images[:1], "target": images[1:]})
        assert {*answer} == {*ARRAYS}
        for name in ARRAYS:
            np.testing.assert_array_equal(answer[name][0], expected[name])
    with pytest.raises(ValueError, match="shape"):
        CompiledRunner(local, {(48, 64): "match_48x48"}, "cpu", None).run((48, 64), {})


def test_accelerators(path):
    with pytest.raises(InputError, match=r"of cpu, gpu, npu\. Received: 'tpu'"):
        LiteMatcher(path, accelerator="tpu")
    try:
        matcher = LiteMatcher(path, accelerator="gpu")
    except InputError as error:
        assert "LiteRT cannot use accelerator 'gpu' here" in str(error)
        assert "\n" not in str(error)
    else:
        assert np.all(matcher.run(image(7), image(0))["flow"] == FLOW)


def test_match_takes_the_brightest_images(path):
    """Whose resized values may exceed 255 by rounding."""
    answer = LiteMatcher(path).match(image(255, (478, 640)), image(255, (33, 77)))
    np.testing.assert_allclose(answer.logits[5, 6], [255, 255], rtol=1e-6)


def test_a_pickle_holds_the_path_only(path):
    content = pickle.dumps(LiteMatcher(path, threads=1))
    assert len(content) < 500
    images = image(7), image(9)
    answer, expected = (each.match(*images) for each in (pickle.loads(content), LiteMatcher(path)))
    np.testing.assert_array_equal(answer["flow"], expected["flow"])


def test_threads_share_a_matcher(path):
    matcher = LiteMatcher(path)

    def mean(value):
        return matcher.run(image(value), image(0))["logits"][0, 0, 0]

    with ThreadPoolExecutor(8) as pool:
        np.testing.assert_allclose(list(pool.map(mean, range(200))), range(200), rtol=1e-5)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (image(0, (40, 63)), r"size of this file. Received: \(40, 63\)"),
        (image(0)[..., 0], r"\[height, width, 3\]. Received: \(40, 64\)"),
        (image(0)[None], r"Received: \(1, 40, 64, 3\)"),
        (image(0, dtype=bool), "Received: bool"),
        (image(300.0, dtype=np.float32), "in 0..255. Received: 300.0"),
        (image(np.nan, dtype=np.float32), "Received: nan"),
        (image(0.5, dtype=np.float32), "source values in 0..255. Received: 0.5 .* white were 1"),
    ],
)
def test_refuses_images(path, source, message):
    matcher = LiteMatcher(path)
    with pytest.raises(InputError, match=message):
        matcher.run(source, image(0))


def test_refuses_files(path, tmp_path):
    with pytest.raises(InputError, match="There is no"):
        LiteMatcher(tmp_path / "absent.tflite")
    plain = convert(lambda x: {"y": x + 1}, {"x": tf.TensorSpec([1], tf.float32)})
    (tmp_path / "other.tflite").write_bytes(plain)
    with pytest.raises(InputError, match="not exported by tfdense"):
        LiteMatcher(tmp_path / "other.tflite")


@pytest.mark.parametrize(
    "threads", [0, -1, 1025, 10**6, 2**40, 2.0, 2.5, np.nan, "2", [2], True, np.True_], ids=repr
)
def test_threads_that_are_no_such_number(path, threads):
    expected = "Expected threads to be a whole number from 1 to 1024, or None. Received: "
    with pytest.raises(InputError) as refusal:
        LiteMatcher(path, threads=threads)
    assert str(refusal.value) == f"{expected}{threads!r}"


def test_threads_may_be_a_number_of_numpy(path):
    matcher = LiteMatcher(path, threads=np.int64(2))
    assert np.all(matcher.run(image(7), image(0))["flow"] == FLOW)


@pytest.mark.parametrize(
    "size", [128, True, (48.0, 48.0), "48x48", (48,), (48, 48, 3), [[48, 48]], np.float32([48, 48])]
)
def test_a_size_that_the_file_does_not_have(local, size):
    with pytest.raises(InputError) as refusal:
        LiteMatcher(local, size=size)
    message = str(refusal.value)
    assert message.startswith("Expected a size of (48, 48), (48, 64), as ")
    assert message.endswith(f" has. Received: {shown(size)}")


def test_a_size_may_be_an_array(local):
    assert LiteMatcher(local, size=np.array([48, 64])).sizes == ((48, 64),)


def test_what_is_no_path_is_refused(path):
    with path.open("rb") as file:
        for given in (None, 5, path.read_bytes(), file, "", "a\0b", [path]):
            with pytest.raises(InputError) as refusal:
                LiteMatcher(given)
            (line,) = str(refusal.value).splitlines()
            assert line.startswith("Expected the path of a .tflite file. Received: ")
    with pytest.raises(InputError, match=r"Received: ''$"):
        LiteMatcher("")


_DEVICE = """
import sys
import numpy as np
from tfdense.errors import InputError
from tfdense.lite import LiteMatcher

def refused(function, *arguments):
    try:
        function(*arguments)
    except InputError as error:
        print(error)

random = np.random.default_rng(0)
source, target = (random.integers(0, 256, (50, 70, 3), np.uint8) for _ in range(2))
matcher = LiteMatcher(sys.argv[1])
match = matcher.match(source, target, both_ways=True)
matcher.match(source, target, source_mask=source[..., 0] > 9, tiles=(1, 2))
np.savez(sys.argv[2], warp=match.warp(), cycle=match.cycle_error(), variance=match.variance,
         **match.matches(20, threshold=0)._asdict())
refused(match.homography, 0)
refused(match.save, "out")
refused(matcher.match, "a.jpg", b"GIF89a")
refused(matcher.match, source, b"GIF89a")
print(sorted({"tensorflow", "keras", "cv2", "PIL", "yaml", "pydantic", "scipy"} & {*sys.modules}))
"""


def test_needs_numpy_and_litert_alone(path, tmp_path):
    """In an environment that has nothing else; the numbers are those of one that has all."""
    site = tmp_path / "site"
    site.mkdir()
    installed = Path(np.__file__).parents[1]
    for name in ("numpy", "numpy.libs", *_LITERT):
        (site / name).symlink_to(installed / name)
    (site / "tfdense").symlink_to(ROOT / "tfdense")
    (site / "tfdense.dist-info").mkdir()
    (site / "tfdense.dist-info" / "METADATA").write_text("Name: tfdense\nVersion: 1\n")
    command = [sys.executable, "-S", "-c", _DEVICE, str(path), str(tmp_path / "arrays.npz")]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    missing = "the package {0}, which is not installed: pip install {0}"
    assert done.stdout.splitlines() == [
        "A homography needs " + missing.format("opencv-python-headless"),
        "Drawing pictures needs " + missing.format("opencv-python-headless"),
        "There is no image file a.jpg.",
        "Reading image files needs " + missing.format("opencv-python-headless"),
        "[]",
    ], done.stderr
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (50, 70, 3), np.uint8) for _ in range(2)]
    match = tfdense.load(path).match(*images, both_ways=True)
    with np.load(tmp_path / "arrays.npz") as arrays:
        assert np.abs(arrays["warp"].astype(int) - match.warp()).max() <= 1
        np.testing.assert_allclose(arrays["cycle"], match.cycle_error(), atol=1e-3)
        np.testing.assert_allclose(arrays["variance"], match.variance, rtol=1e-4)
        for name, values in match.matches(20, threshold=0)._asdict().items():
            np.testing.assert_allclose(arrays[name], values, rtol=1e-4, atol=1e-3)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_the_example_in_c(local, tmp_path):
    library = Path(ai_edge_litert.__file__).parent
    program = tmp_path / "match"
    compile_ = ["gcc", "-Wall", "-Wextra", "-Werror", ROOT / "docs/device/match.c", "-o", program]
    subprocess.run([*compile_, "-L", library, "-lLiteRt", f"-Wl,-rpath,{library}"], check=True)
    images = np.random.default_rng(3).integers(0, 256, (2, 48, 48, 3), np.uint8)
    for role, pixels in zip(("source", "target"), images, strict=True):
        (tmp_path / f"{role}.ppm").write_bytes(b"P6 48 48 255\n" + pixels.tobytes())
    files = [tmp_path / name for name in ("source.ppm", "target.ppm", "flow.flo", "sure.pfm")]
    subprocess.run([program, local, *files], check=True)
    expected = LiteMatcher(local).run(*images)
    np.testing.assert_array_equal(read_flow(files[2]), expected["flow"])
    np.testing.assert_array_equal(read_pfm(files[3]), expected["confidence"])
    files[0].write_bytes(b"P6 48 47 255\n" + bytes(48 * 47 * 3))
    done = subprocess.run([program, local, *files], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"match: not of the size of the network: {files[0]}" in done.stderr


def test_benchmark(path):
    command = [sys.executable, "-m", "bench.lite", str(path), "--repetitions", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "1 MEAN" in done.stdout or "2 MEAN" in done.stdout
    assert re.search(r"40x64, 2 threads: median \d+\.\d ms a pair", done.stdout)
    command[3] = str(path.with_name("absent"))
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "There is no .tflite file" in done.stderr
