"""The step *fit*: the homography, or the affine map, that most confident matches agree with."""

import cv2
import numpy as np

from tfdense.inference.looks import Outputs, confidence_within
from tfdense.results.answers import HasConfidence
from tfdense.two_view.estimation import Matches, fit_homography

# It is sought among the matches at each fourth pixel with a P_1 of at least 0.05.
_STEP, _LEAST_CONFIDENCE = 4, 0.05
_DISTANCE, _AFFINE_DISTANCE = 1.0, 3.0
# More than so many are needed for a homography, and for an affine map.
_LEAST_MATCHES, _LEAST_AFFINE_MATCHES = 200, 50
# Of what a homography does to lengths along x and y.
_LEAST_STRETCH, _LARGEST_STRETCH = 0.001, 100


def fit_maps(mixture: HasConfidence, outputs: Outputs) -> list[np.ndarray]:
    """Returns what the matches may follow, as homographies: one, and an affine map.

    Of matches in a small part of the image this goes on more sensibly than a homography does.

    Args:
        mixture: what the outputs' log-variances and logits are parameters of.
        outputs: what `Backend.run` answers.
    """
    found = find_homography(mixture, outputs)
    maps = [None if found is None else found[0], find_affine_map(mixture, outputs)]
    return [homography for homography in maps if homography is not None]


def find_homography(
    mixture: HasConfidence,
    outputs: Outputs,
    least_matches: int = _LEAST_MATCHES,
    distance: float = _DISTANCE,
) -> tuple[np.ndarray, int] | None:
    """Finds the homography that most confident matches agree with.

    Args:
        mixture, outputs: see `fit_maps`.
        least_matches: more than so many confident ones are needed, of each fourth pixel.
        distance: the largest of one that agrees, in px.

    Returns:
        The homography [3, 3], and how many agree with it; None without a plausible one.
    """
    matches = _confident_matches(mixture, outputs)
    if len(matches.source) <= least_matches:
        return None
    found = fit_homography(matches, distance)
    if found is None or not _is_plausible(found.matrix):
        return None
    return found.matrix, len(found.inliers.source)


def find_affine_map(
    mixture: HasConfidence, outputs: Outputs, least_matches: int = _LEAST_AFFINE_MATCHES
) -> np.ndarray | None:
    """Finds the affine map that most agree with, as a homography; see `find_homography`."""
    matches = _confident_matches(mixture, outputs)
    if len(matches.source) <= least_matches:
        return None
    affine, _ = cv2.estimateAffine2D(
        matches.source, matches.target, ransacReprojThreshold=_AFFINE_DISTANCE
    )
    if affine is None or not _is_plausible(affine):
        return None
    return np.vstack([affine, [0, 0, 1]])


def _confident_matches(mixture: HasConfidence, outputs: Outputs) -> Matches:
    """Returns the matches that a homography is sought among, the most confident first."""
    outputs = {name: values[::_STEP, ::_STEP] for name, values in outputs.items()}
    confidence = confidence_within(mixture, outputs, 1.0)
    rows, columns = np.nonzero(confidence >= _LEAST_CONFIDENCE)
    order = np.argsort(-confidence[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    places = np.stack([columns, rows], axis=-1).astype(np.float32) * _STEP
    return Matches(places + outputs["flow"][rows, columns], places, confidence[rows, columns])


def _is_plausible(homography: np.ndarray) -> bool:
    """Whether it neither mirrors the image nor changes its size beyond all measure."""
    linear = homography[:2, :2]
    stretch = np.linalg.norm(linear, axis=0)
    within = (stretch >= _LEAST_STRETCH) & (stretch <= _LARGEST_STRETCH)
    return bool(np.linalg.det(linear) > 0 and within.all())
