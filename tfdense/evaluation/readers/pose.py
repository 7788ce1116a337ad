"""Pairs whose ground truth is the relative pose of two cameras."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tfdense.errors import InputError
from tfdense.evaluation.pairs import Cameras, EvaluationPair, UnreadPair, resize
from tfdense.evaluation.readers.folders import (
    file_in,
    find_files,
    image_places,
    only_image,
    read_lines,
    read_listed_image,
)
from tfdense.evaluation.readers.protocols import short_side_size
from tfdense.evaluation.truth_files import read_numbers
from tfdense.images import read_image

# Views of a scene are paired with as many of the following ones.
_FOLLOWING_VIEWS = 3
_SHORT_SIDE, _MULTIPLE = 480, 8
_NOTHING = np.empty((0, 2))
# Two names, two rotations, two intrinsic matrices and the pose.
_FIELDS = 2 + 2 + 9 + 9 + 16
_CAMERA = ".camera.txt"


def camera_pairs(folder: Path) -> Iterator[UnreadPair]:
    """Yields pairs of each scene's views, each with the three that follow (as of Strecha's)."""
    for scene in sorted({path.parent for path in find_files(folder, f"*/*{_CAMERA}")}):
        views = sorted(path.name[: -len(_CAMERA)] for path in find_files(scene, f"*{_CAMERA}"))
        for index, first in enumerate(views):
            for second in views[index + 1 : index + 1 + _FOLLOWING_VIEWS]:
                name = f"{scene.name}-{first}-{second}"
                yield UnreadPair(name, partial(_camera_pair, name, scene, first, second))


def _camera_pair(name: str, scene: Path, source: str, target: str) -> EvaluationPair:
    images = (read_image(only_image(scene, view)) for view in (source, target))
    cameras = _relative_cameras(scene, source, target)
    return EvaluationPair(name, *images, _NOTHING, _NOTHING, cameras=cameras)


def _relative_cameras(scene: Path, source: str, target: str) -> Cameras:
    content = "three rows of K, three of R and one of C"
    rows = [read_numbers(file_in(scene, view + _CAMERA), content, 3) for view in (source, target)]
    if any(len(values) != 7 for values in rows):
        raise InputError(f"Expected the .camera.txt files of {scene} to hold {content}, as text.")
    (k_source, r_source, c_source), (k_target, r_target, c_target) = (
        (values[:3], values[3:6], values[6]) for values in rows
    )
    # R and C take a point from the camera's coordinates to the world's: R X + C.
    return Cameras(k_source, k_target, r_target.T @ r_source, r_target.T @ (c_source - c_target))


def listed_pairs(folder: Path, pairs: str) -> Iterator[UnreadPair]:
    """Yields the pairs of SuperGlue's lists of YFCC100M (4000 pairs) and ScanNet (1500).

    A row holds, separated by spaces: the names of the first image, the source, and the second, the
    target; for either how often it is to be turned by 90 degrees, counterclockwise; either
    intrinsic matrix; and the pose [4, 4] from the first camera to the second. As PDC-Net does, both
    images are resized to a shorter side of 480 px, either side down to a multiple of 8. They are
    not padded to a common size.
    """
    path = folder / pairs
    places = image_places(folder)
    for number, line in enumerate(read_lines(path), 1):
        fields = line.split()
        name = "-".join([str(number), *(Path(field).stem for field in fields[:2])])
        origin = f"row {number} of {path}"
        yield UnreadPair(name, partial(_listed_pair, name, fields, origin, places))


def _listed_pair(name: str, fields: list[str], origin: str, places: list[Path]) -> EvaluationPair:
    try:
        values = np.array(fields[2:], np.float64)
    except ValueError:
        values = _NOTHING
    if values.shape != (_FIELDS - 2,):
        raise InputError(f"Expected {origin} to hold two names and {_FIELDS - 2} numbers.")
    if not np.isin(values[:2], range(4)).all():
        raise InputError(
            f"Expected {origin} to turn its images 0 to 3 times. Received: {values[:2]}"
        )
    turns = values[:2].astype(int)
    intrinsics, pose = values[2:20].reshape(2, 3, 3), values[20:].reshape(4, 4)
    views = [
        _upright(read_listed_image(places, name), intrinsic, turn)
        for name, intrinsic, turn in zip(fields[:2], intrinsics, turns, strict=True)
    ]
    (source, k_source, turned_source), (target, k_target, turned_target) = views
    cameras = Cameras(
        k_source,
        k_target,
        turned_target @ pose[:3, :3] @ turned_source.T,
        turned_target @ pose[:3, 3],
    )
    return EvaluationPair(name, source, target, _NOTHING, _NOTHING, cameras=cameras)


def _upright(
    image: np.ndarray, intrinsic: np.ndarray, turns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Resizes and turns a view; returns image, intrinsic matrix and the camera's rotation."""
    height, width = short_side_size(image.shape, _SHORT_SIDE, _MULTIPLE)
    intrinsic = np.diag([width / image.shape[1], height / image.shape[0], 1]) @ intrinsic
    image = resize(image, (height, width))
    rotation = np.eye(3)
    for _ in range(turns % 4):
        # A quarter turn takes (x, y) to (y, width - 1 - x), and a ray (x, y, 1) to (y, -x, 1).
        quarter = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
        pixels = np.array([[0.0, 1, 0], [-1, 0, image.shape[1] - 1], [0, 0, 1]])
        image = np.ascontiguousarray(np.rot90(image))
        intrinsic, rotation = pixels @ intrinsic @ quarter.T, quarter @ rotation
    return image, intrinsic, rotation
