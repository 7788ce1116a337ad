"""Single matches, and the geometry of two views from them: homography and relative pose.

Matches may be wrong. Both geometries are found by OpenCV's USAC, and fitted by least squares to the
matches that agree, each weighted by its confidence.
"""

import itertools

import cv2
import numpy as np

from tfdense.two_view.types import Homography, Matches, Pose

# As many as the authors draw to find a homography.
_MAXIMUM_ITERATIONS = 3000
_REFINEMENTS = 3
_MOST_STEPS, _TINY_STEP = 20, 1e-7
_MOST_UNDISTORTIONS = 100


def fit_homography(matches: Matches, distance: float) -> Homography | None:
    """Finds the homography that most matches agree with.

    Args:
        matches: at least four of them are needed.
        distance: the largest of an inlier in the target, in px.

    Returns:
        The homography; None if there are too few matches or none is found.
    """
    if len(matches.source) < 4:
        return None
    matrix, mask = cv2.findHomography(matches.source, matches.target, usac(distance))
    if matrix is None or np.count_nonzero(mask) < 4:
        return None
    inliers = matches.select(mask.ravel().astype(bool))
    matrix = _refine_homography(matrix, inliers)
    if np.linalg.matrix_rank(matrix) < 3:
        return None
    return Homography(matrix / matrix[2, 2], inliers)


def fit_pose(
    matches: Matches,
    camera_source: np.ndarray,
    camera_target: np.ndarray,
    distance: float,
    distortions: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
) -> Pose | None:
    """Finds the relative pose that most matches agree with, from the essential matrix.

    PDC-Net's published poses come from the same bounds (5 matches, an inlier's distance of 1 px, a
    certainty of 0.99999, depth up to 1e9), but from OpenCV's plain RANSAC, without a fit to all
    inliers, and from the matches at each fourth pixel. That is several times less accurate from
    the same matches of a known scene, so figures from here are not those of their protocol.

    Args:
        matches: at least five of them are needed.
        camera_source, camera_target: the intrinsic matrices, [3, 3].
        distance: the largest of an inlier from its epipolar line, in px.
        distortions: of the source's lens and the target's, coefficients in OpenCV's order; None is
            a lens without.

    Returns:
        The pose; None if there are too few matches, none is found, or the inliers lie within
        `distance` of one line or point in either image, which leaves it open.
    """
    if len(matches.source) < 5:
        return None
    cameras = camera_source, camera_target
    source, target = map(_rays, matches[:2], cameras, distortions)
    # In the unit of the rays, the focal length.
    distance /= np.mean([np.diag(camera)[:2] for camera in cameras])
    undistorted = np.zeros(4)
    essential, mask = cv2.findEssentialMat(
        source[:, :2], target[:, :2], *[np.eye(3)] * 2, *[undistorted] * 2, usac(distance)
    )
    if essential is None or essential.shape != (3, 3):
        return None
    agree = mask.ravel().astype(bool)

    def before_most(essential):
        *rotations, translation = cv2.decomposeEssentialMat(essential)
        return max(
            itertools.product(rotations, (translation[:, 0], -translation[:, 0])),
            key=lambda pose: np.count_nonzero(agree & _is_before(*pose, source, target)),
        )

    def in_view(pose):
        far = _is_far(pose[0], source, target, distance)
        return agree & (far | _is_before(*pose, source, target))

    pose = before_most(essential)
    fitted = in_view(pose)
    pose = _refine_pose(*pose, source[fitted], target[fitted], matches.confidence[fitted])
    # Of a distant scene not even the sign of the translation was known before.
    pose = before_most(essential_matrix(*pose))
    found = in_view(pose)
    if np.count_nonzero(found) < 5:
        return None
    if min(_breadth(rays[found]) for rays in (source, target)) <= distance:
        return None
    return Pose(*pose, matches.select(found))


