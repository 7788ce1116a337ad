"""Cameras and two-view geometries as COLMAP states them."""

from typing import NamedTuple

import numpy as np

from tfdense.two_view.estimation import essential_matrix, fit_homography, fit_pose
from tfdense.two_view.uncalibrated import fit_fundamental

# COLMAP's numbers of camera models, and of what is known of two views.
_PINHOLE, _SIMPLE_RADIAL = 1, 2
_DEGENERATE, _CALIBRATED, _UNCALIBRATED, _PLANAR_OR_PANORAMIC = 1, 2, 3, 6
# As COLMAP decides: of so many inliers as many that also follow a homography make it one, and of
# fewer there is no geometry.
_HOMOGRAPHY_SHARE, _LEAST_INLIERS = 0.8, 15
_FOCAL_LENGTH = 1.2


class Geometry(NamedTuple):
    """What is known of two views.

    Attributes:
        configuration: COLMAP's number.
        fundamental, essential, homography: from the first to the second view, float64 [3, 3] each;
            zeros where it is not known.
        quaternion: of the rotation from the first camera to the second, (w, x, y, z).
        translation: from the first camera to the second.
    """

    configuration: int
    fundamental: np.ndarray = np.zeros((3, 3))
    essential: np.ndarray = np.zeros((3, 3))
    homography: np.ndarray = np.zeros((3, 3))
    quaternion: np.ndarray = np.array([1.0, 0, 0, 0])
    translation: np.ndarray = np.zeros(3)

    def shifted(self, origin: float) -> tuple[np.ndarray, ...]:
        """Returns all but the number, for pixels whose coordinates are larger by `origin`."""
        back = np.array([[1, 0, -origin], [0, 1, -origin], [0, 0, 1.0]])
        return (
            back.T @ self.fundamental @ back,
            self.essential,
            np.linalg.inv(back) @ self.homography @ back,
            self.quaternion,
            self.translation,
        )


def pinhole(matrix: np.ndarray, origin: float) -> tuple[int, np.ndarray]:
    """Returns COLMAP's number and parameters of a camera without distortion."""
    return _PINHOLE, np.array([*matrix[[0, 1], [0, 1]], *(matrix[:2, 2] + origin)])


def unknown_camera(size: tuple[int, int]) -> tuple[int, np.ndarray]:
    """Returns COLMAP's number and first parameters of a camera of which nothing is known."""
    width, height = size
    return _SIMPLE_RADIAL, np.array([_FOCAL_LENGTH * max(size), width / 2, height / 2, 0])


def two_view_geometry(
    matches, distance: float, first: np.ndarray | None, second: np.ndarray | None
) -> tuple[Geometry, np.ndarray]:
    """Finds the geometry that most matches agree with.

    Args:
        matches: from the first to the second view.
        distance: the largest of an inlier, in px.
        first, second: the cameras' intrinsic matrices, None if they are not known.

    Returns:
        The geometry, and which matches agree with it, bool [count].
    """
    nothing = Geometry(_DEGENERATE), np.zeros(len(matches.confidence), bool)
    if first is not None and second is not None:
        pose = fit_pose(matches, first, second, distance)
        if pose is None or len(pose.inliers.source) < _LEAST_INLIERS:
            return nothing
        essential = essential_matrix(pose.rotation, pose.translation)
        fundamental = np.linalg.inv(second).T @ essential @ np.linalg.inv(first)
        found = Geometry(
            _CALIBRATED,
            fundamental,
            essential,
            quaternion=_quaternion(pose.rotation),
            translation=pose.translation,
        )
        inliers = pose.inliers
    else:
        epipolar = fit_fundamental(matches, distance)
        if epipolar is None or len(epipolar.inliers.source) < _LEAST_INLIERS:
            return nothing
        found, inliers = Geometry(_UNCALIBRATED, epipolar.matrix), epipolar.inliers
    homography = fit_homography(matches, distance)
    if homography is not None:
        found = found._replace(homography=homography.matrix)
        if len(homography.inliers.source) > _HOMOGRAPHY_SHARE * len(inliers.source):
            found = found._replace(configuration=_PLANAR_OR_PANORAMIC)
    # All key points of a pair differ.
    agreeing = {*map(tuple, inliers.target.tolist())}
    return found, np.array([tuple(each) in agreeing for each in matches.target.tolist()], bool)


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """Returns a rotation [3, 3] as (w, x, y, z), w >= 0."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(rotation).as_quat(canonical=True, scalar_first=True)
