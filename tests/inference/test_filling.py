"""Uncertain pixels get the flow of the certain ones around them."""

import cv2
import numpy as np
import pytest

from tfdense.inference.filling import filled_flow
from tfdense.inference.plane import homography_support
from tfdense.matcher import Matcher
from tfdense.mixture import LaplaceMixture
from tfdense.two_view.estimation import map_points

_SIZE = (120, 160)
_GREY = np.full((*_SIZE, 3), 128, np.uint8)
# From the source to the target: the target shows what lies further right and below.
_HOMOGRAPHY = np.array([[1.02, 0.01, -12], [-0.01, 1.01, -7], [1e-5, 2e-5, 1]])
_MOTION = np.float32([9, -4])


def _plane():
    """Returns the flow of the homography, and where it stays inside of the source."""
    grid = np.stack(np.meshgrid(np.arange(_SIZE[1]), np.arange(_SIZE[0])), axis=-1)
    places, _ = map_points(np.linalg.inv(_HOMOGRAPHY), grid)
    inside = ((places >= 0) & (places <= (_SIZE[1] - 1, _SIZE[0] - 1))).all(axis=-1)
    return (places - grid).astype(np.float32), inside


def _fill(flow, confidence, homography):
    # The flow is right to two pixels where it is right.
    support = homography_support(flow, confidence, confidence, homography)
    return filled_flow(flow, confidence, support, _GREY)


def test_a_blank_part_of_the_plane_gets_its_flow():
    plane, _ = _plane()
    flow, confidence = plane + np.float32(0.4), np.full(_SIZE, 0.99)
    blank = np.s_[40:80, 50:100]
    flow[blank] += 30
    confidence[blank] = 0.1
    filled = _fill(flow, confidence, _HOMOGRAPHY)
    assert filled.dtype == np.float32
    np.testing.assert_allclose(filled[blank], plane[blank], atol=1e-4)
    certain = confidence > 0.5
    np.testing.assert_array_equal(filled[certain], flow[certain])


def test_a_blank_part_of_what_moves_on_its_own_gets_the_flow_of_that():
    plane, _ = _plane()
    flow, confidence = plane.copy(), np.full(_SIZE, 0.9)
    moving, blank = np.s_[10:110, 10:150], np.s_[50:70, 60:100]
    flow[moving] += _MOTION
    expected = flow.copy()
    flow[blank] -= 40
    confidence[blank] = 0.01
    filled = _fill(flow, confidence, _HOMOGRAPHY)
    np.testing.assert_allclose(filled, expected, atol=0.01)


def test_out_of_the_source_the_flow_goes_on():
    plane, inside = _plane()
    assert not inside.all()
    flow = np.where(inside[..., None], plane + np.float32(0.7), -50)
    confidence = np.where(inside, 0.9, 0.0)
    filled = _fill(flow, confidence, _HOMOGRAPHY)
    np.testing.assert_allclose(filled, plane + 0.7, atol=0.05)


