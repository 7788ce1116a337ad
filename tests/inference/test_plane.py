"""A match follows one homography everywhere."""

import numpy as np

from tfdense.inference.plane import follow_homography
from tfdense.inference.two_view import map_points

_SIZE = (120, 160)
# From the source to the target: the target shows what lies further right and below.
_HOMOGRAPHY = np.array([[1.02, 0.01, -12], [-0.01, 1.01, -7], [1e-5, 2e-5, 1]])


def _grid():
    return np.stack(np.meshgrid(np.arange(_SIZE[1]), np.arange(_SIZE[0])), axis=-1)


def _plane():
    """Returns the flow of the homography, and where it stays inside of the source."""
    places, _ = map_points(np.linalg.inv(_HOMOGRAPHY), _grid())
    inside = ((places >= 0) & (places <= (_SIZE[1] - 1, _SIZE[0] - 1))).all(axis=-1)
    return (places - _grid()).astype(np.float32), inside


def test_a_plane_is_followed_everywhere():
    plane, inside = _plane()
    random = np.random.default_rng(0)
    flow = plane + random.normal(scale=0.5, size=plane.shape).astype(np.float32)
    confidence = np.full(_SIZE, 0.9)
    blank, other = np.s_[60:70, 20:30], np.s_[50:110, 90:150]
    confidence[blank] = 0.05
    flow[blank] += 20
    flow[other] += (9, -4)
    outputs = {
        "flow": flow,
        "log_variance": np.broadcast_to(np.log([2.0, 100.0]), (*_SIZE, 2)),
        "logits": random.normal(size=(*_SIZE, 2)),
    }
    followed = follow_homography(outputs, confidence, _HOMOGRAPHY)
    np.testing.assert_allclose(followed["flow"], plane, atol=1e-4)
    weight = 1 / (1 + np.exp(followed["logits"][..., 1] - followed["logits"][..., 0]))
    # As probable as the surroundings say, in the blank part too; less where something else moves.
    assert weight[65, 25] > 0.95
    assert weight[80, 120] < 0.2
    variance = np.exp(followed["log_variance"])
    np.testing.assert_allclose(variance[65, 25], [0.25, 100], rtol=0.1)
    # Out of the source nothing is known that the network does not know.
    for name in ("log_variance", "logits"):
        np.testing.assert_array_equal(followed[name][~inside], outputs[name][~inside])
    assert not inside.all()


def test_few_matches_make_no_plane_probable():
    plane, inside = _plane()
    confidence = np.zeros(_SIZE)
    confidence[60, 70:80] = 0.5
    outputs = {
        "flow": plane,
        "log_variance": np.zeros((*_SIZE, 2)),
        "logits": np.zeros((*_SIZE, 2)),
    }
    logits = follow_homography(outputs, confidence, _HOMOGRAPHY)["logits"]
    assert (logits[inside][:, 0] < logits[inside][:, 1]).all()


def test_beyond_the_horizon_there_is_no_plane():
    still = np.zeros((*_SIZE, 2), np.float32)
    # From x = 100 on the denominator is not positive.
    homography = np.linalg.inv([[-1, 0, 150], [0, 1, -60], [-0.01, 0, 1]])
    outputs = {"flow": still, "log_variance": still, "logits": still}
    followed = follow_homography(outputs, np.full(_SIZE, 0.5), homography)
    assert all((values[:, 100:] == 0).all() for values in followed.values())
    assert (followed["flow"][:, :100] != 0).any(axis=-1).all()
    assert all(np.isfinite(values).all() for values in followed.values())
