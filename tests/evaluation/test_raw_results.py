"""What a network gave is found again if, and only if, nothing it depends on has changed."""

import numpy as np
import pytest

from tfdense.evaluation.raw_results import RecordedNetwork, identify
from tfdense.results.match import Match


def match_anyhow(source, target):
    """Answers differently to different images."""
    random = np.random.default_rng(source.sum() + 3 * target.sum())
    shape = target.shape[:2]
    flow, log_variance, logits = random.normal(0, 5, (3, *shape, 2)).astype(np.float32)
    confidence = random.uniform(size=shape).astype(np.float32)
    return Match(100 * flow, confidence, log_variance, logits, 1.5, source, target)


@pytest.fixture
def network(counting_network):
    return counting_network(match_anyhow)


SOURCE, TARGET = np.random.default_rng(0).integers(0, 256, (2, 20, 24, 3), np.uint8)


def test_a_match_is_kept(tmp_path, network):
    recorded = RecordedNetwork(lambda: network, tmp_path)
    assert recorded.mixture is network.mixture
    first = recorded.match(SOURCE, TARGET)
    second = RecordedNetwork(lambda: network, tmp_path).match(SOURCE, TARGET)
    assert network.calls == 1
    truth = match_anyhow(SOURCE, TARGET)
    for match in (first, second):
        np.testing.assert_allclose(match.flow, truth.flow, atol=1 / 128, rtol=0)
        np.testing.assert_allclose(match.confidence, truth.confidence, atol=1e-5, rtol=0)
        np.testing.assert_allclose(match.log_variance, truth.log_variance, rtol=1e-3)
        np.testing.assert_allclose(match.logits, truth.logits, rtol=1e-3)
        assert match.flow.dtype == match.confidence.dtype == match.logits.dtype == np.float32
        assert match.radius == 1.5
        assert match.target is TARGET
    for name in ("flow", "confidence", "log_variance", "logits", "seconds"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_other_images_are_matched_anew(tmp_path, network):
    recorded = RecordedNetwork(lambda: network, tmp_path)
    changed = SOURCE.copy()
    changed[-1, -1, -1] ^= 1
    for pair in ((SOURCE, TARGET), (TARGET, SOURCE), (changed, TARGET), (SOURCE, TARGET[:, :20])):
        np.testing.assert_allclose(
            recorded.match(*pair).flow, match_anyhow(*pair).flow, atol=1 / 128, rtol=0
        )
    assert network.calls == 4


def test_a_broken_file_is_replaced(tmp_path, network):
    recorded = RecordedNetwork(lambda: network, tmp_path)
    first = recorded.match(SOURCE, TARGET)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:200])
    np.testing.assert_array_equal(recorded.match(SOURCE, TARGET).flow, first.flow)
    assert network.calls == 2


@pytest.mark.parametrize("changed", ["best.weights.h5", "config.yaml"])
def test_other_networks_are_told_apart(tmp_path, changed):
    for name in ("best.weights.h5", "config.yaml", "metrics.csv"):
        (tmp_path / name).write_text(name)
    key = identify(str(tmp_path), max_side=640, mode="direct")
    of_file = identify(str(tmp_path / "best.weights.h5"), max_side=640, mode="direct")
    assert identify(str(tmp_path), max_side=320, mode="direct") != key
    assert identify(str(tmp_path), max_side=640, mode="plane") != key
    (tmp_path / "metrics.csv").write_text("more")
    assert identify(str(tmp_path), max_side=640, mode="direct") == key
    (tmp_path / changed).write_text("new")
    assert identify(str(tmp_path), max_side=640, mode="direct") != key
    assert identify(str(tmp_path / "best.weights.h5"), max_side=640, mode="direct") != of_file


def test_networks_with_any_name(tmp_path):
    folder = tmp_path / "r\udce9sultat"
    folder.mkdir()
    keys = set()
    for name in ("\udce9.weights.h5", "\udce8.weights.h5"):
        (folder / name).write_text("weights")
        keys.add(identify(str(folder / name)))
    keys.add(identify(str(folder)))
    assert len(keys) == 3


def test_exported_networks_and_presets_are_told_apart(tmp_path):
    lite = tmp_path / "a.tflite"
    for number in ("1", "2"):
        (tmp_path / number).mkdir()
        (tmp_path / number / "saved_model.pb").write_text(number)
    keys = {identify(str(tmp_path)), identify(str(tmp_path / "1")), identify("pdcnet-lite")}
    keys.add(identify("pdcnet"))
    for content in ("a", "b"):
        lite.write_text(content)
        keys.add(identify(str(lite)))
    assert len(keys) == 6
    assert identify(str(tmp_path)) == identify(str(tmp_path / "2"))  # the newest
