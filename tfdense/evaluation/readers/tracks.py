"""Pairs whose ground truth is what a reconstruction saw in both images."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from tfdense.errors import InputError
from tfdense.evaluation.pairs import EvaluationPair, UnreadPair
from tfdense.evaluation.readers.folders import find_files, read_lines
from tfdense.images import read_image

# Each pair's target is that many images after the former's.
_STEP = 5


class _View(NamedTuple):
    """An image, what it sees (x, y) in px, [n, 2], and the numbers of these points, [n]."""

    name: str
    places: np.ndarray
    points: np.ndarray


def eth3d_pairs(folder: Path, interval: int) -> Iterator[UnreadPair]:
    """Yields pairs of ETH3D's low-resolution many-view videos at an interval of so many images.

    The target is every fifth image of a scene's first camera, the source the one `interval` images
    later. The ground truth is where both see a point of COLMAP's reconstruction that is published
    with the images; the flow is read at the target's point, rounded. GLU-Net's evaluation takes the
    same scenes and intervals, but its list of pairs is not part of ETH3D: figures may differ a
    little. AEPE is published as a mean over the scenes of means over pairs, PCK as the mean over
    pairs and over all points. A reconstruction that cannot be read stands for all its pairs.
    """
    for path in find_files(folder, "*/rig_calibration_undistorted/images.txt"):
        scene = path.parent.parent
        try:
            views = _first_camera(path)
        except InputError as error:
            yield UnreadPair(scene.name, partial(_refuse, error))
            continue
        for target, source in zip(views[::_STEP], views[interval::_STEP], strict=False):
            stems = (PurePosixPath(view.name).stem for view in (source, target))
            name = "-".join([scene.name, *stems])
            yield UnreadPair(name, partial(_pair, name, scene, source, target))


def _refuse(error: InputError) -> None:
    raise error


def _pair(name: str, scene: Path, source: _View, target: _View) -> EvaluationPair | None:
    _, here, there = np.intersect1d(target.points, source.points, return_indices=True)
    if not len(here):
        return None
    images = (read_image(scene / "images" / view.name) for view in (source, target))
    flow = source.places[there] - target.places[here]
    return EvaluationPair(name, *images, np.rint(target.places[here]), flow)


def _first_camera(path: Path) -> list[_View]:
    """Reads the views of the camera whose folder comes first, in the order of their names."""
    lines = [line for line in read_lines(path) if not line.startswith("#")]
    # Two lines an image; the second is empty if it sees nothing.
    pairs = zip(lines[::2], lines[1::2], strict=False)
    records = [(line.split(maxsplit=9), seen) for line, seen in pairs]
    if not records or any(len(fields) != 10 for fields, _ in records):
        raise InputError(
            f"{path} is not in COLMAP's text format: expected for each image a line of ten fields "
            "and one of what it sees."
        )
    camera = min(PurePosixPath(fields[9]).parent for fields, _ in records)
    views = (
        _view(path, fields[9], seen)
        for fields, seen in records
        if PurePosixPath(fields[9]).parent == camera
    )
    return sorted(views, key=lambda view: view.name)


def _view(path: Path, name: str, seen: str) -> _View:
    try:
        values = np.array(seen.split(), np.float64).reshape(-1, 3)
    except ValueError:
        raise InputError(
            f"Expected {path} to hold x, y and the number of a point for all that {name} sees."
        ) from None
    values = values[values[:, 2] >= 0]
    # COLMAP's first pixel has its centre at (0.5, 0.5).
    return _View(name, values[:, :2] - 0.5, values[:, 2].astype(np.int64))
