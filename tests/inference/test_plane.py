"""A match follows one homography everywhere."""

import cv2
import numpy as np

from tfdense.inference.plane import follow_homography, homography_support
from tfdense.two_view.estimation import map_points

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


def _follow(outputs, confidence, homography):
    # The flow is right to two pixels where it is right.
    support = homography_support(outputs["flow"], confidence, confidence, homography)
    return follow_homography(outputs, support)


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
    followed = _follow(outputs, confidence, _HOMOGRAPHY)
    np.testing.assert_allclose(followed["flow"], plane, atol=1e-4)
    weight = 1 / (1 + np.exp(followed["logits"][..., 1] - followed["logits"][..., 0]))
    # As probable as the surroundings say; less in the blank part, which may be hidden, and where
    # something else moves.
    assert weight[30, 60] > 0.95
    assert 0.5 < weight[65, 25] < 0.8
    assert weight[80, 120] < 0.2
    variance = np.exp(followed["log_variance"])
    # That of the matches, and what the homography itself may be wrong by.
    np.testing.assert_allclose(variance[30, 60], [0.25 * (1 + 0.05), 100], rtol=0.1)
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
    logits = _follow(outputs, confidence, _HOMOGRAPHY)["logits"]
    others = inside & (confidence == 0)
    assert (logits[others][:, 0] < logits[others][:, 1] - 1).all()


def test_beyond_the_horizon_there_is_no_plane():
    still = np.zeros((*_SIZE, 2), np.float32)
    # From x = 100 on the denominator is not positive.
    homography = np.linalg.inv([[-1, 0, 150], [0, 1, -60], [-0.01, 0, 1]])
    outputs = {"flow": still, "log_variance": still, "logits": still}
    followed = _follow(outputs, np.full(_SIZE, 0.5), homography)
    assert all((values[:, 100:] == 0).all() for values in followed.values())
    assert (followed["flow"][:, :100] != 0).any(axis=-1).all()
    assert all(np.isfinite(values).all() for values in followed.values())


def test_inexact_matches_do_not_speak_against_a_plane():
    plane, inside = _plane()
    random = np.random.default_rng(0)
    # Of these, 46 % agree with the plane to 2 px in x and in y.
    noise = random.normal(scale=2, size=plane.shape).astype(np.float32)
    confidence, agreement = np.full(_SIZE, 0.97), np.full(_SIZE, 0.46)
    support = homography_support(plane + noise, confidence, agreement, _HOMOGRAPHY)
    assert 0.4 < np.median(support.share) < 0.55
    assert np.median(support.probability[inside]) > 0.95
    # The same flow, if it were exact, would speak against the plane.
    support = homography_support(plane + noise, confidence, confidence, _HOMOGRAPHY)
    away = np.abs(noise).max(axis=-1) > 2
    assert np.median(support.probability[inside & away]) < 0.55


def test_the_variance_is_that_of_fitted_homographies():
    """Against homographies that OpenCV fits to 40 matches with noise, in one half of the image."""
    random = np.random.default_rng(0)
    plane, _ = _plane()
    matched = np.zeros(_SIZE, bool)
    matched[20:110, 60:150] = True
    scale = 0.5
    noise = random.normal(scale=scale, size=plane.shape).astype(np.float32)
    confidence = np.where(matched, 0.99, 0.0)
    support = homography_support(plane + noise, confidence, confidence, _HOMOGRAPHY)

    rows, columns = np.nonzero(matched)
    pixels = np.float32([[100, 60], [140, 100], [40, 60], [20, 20]])
    places = []
    for _ in range(2000):
        chosen = random.choice(len(rows), 40, replace=False)
        targets = np.stack([columns[chosen], rows[chosen]], axis=-1).astype(np.float32)
        sources = targets + plane[rows[chosen], columns[chosen]]
        sources += random.normal(scale=scale, size=sources.shape).astype(np.float32)
        fitted, _ = cv2.findHomography(targets, sources)
        places.append(cv2.perspectiveTransform(pixels[None], fitted)[0])
    fitted = np.var(places, axis=0).mean(axis=-1)
    x, y = pixels.astype(int).T
    stated = support.variance[y, x] - scale**2
    np.testing.assert_allclose(stated, fitted, rtol=0.25, atol=0.005)
    assert stated[3] > 10 * stated[0]


def test_where_a_plane_is_uneven_it_is_less_exact():
    plane, _ = _plane()
    deviation = np.where((np.arange(_SIZE[1]) > 80)[:, None], [1.8, -1.2], [0.3, 0.3])
    confidence = np.full(_SIZE, 0.99)
    support = homography_support(plane - deviation, confidence, confidence, _HOMOGRAPHY)
    np.testing.assert_allclose(support.variance[60, 140], (1.8**2 + 1.2**2) / 2, rtol=0.15)
    assert support.variance[60, 30] < 0.25
