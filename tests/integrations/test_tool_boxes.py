"""Matchers of tool boxes: in theirs where it is installed, else in one of its documented shape."""

import importlib
import sys
import types

import numpy as np
import pytest

import tfdense
from tfdense.data import bundled_pair
from tfdense.images import read_image
from tfdense.results.match import Match

_BOXES = {"vismatch": ("vismatch", 7), "image_matching_models": ("imm", 6)}
_KEYS = {"matched_kpts0", "matched_kpts1", "matched_confidences", "H", "num_inliers"}


def _stand_in(values):
    """Returns a class that does what the tool box says of its `BaseMatcher`."""

    class BaseMatcher:
        def __init__(self, device="cpu", **kwargs):
            self.device = device
            self.ransac_iters = kwargs.get("ransac_iters", 2000)

        def __call__(self, img0, img1):
            return self.forward(img0, img1)

        def forward(self, img0, img1):
            for image in (img0, img1):
                assert image.ndim == 3 and image.shape[0] == 3
            outputs = self._forward(img0, img1)
            assert len(outputs) == values
            assert all(each is None or isinstance(each, np.ndarray) for each in outputs)
            source, target, *rest = outputs
            assert source.ndim == 2 and source.shape[1] == 2 and source.shape == target.shape
            result = {"matched_kpts0": source, "matched_kpts1": target, "H": None, "num_inliers": 0}
            return result | ({"matched_confidences": rest[4]} if len(rest) > 4 else {})

    return BaseMatcher


@pytest.fixture(params=_BOXES)
def matcher_class(request, monkeypatch):
    name, values = _BOXES[request.param]
    try:
        importlib.import_module(f"{name}.base_matcher")
    except ImportError:
        box, base = types.ModuleType(name), types.ModuleType(f"{name}.base_matcher")
        base.BaseMatcher = _stand_in(values)
        monkeypatch.setitem(sys.modules, name, box)
        monkeypatch.setitem(sys.modules, f"{name}.base_matcher", base)
    path = f"tfdense.integrations.{request.param}"
    monkeypatch.delitem(sys.modules, path, raising=False)
    module = importlib.import_module(path)
    monkeypatch.delitem(sys.modules, path)
    return module.TfdenseMatcher


class _Shifted:
    """A matcher that knows the flow: every pixel of the target shows that 3 px to the right."""

    def match(self, source, target):
        self.seen = source, target
        height, width = target.shape[:2]
        random = np.random.default_rng(0)
        unknown = np.zeros((height, width, 1), np.float32)
        return Match(
            flow=np.full((height, width, 2), [3, 0], np.float32),
            confidence=random.uniform(0, 0.5, (height, width)).astype(np.float32),
            log_variance=unknown,
            logits=unknown,
            radius=1.0,
            source=source,
            target=target,
        )


def test_the_best_matches_in_the_shape_of_the_box(matcher_class, monkeypatch):
    loaded, shifted = [], _Shifted()
    monkeypatch.setattr(
        tfdense,
        "load",
        lambda *arguments, **options: (loaded.append((arguments, options)), shifted)[1],
    )
    matcher = matcher_class("cpu", 50, threshold=0.2, setting="fast", ransac_iters=7)
    assert loaded == [(("pdcnet-lite",), {"setting": "fast"})]
    assert matcher.device == "cpu" and matcher.ransac_iters == 7
    random = np.random.default_rng(1)
    images = random.uniform(-0.05, 1.05, (2, 3, 40, 60)).astype(np.float32)
    result = matcher(*images)
    assert result.keys() >= _KEYS
    source, target = result["matched_kpts0"], result["matched_kpts1"]
    assert source.shape == target.shape == (50, 2)
    np.testing.assert_array_equal(source - target, np.tile([[3, 0]], (50, 1)))
    confidence = result["matched_confidences"]
    assert confidence.shape == (50,) and confidence.min() >= 0.2
    assert (np.diff(confidence) <= 0).all()
    for seen, image in zip(shifted.seen, images, strict=True):
        assert seen.shape == (40, 60, 3) and seen.dtype == np.uint8
        expected = 255 * image.transpose(1, 2, 0).clip(0, 1)
        np.testing.assert_allclose(seen, expected, atol=0.51)


def test_without_the_tool_box(monkeypatch):
    for module, (name, _) in _BOXES.items():
        path = f"tfdense.integrations.{module}"
        monkeypatch.delitem(sys.modules, path, raising=False)
        monkeypatch.setitem(sys.modules, f"{name}.base_matcher", None)
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match=f"^{path} needs {module.replace('_', '-')}: "):
            importlib.import_module(path)


@pytest.mark.slow
def test_the_bundled_pair(matcher_class):
    images = [read_image(path) for path in bundled_pair()]
    tensors = (np.float32(image).transpose(2, 0, 1) / 255 for image in images)
    result = matcher_class(max_num_keypoints=300)(*tensors)
    expected = tfdense.load("pdcnet-lite").match(*images).matches(300)
    np.testing.assert_array_equal(result["matched_kpts0"], expected.source)
    np.testing.assert_array_equal(result["matched_confidences"], expected.confidence)