def map_points(homography: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps points by a homography.

    Args:
        homography: [3, 3].
        points: (x, y), [..., 2].

    Returns:
        The places (x, y), [..., 2], and their denominators [...]; where these are not positive
        the point lies behind the camera and the place is infinite.
    """
    mapped = points @ homography[:, :2].T + homography[:, 2]
    denominator = mapped[..., 2]
    before = denominator > 0
    places = np.full(points.shape, np.inf)
    places[before] = mapped[before, :2] / denominator[before, None]
    return places, denominator


def usac(distance: float) -> cv2.UsacParams:
    """Returns how OpenCV seeks a geometry; `distance` is the largest of an inlier."""
    params = cv2.UsacParams()
    params.threshold = distance
    params.confidence = 0.99999
    params.maxIterations = _MAXIMUM_ITERATIONS
    # The most confident matches often lie together (PROSAC would begin with them), which leaves the
    # pose badly determined.
    params.sampler = cv2.SAMPLING_UNIFORM
    # MAGSAC's score finds nothing among exact matches if the distance is less than a pixel.
    params.score = cv2.SCORE_METHOD_MSAC
    params.loMethod = cv2.LOCAL_OPTIM_INNER_AND_ITER_LO
    params.loIterations = 10
    params.loSampleSize = 50
    params.final_polisher = cv2.LSQ_POLISHER
    params.final_polisher_iterations = 3
    return params


def _refine_homography(matrix: np.ndarray, matches: Matches) -> np.ndarray:
    """Minimises the weighted squared distance in the target, from a first homography on.

    Each step solves the linear equations of the homography, divided by the former denominators:
    their residuals are then distances. Both images are normalised (Hartley 1997).
    """
    normalise_source, normalise_target = map(_normalisation, (matches.source, matches.target))
    points, _ = map_points(normalise_source, matches.source)
    aims, _ = map_points(normalise_target, matches.target)
    matrix = normalise_target @ matrix @ np.linalg.inv(normalise_source)
    homogeneous = np.column_stack([points, np.ones(len(points))])
    zeros = np.zeros_like(homogeneous)
    equations = np.concatenate(
        [
            np.hstack([homogeneous, zeros, -aims[:, :1] * points]),
            np.hstack([zeros, homogeneous, -aims[:, 1:] * points]),
        ]
    )
    for _ in range(_REFINEMENTS):
        scale = np.tile(np.sqrt(matches.confidence) / (homogeneous @ matrix[2] / matrix[2, 2]), 2)
        solution, *_ = np.linalg.lstsq(
            equations * scale[:, None], aims.T.ravel() * scale, rcond=None
        )
        matrix = np.append(solution, 1.0).reshape(3, 3)
    return np.linalg.inv(normalise_target) @ matrix @ normalise_source


def _normalisation(points: np.ndarray) -> np.ndarray:
    """Returns the matrix that moves points to the origin and scales them to a spread of 1."""
    centre = points.mean(axis=0, dtype=np.float64)
    scale = 1 / max(float((points - centre).std()), 1e-6)
    return np.array([[scale, 0, -scale * centre[0]], [0, scale, -scale * centre[1]], [0, 0, 1.0]])


def _rays(points: np.ndarray, camera: np.ndarray, distortion: np.ndarray | None) -> np.ndarray:
    """Returns the rays (x, y, 1) in a camera's coordinates of its pixels, float64 [count, 3]."""
    if distortion is None:
        return np.linalg.solve(camera, np.column_stack([points, np.ones(len(points))]).T).T
    until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, _MOST_UNDISTORTIONS, 1e-9)
    # OpenCV knows no skew: the rays before the lens, as if of a camera of focal length 1.
    bent = _rays(points, camera, None)[:, None, :2]
    # Its version 4 stops after five steps but under this name.
    if hasattr(cv2, "undistortPointsIter"):
        straight = cv2.undistortPointsIter(bent, np.eye(3), distortion, None, None, until)
    else:
        straight = cv2.undistortPoints(bent, np.eye(3), distortion, criteria=until)
    return np.column_stack([straight[:, 0], np.ones(len(points))])