@pytest.mark.parametrize("size", [_SIZE, (119, 157)])
def test_flow_spreads_to_the_next_edge(size):
    height, width = size
    target = np.full((*size, 3), 60, np.uint8)
    target[:, width // 4 :] = 200
    true = np.where(np.arange(width)[:, None] < width // 4, _MOTION, -_MOTION)
    true = np.broadcast_to(true, (*size, 2)).astype(np.float32)
    confidence = np.ones(size)
    confidence[:, 10 : width - 10] = 0.01
    flow = np.where(confidence[..., None] == 1, true, 33)
    error = np.abs(filled_flow(flow, confidence, None, target) - true).max(axis=-1)
    # The edge is as wide as the step of the grid.
    far = np.abs(np.arange(width) - width // 4) > 4
    assert error[:, far].max() < 0.5
    # Without an edge the flow changes from one to the other evenly, here far from either.
    even = filled_flow(flow, confidence, None, np.full_like(target, 60))
    np.testing.assert_allclose(even[height // 2, width // 2], 0, atol=2)


def test_the_energy_is_least():
    """Against the same sum of squares, written down row by row and solved densely."""
    random = np.random.default_rng(0)
    coarse_size = (5, 6)
    coarse_flow = random.normal(size=(*coarse_size, 2)).astype(np.float32)
    coarse_confidence = random.uniform(0.1, 0.7, size=coarse_size)
    colours = random.integers(0, 60, size=(*coarse_size, 3), dtype=np.uint8)
    flow, confidence, target = (
        values.repeat(4, axis=0).repeat(4, axis=1)
        for values in (coarse_flow, coarse_confidence, colours)
    )
    filled = filled_flow(flow, confidence, None, target)

    lab = cv2.cvtColor(colours, cv2.COLOR_RGB2LAB).astype(float)
    rows, values = [], []
    for y, x in np.ndindex(coarse_size):
        weight = coarse_confidence[y, x] ** 4 + 1e-6
        own = np.zeros(coarse_size)
        own[y, x] = np.sqrt(weight)
        rows.append(own.ravel())
        values.append(np.sqrt(weight) * coarse_flow[y, x])
        for other in ((y + 1, x), (y, x + 1)):
            if other[0] < coarse_size[0] and other[1] < coarse_size[1]:
                bond = np.exp(-np.abs(lab[y, x] - lab[other]).sum() / 10) + 1e-3
                pair = np.zeros(coarse_size)
                pair[y, x], pair[other] = np.sqrt(bond), -np.sqrt(bond)
                rows.append(pair.ravel())
                values.append(np.zeros(2))
    expected = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    expected = cv2.resize(expected.reshape(*coarse_size, 2), flow.shape[1::-1])
    np.testing.assert_allclose(filled, expected, atol=1e-5)


def test_towards_the_horizon_the_flow_is_bounded():
    homography = np.linalg.inv([[1, 0, 0], [0, 1, 0], [-0.006, 0, 1]])
    grid = np.stack(np.meshgrid(np.arange(_SIZE[1]), np.arange(_SIZE[0])), axis=-1)
    places, denominator = map_points(np.linalg.inv(homography), grid)
    assert places.max() > 20 * _SIZE[1] and denominator.min() > 0
    plane = (places - grid).astype(np.float32)
    inside = ((places >= 0) & (places <= (_SIZE[1] - 1, _SIZE[0] - 1))).all(axis=-1)
    flow = np.where(inside[..., None], plane, 0)
    filled = _fill(flow, np.where(inside, 0.99, 0.0), homography)
    np.testing.assert_array_equal(filled[inside], plane[inside])
    farthest = (grid + filled).max(axis=(0, 1)) / _SIZE[::-1]
    np.testing.assert_allclose(farthest, 1.25, atol=0.01)


def test_beyond_the_horizon_the_flow_stays():
    # From x = 100 on the denominator is not positive.
    homography = np.linalg.inv([[-1, 0, 150], [0, 1, -60], [-0.01, 0, 1]])
    flow = np.ones((*_SIZE, 2), np.float32)
    filled = _fill(flow, np.full(_SIZE, 0.5), homography)
    np.testing.assert_array_equal(filled[:, 100:], flow[:, 100:])
    assert np.isfinite(filled).all()


@pytest.mark.parametrize("homography", [None, _HOMOGRAPHY])
def test_where_nothing_is_certain_the_flow_is_still_one_of_the_network(homography):
    flow = _plane()[0] + np.float32(5)
    confidence = np.zeros(_SIZE)
    if homography is None:
        filled = filled_flow(flow, confidence, None, _GREY)
    else:
        filled = _fill(flow, confidence, homography)
    np.testing.assert_allclose(filled.mean(axis=(0, 1)), flow.mean(axis=(0, 1)), atol=0.1)
    assert np.abs(filled - flow).max() <= np.ptp(flow, axis=(0, 1)).max()


class _Half:
    """A backend that sees motion in the left half, and is uncertain of the rest."""

    mixture = LaplaceMixture(maximum_variance=1e4)

    def working_size(self, height, width):
        return _SIZE

    def run(self, source, target):
        left = (np.arange(_SIZE[1]) < 80)[None, :, None]
        return {
            "flow": np.where(left, _MOTION, -50).repeat(_SIZE[0], axis=0).astype(np.float32),
            "log_variance": np.full((*_SIZE, 2), [0, 9], np.float32),
            "logits": np.where(left, [9, 0], [-9, 0]).repeat(_SIZE[0], axis=0).astype(np.float32),
        }


def test_matches_are_filled_on_demand():
    image = np.full((240, 320, 3), 90, np.uint8)
    match = Matcher(_Half()).match(image, image)
    filled = Matcher(_Half(), fill=True).match(image, image)
    np.testing.assert_allclose(match.flow[:, 170:], -100)
    np.testing.assert_allclose(filled.flow, np.broadcast_to(2 * _MOTION, filled.flow.shape), atol=1)
    # What is seen stays as it was; what goes on from it is probable, but not certain.
    assert (match.confidence[:, 170:] < 0.01).all()
    for name in ("confidence", "log_variance", "logits"):
        np.testing.assert_array_equal(getattr(filled, name)[:, :150], getattr(match, name)[:, :150])
    inside = filled.confidence[20:, 170:296]
    assert inside.min() > 0.3 and np.median(inside) > 0.8 and inside.max() < 0.95
    # Out of the source nothing is known that the network does not know.
    np.testing.assert_array_equal(filled.confidence[:, 304:], match.confidence[:, 304:])
