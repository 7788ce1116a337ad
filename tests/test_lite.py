import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfdense.errors import InputError
from tfdense.exporting.flatbuffer import add_metadata
from tfdense.exporting.tflite import convert
from tfdense.lite import LiteMatcher, _resize
from tfdense.masking import is_masked

ROOT = Path(__file__).resolve().parents[1]
SIZE = (40, 64)
FLOW = (3.0, -2.0)


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
    path.write_bytes(add_metadata(content, {"size": SIZE, "preset": "known"}))
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
    answer = matcher.match(*images, *masks)
    masked = is_masked(answer["flow"], *masks)
    assert 0.5 < masked.mean() < 0.95
    assert (answer["confidence"][masked] == 0).all()
    assert (answer["confidence"][~masked] > 0).all()
    blank = [np.where(mask[..., None], image, 0) for image, mask in zip(images, masks, strict=True)]
    other = matcher.match(*(image.astype(np.uint8) for image in blank), *masks)
    for name, values in answer.items():
        np.testing.assert_array_equal(other[name], values)
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
    assert answer["flow"].shape == (60, 128, 2) and answer["confidence"].shape == (60, 128)
    for x, y in ((0, 0), (127, 59), (31, 7)):
        seen = np.array([(x + 0.5) * 64 / 128 + FLOW[0], (y + 0.5) * 40 / 60 + FLOW[1]])
        place = seen * [32 / 64, 120 / 40] - 0.5
        np.testing.assert_allclose(answer["flow"][y, x], place - [x, y], atol=1e-4)
    # One pixel that the network sees is half a pixel of the source in x and three in y.
    np.testing.assert_allclose(answer["radius"], [0.5, 3.0])
    np.testing.assert_allclose(answer["log_variance"], 1.5 + np.log(0.5 * 3.0), rtol=1e-6)
    np.testing.assert_allclose(answer["confidence"], 100 / 255, rtol=1e-5)
    np.testing.assert_allclose(answer["logits"][0, 0], [50, 100], rtol=1e-5)


def test_match_takes_the_brightest_images(path):
    """Whose resized values may exceed 255 by rounding."""
    answer = LiteMatcher(path).match(image(255, (478, 640)), image(255, (33, 77)))
    np.testing.assert_array_equal(answer["logits"][5, 6], [255, 255])


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


@pytest.mark.parametrize("size", [(20, 30), (7, 11), (33, 47), (9, 60), (31, 8)])
def test_resize_is_tensorflows(size):
    values = np.random.default_rng(2).uniform(0, 255, (20, 30, 3)).astype(np.float32)
    expected = tf.image.resize(values, size, antialias=True).numpy()
    np.testing.assert_allclose(_resize(values, size), expected, atol=2e-3)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (image(0, (40, 63)), r"size of this file. Received: \(40, 63\)"),
        (image(0)[..., 0], r"\[height, width, 3\]. Received: \(40, 64\)"),
        (image(0)[None], r"Received: \(1, 40, 64, 3\)"),
        (image(0, dtype=np.int32), "Received: int32"),
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
    with pytest.raises(InputError, match="at least one thread"):
        LiteMatcher(path, threads=0)
    with pytest.raises(InputError, match="There is no"):
        LiteMatcher(tmp_path / "absent.tflite")
    plain = convert(lambda x: {"y": x + 1}, {"x": tf.TensorSpec([1], tf.float32)})
    (tmp_path / "other.tflite").write_bytes(plain)
    with pytest.raises(InputError, match="not exported by tfdense"):
        LiteMatcher(tmp_path / "other.tflite")


def test_needs_neither_tensorflow_nor_opencv(path):
    program = (
        "import sys; import numpy as np; from tfdense.lite import LiteMatcher\n"
        "image = np.zeros((50, 70, 3), np.uint8)\n"
        "print(LiteMatcher(sys.argv[1]).match(image, image)['flow'].shape)\n"
        "print(sorted({'tensorflow', 'keras', 'cv2', 'yaml', 'pydantic'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(50, 70, 2)", "[]"]


def test_benchmark(path):
    command = [sys.executable, "-m", "bench.lite", str(path), "--repetitions", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "1 MEAN" in done.stdout or "2 MEAN" in done.stdout
    assert re.search(r"40x64, 2 threads: median \d+\.\d ms a pair", done.stdout)
    command[3] = str(path.with_name("absent"))
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "There is no .tflite file" in done.stderr