def _breadth(rays: np.ndarray) -> float:
    """Returns how far rays (x, y, 1) stray from their best line, as a standard deviation."""
    return float(np.sqrt(max(0.0, np.linalg.eigvalsh(np.cov(rays[:, :2].T))[0])))


def _is_before(rotation, translation, source, target) -> np.ndarray:
    """Whether the points of rays lie before both cameras, bool [count].

    ``depth_target * target == depth_source * rotation @ source + translation``, whose product with
    either ray leaves one depth. OpenCV's triangulation in 32 bits cannot tell the sign of what is
    some ten thousand baselines away.
    """
    turned = source @ rotation.T
    normal = np.cross(turned, target)
    depth_source = np.einsum("nc,nc->n", np.cross(target, translation), normal)
    depth_target = np.einsum("nc,nc->n", np.cross(turned, translation), normal)
    return (depth_source > 0) & (depth_target > 0)


def _is_far(rotation, source, target, distance) -> np.ndarray:
    """Whether rays are parallel to within an inlier's distance, bool [count].

    On which side of infinity such rays meet is chance.
    """
    x, y, z = rotation @ source.T
    return np.hypot(x - z * target[:, 0], y - z * target[:, 1]) <= z * distance


def _refine_pose(rotation, translation, source, target, weights) -> tuple[np.ndarray, np.ndarray]:
    """Minimises the weighted squared distance from the epipolar lines by Gauss-Newton steps.

    In a distant scene any translation is within an inlier's distance of right, and some lead to a
    local minimum: each of three axes is tried. The pose found may be another of the four that have
    the same epipolar lines.

    Args:
        rotation, translation: of a first pose.
        source, target: the rays (x, y, 1), [count, 3] each.
        weights: [count].
    """
    weights = np.sqrt(weights)

    def residuals(rotation, translation):
        return weights * epipolar_distance(rotation, translation, source, target)

    starts = translation, *perpendicular(translation)
    poses = (_descend(residuals, rotation, start) for start in starts)
    return min(poses, key=lambda pose: np.square(residuals(*pose)).sum())


def _descend(residuals, rotation, translation) -> tuple[np.ndarray, np.ndarray]:
    """Takes Gauss-Newton steps from a pose until they are tiny."""
    difference = 1e-6
    for _ in range(_MOST_STEPS):
        # Three rotate, two turn the direction of the translation.
        turn = perpendicular(translation)

        def moved(step, rotation=rotation, translation=translation, turn=turn):
            direction = translation + step[3:] @ turn
            return cv2.Rodrigues(step[:3])[0] @ rotation, direction / np.linalg.norm(direction)

        now = residuals(rotation, translation)
        derivative = [
            (residuals(*moved(difference * unit)) - now) / difference for unit in np.eye(5)
        ]
        step, *_ = np.linalg.lstsq(np.stack(derivative, axis=-1), -now, rcond=None)
        rotation, translation = moved(step)
        if np.abs(step).max() < _TINY_STEP:
            break
    return rotation, translation


def perpendicular(direction: np.ndarray) -> np.ndarray:
    """Returns two directions at right angles to one and to each other, [2, 3]."""
    return np.linalg.svd(direction[None])[2][1:]


def essential_matrix(rotation, translation) -> np.ndarray:
    """Returns E of ``target.T @ E @ source == 0`` with rays (x, y, 1), [3, 3]."""
    x, y, z = translation
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ rotation


def epipolar_distance(rotation, translation, source, target) -> np.ndarray:
    """Returns Sampson's distance of rays (x, y, 1), signed, to first order (Sampson 1982)."""
    essential = essential_matrix(rotation, translation)
    lines, back = source @ essential.T, target @ essential
    slope = (lines[:, :2] ** 2).sum(axis=-1) + (back[:, :2] ** 2).sum(axis=-1)
    return (target * lines).sum(axis=-1) / np.sqrt(slope)
