"""What `match` is given: arrays of any kind, and its options."""

import datetime

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from oracle import Finding, fuzz

from tfdense.matcher import Matcher
from tfdense.mixture import LaplaceMixture

pytestmark = pytest.mark.fuzz


class _Still:
    """A network that finds no motion."""

    mixture = LaplaceMixture(maximum_variance=1e4)

    def working_size(self, height, width):
        return min(height, 64), min(width, 64)

    def run(self, source, target):
        size = target.shape[:2]
        assert source.dtype == target.dtype == np.uint8 and source.shape == target.shape
        return {
            "flow": np.zeros((*size, 2), np.float32),
            "log_variance": np.zeros((*size, 2), np.float32),
            "logits": np.zeros((*size, 2), np.float32),
        }


_MATCHER = Matcher(_Still())
_GOOD = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)

_DTYPES = st.sampled_from(
    [
        "u1",
        "i1",
        "u2",
        "i2",
        ">u2",
        "u4",
        "i4",
        "i8",
        "u8",
        "f2",
        "f4",
        ">f4",
        "f8",
        "g",
        "?",
        "c8",
        "c16",
        "O",
        "S3",
        "U2",
        "M8[s]",
        "m8[s]",
        "V4",
        [("r", "u1"), ("g", "u1")],
    ]
)
_SIDES = st.sampled_from([0, 1, 2, 3, 4, 15, 16, 17, 24, 32, 33])
_SHAPES = (
    st.tuples(_SIDES, _SIDES, st.sampled_from([3, 3, 3, 1, 2, 4, 0]))
    | st.tuples(_SIDES, _SIDES)
    | st.sampled_from([(20000, 16, 3), (16, 20000, 3), (32767, 16), (16, 32766), (1, 20000, 3)])
    | st.lists(_SIDES, max_size=5).map(tuple)
)
_VALUES = st.sampled_from([0, 1, 0.5, 127, 255, 256, -1, 1e30, np.nan, np.inf, -np.inf, 65535])


@st.composite
def _array(draw):
    shape, dtype = draw(_SHAPES), np.dtype(draw(_DTYPES))
    random = np.random.default_rng(draw(st.integers(0, 9)))
    with np.errstate(all="ignore"):
        try:
            array = random.integers(0, 256, shape).astype(dtype)
        except (TypeError, ValueError):
            array = np.zeros(shape, dtype)
        if array.size and dtype.kind in "fiu":
            for value in draw(st.lists(_VALUES, max_size=3)):
                place = draw(st.integers(0, array.size - 1))
                array.flat[place] = np.array(value).astype(dtype)
    match draw(st.integers(0, 9)):
        case 0 if array.ndim:
            array = array[::-1]
        case 1 if array.ndim >= 2:
            array = array[:, ::-2]
        case 2:
            array = np.asfortranarray(array)
        case 3:
            array = array.swapaxes(0, -1) if array.ndim > 1 else array
        case 4 if array.ndim:
            array = np.broadcast_to(array[:1], array.shape) if len(array) else array
        case 5:
            array = np.ma.array(array, mask=random.integers(0, 2, array.shape))
        case 6:
            array.setflags(write=False)
        case 7 if array.size < 9999:
            array = array.tolist()
        case 8 if array.dtype == np.uint8 and array.ndim:
            array = np.lib.stride_tricks.as_strided(array, array.shape, [0] * array.ndim)
    return array


_OTHERS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=9),
    st.binary(max_size=9),
    st.sampled_from(
        [object(), [], [[]], [[1, 2], [3]], {}, {1}, datetime.date(2000, 1, 1), "a\0b"]
    ),
    arrays.arrays(np.uint8, arrays.array_shapes(min_dims=0, max_dims=5)),
)
_IMAGES = _array() | _array() | _OTHERS


def _check(match, target_shape) -> None:
    flow, confidence = match.flow, match.confidence
    if flow.shape != (*confidence.shape, 2) or not np.isfinite(flow).all():
        raise Finding(f"the flow has the shape {flow.shape} or is not finite")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise Finding("the confidence is not in 0..1")
    if target_shape is not None and confidence.shape != target_shape:
        raise Finding(f"the answer has the shape {confidence.shape}, not {target_shape}")


@fuzz(_IMAGES)
def test_targets(trial, image):
    shape = getattr(image, "shape", None)
    _check(_MATCHER.match(_GOOD, image), shape and shape[:2])


@fuzz(_IMAGES)
def test_sources(trial, image):
    _check(_MATCHER.match(image, _GOOD, both_ways=True), _GOOD.shape[:2])


@fuzz(st.tuples(_IMAGES, st.booleans()))
def test_masks(trial, drawn):
    mask, of_source = drawn
    masks = {"source_mask" if of_source else "target_mask": mask}
    _check(_MATCHER.match(_GOOD, _GOOD, **masks), _GOOD.shape[:2])


@fuzz(st.one_of(st.floats(), st.integers(), _OTHERS))
def test_radii(trial, radius):
    match = _MATCHER.match(_GOOD, _GOOD, radius=radius)
    _check(match, _GOOD.shape[:2])


@fuzz(st.lists(st.tuples(_OTHERS, _OTHERS), max_size=3))
def test_many(trial, pairs):
    list(_MATCHER.match_many(pairs))


@fuzz(_IMAGES)
def test_points(trial, points):
    match = _MATCHER.match(_GOOD, _GOOD)
    match.keypoints(points, [[1.0, 2.0]])
