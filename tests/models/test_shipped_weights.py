"""The weights that ship: they are those of the model card, and match photos without more ado."""

import hashlib
from importlib import resources

import cv2
import numpy as np
import pytest

import tfdense
from tfdense.data import bundled_pair
from tfdense.exporting.metadata import hash_weights
from tfdense.images import read_image
from tfdense.models import load

_WEIGHTS = resources.files("tfdense.weights")
_PHOTOS = resources.files("tfdense.data") / "photos_validation"


@pytest.fixture(scope="module")
def matcher():
    return tfdense.load("pdcnet-lite", max_side=256)


def _photo(name, size=(256, 192)):
    return cv2.resize(read_image(_PHOTOS / name), size, interpolation=cv2.INTER_AREA)


def test_the_file_is_small_and_that_of_the_model_card():
    content = (_WEIGHTS / "pdcnet_lite.weights.h5").read_bytes()
    assert len(content) < 10e6
    card = (_WEIGHTS / "README.md").read_text()
    assert hashlib.sha256(content).hexdigest() in card
    model, config = load("pdcnet-lite")
    assert hash_weights(model) in card
    assert config.model.preset == "pdcnet-lite"


@pytest.mark.parametrize("name", ["flower.jpg", "rocks.jpg", "room.jpg"])
def test_a_warped_photo_is_matched_and_known_to_be(matcher, name):
    target = _photo(name)
    # Turned by 8 degrees, enlarged, moved, seen from the side.
    matrix = np.array([[1.1, -0.15, 14], [0.16, 1.08, -18], [2e-4, 1e-4, 1]])
    source = cv2.warpPerspective(target, matrix, (256, 192), flags=cv2.INTER_LINEAR)
    match = matcher.match(source, target, radius=5.0)
    y, x = np.mgrid[:192, :256].astype(np.float32)
    place = np.stack([x, y, np.ones_like(x)], axis=-1) @ matrix.T
    place = place[..., :2] / place[..., 2:]
    inside = ((place >= 0) & (place <= [255, 191])).all(axis=-1)
    error = np.linalg.norm(match.flow + np.stack([x, y], axis=-1) - place, axis=-1)
    assert np.median(error[inside]) < 1.5
    assert (error[inside] <= 5).mean() > 0.9
    assert match.confidence[inside].mean() > 0.8
    assert match.confidence[~inside].mean() < 0.3


def test_turbo_leaves_the_level_at_full_resolution_out(matcher):
    """Without it a shift of whole pixels is found less exactly."""
    target = _photo("flower.jpg")
    source = np.roll(target, 3, axis=1)
    fast = tfdense.load("pdcnet-lite", setting="turbo").match(source, target)
    full = matcher.match(source, target)
    errors = [np.abs(match.flow[32:-32, 32:-32] - [3, 0]).mean() for match in (fast, full)]
    assert errors[1] < 0.5 * errors[0] < 0.2
    model, _ = load("pdcnet-lite")
    assert model.refinement_passes == 1


def test_different_photos_do_not_match(matcher):
    match = matcher.match(_photo("flower.jpg"), _photo("room.jpg"), radius=5.0)
    assert match.confidence.mean() < 0.1


def test_the_real_pair_is_matched(matcher):
    """Two photos of roofs: most matches obey one epipolar geometry, though none was told."""
    source, target = (read_image(path) for path in bundled_pair())
    match = matcher.match(source, target)
    found = match.matches(300, threshold=0.3)
    assert len(found.confidence) >= 200
    fundamental, inliers = cv2.findFundamentalMat(
        found.target, found.source, cv2.USAC_MAGSAC, 2.0, 0.999, 5000
    )
    assert fundamental is not None and inliers.mean() > 0.8
