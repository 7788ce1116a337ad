"""How good an estimated homography or relative pose is: pure functions on arrays."""

import numpy as np

from tfdense.evaluation.pairs import Cameras

_MAP_THRESHOLDS = (5.0, 10.0, 15.0, 20.0)


def homography_corner_error(
    homography: np.ndarray, true_homography: np.ndarray, height: int, width: int
) -> float:
    """Returns the mean distance of the mapped corners of an image, in px.

    Args:
        homography: estimated, from target to source, [3, 3].
        true_homography: likewise.
        height, width: of the target.

    Returns:
        The mean over the centres of the four corner pixels; infinite if the estimate sends one of
        them to infinity or behind the camera.
    """
    x, y = width - 1, height - 1
    corners = np.array([[0, 0, 1], [x, 0, 1], [0, y, 1], [x, y, 1]], np.float64)
    estimated, true = corners @ homography.T, corners @ true_homography.T
    if abs(np.sign(estimated[:, 2]).sum()) != len(corners):
        return float("inf")
    difference = estimated[:, :2] / estimated[:, 2:] - true[:, :2] / true[:, 2:]
    return float(np.linalg.norm(difference, axis=-1).mean())


def area_under_recall(errors: np.ndarray, threshold: float) -> float:
    """Returns AUC@T: the mean recall over all error thresholds from 0 to T, in percent.

    Of the two published figures for poses this is the exact one: the recall is linear between the
    sorted errors and the area under it is found by the trapezoid rule (SuperGlue, arXiv
    1911.11763). It serves for corner errors of homographies as well.

    Args:
        errors: one for each pair; infinite where the estimation failed.
        threshold: T, in the errors' unit.
    """
    errors = np.sort(np.asarray(errors, np.float64))
    recall = np.arange(1, len(errors) + 1) / len(errors)
    below = errors < threshold
    last = recall[below][-1] if below.any() else 0.0
    x = np.concatenate([[0.0], errors[below], [threshold]])
    y = np.concatenate([[0.0], recall[below], [last]])
    return 100.0 * float(np.trapezoid(y, x)) / threshold


def mean_average_precision(errors: np.ndarray, threshold: float) -> float:
    """Returns mAP@T: the mean accuracy at the thresholds 5, 10, ..., T degrees, in percent.

    Of the two published figures for poses this is the coarse one, an area under the recall in steps
    of 5 degrees: mAP@20 is the mean of the shares of pairs with an error below 5, 10, 15 and 20
    degrees (Yi et al., arXiv 1711.05971; OANet; PDC-Net).

    Args:
        errors: of the poses, in degrees; infinite where the estimation failed.
        threshold: T: 5, 10, 15 or 20.
    """
    thresholds = [t for t in _MAP_THRESHOLDS if t <= threshold]
    return 100.0 * float(np.mean([np.mean(np.asarray(errors) < t) for t in thresholds]))


def pose_error(
    rotation: np.ndarray,
    translation: np.ndarray,
    true_rotation: np.ndarray,
    true_translation: np.ndarray,
) -> float:
    """Returns the larger of the angles between two rotations and two translations, in degrees.

    The sign and length of an estimated translation are unknown: its angle is at most 90 degrees.

    Args:
        rotation, true_rotation: [3, 3].
        translation, true_translation: [3], of any length but 0.
    """
    relative = rotation.T @ true_rotation
    rotation_angle = _angle((np.trace(relative) - 1) / 2)
    lengths = np.linalg.norm(translation) * np.linalg.norm(true_translation)
    translation_angle = _angle(translation @ true_translation / lengths)
    return max(rotation_angle, min(translation_angle, 180.0 - translation_angle))


def squared_epipolar_distance(
    source: np.ndarray, target: np.ndarray, cameras: Cameras
) -> np.ndarray:
    """Returns how far matches lie from their epipolar lines: squared, the sum of both images.

    The unit of length is the focal length: 5e-4 is a distance of sqrt(5e-4 / 2) f, or 0.016 f px,
    in either image.

    Args:
        source, target: (x, y) in px, [n, 2] each.
        cameras: of the images.

    Returns:
        float64 [n]; infinite where a match lies on an epipole.
    """
    rays_source, rays_target = (
        np.column_stack([points, np.ones(len(points))]) @ np.linalg.inv(camera).T
        for points, camera in ((source, cameras.source), (target, cameras.target))
    )
    essential = np.cross(cameras.translation, cameras.rotation, axisb=0, axisc=0)
    lines_target, lines_source = rays_source @ essential.T, rays_target @ essential
    residual = (rays_target * lines_target).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = sum(
            residual**2 / (lines[:, :2] ** 2).sum(axis=-1) for lines in (lines_source, lines_target)
        )
    return np.nan_to_num(squares, nan=np.inf, posinf=np.inf)


def epipolar_precision(
    source: np.ndarray, target: np.ndarray, cameras: Cameras, threshold: float = 5e-4
) -> float:
    """Returns the percentage of matches with a `squared_epipolar_distance` below the threshold.

    SuperGlue and PDC-Net call this the precision of matches. Without a match it is 0.
    """
    distances = squared_epipolar_distance(source, target, cameras)
    return 100.0 * float(np.mean(distances < threshold)) if len(distances) else 0.0


def _angle(cosine: float) -> float:
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
