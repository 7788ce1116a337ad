"""Pairs whose ground truth is a list of matching points."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfdense.errors import InputError
from tfdense.evaluation.pairs import EvaluationPair
from tfdense.evaluation.readers.folders import (
    image_places,
    read_listed_image,
    read_source_and_target,
)
from tfdense.evaluation.readers.protocols import pad_alike, resize_lanczos, short_side_size
from tfdense.evaluation.truth_files import read_numbers

_SHORT_SIDE, _MULTIPLE = 480, 16
_COLUMNS = ("source_image", "target_image", "XA", "YA", "XB", "YB")


def stored_points_pairs(folder: Path) -> Iterator[EvaluationPair]:
    """Yields the pairs of folders with a file of points."""
    for path in sorted(folder.glob("*/points.txt")):
        rows = read_numbers(path, "rows of target x, target y, source x, source y", columns=4)
        flow = rows[:, 2:] - rows[:, :2]
        images = read_source_and_target(path.parent)
        yield EvaluationPair(path.parent.name, *images, rows[:, :2], flow)


def table_pairs(folder: Path, table: str) -> Iterator[EvaluationPair]:
    """Yields the pairs of RANSAC-Flow's tables of MegaDepth (1600 pairs) and RobotCar (6511).

    A row has the columns source_image, target_image, XA, YA of the source and XB, YB of the target,
    whose values are separated by semicolons, and for MegaDepth the scene. Both images are resized
    (Lanczos) to a shorter side of 480 px, either side down to a multiple of 16, and padded at the
    right and below to a common size. The flow is read at the target's point, rounded; the error is
    that to the points' difference, not rounded. Points outside of an image do not count, nor does a
    pair without any.

    The "MegaDepth PCK-T" of these pairs is the percentage of errors of at most T px over the points
    of all pairs together; AEPE is the mean over pairs (Shen et al., arXiv 2004.01526; PDC-Net). It
    is neither the mean over pairs of that percentage, nor the PCK that others take over dense flow
    from depth maps, on pairs of their own and at their own size.

    Raises:
        InputError: if the table is another one or an image is missing.
    """
    path = folder / table
    places = image_places(folder)
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if missing := set(_COLUMNS) - set(rows.fieldnames or ()):
            raise InputError(f"{path} has no column {', '.join(sorted(missing))}.")
        for number, row in enumerate(rows, 1):
            source_points, target_points = _points(f"row {number} of {path}", row)
            names = row["source_image"], row["target_image"]
            scene = row.get("scene") or ""
            source, target = (read_listed_image(places, name, scene) for name in names)
            source, source_points, source_inside = _resized(source, source_points)
            target, target_points, target_inside = _resized(target, target_points)
            inside = source_inside & target_inside
            if inside.any():
                name = "-".join([str(number), *(Path(name).stem for name in names)])
                flow = source_points[inside] - target_points[inside]
                images = pad_alike(source, target)
                yield EvaluationPair(name, *images, np.rint(target_points[inside]), flow)


def _points(origin: str, row: dict[str, str]) -> np.ndarray:
    """Returns the (x, y) of a row in source and target, [2, n, 2]."""
    try:
        values = [np.array(row[column].split(";"), np.float64) for column in _COLUMNS[2:]]
        return np.stack(values).reshape(2, 2, -1).swapaxes(1, 2)
    except (AttributeError, ValueError):
        raise InputError(
            f"Expected {', '.join(_COLUMNS[2:])} in {origin} to be as many numbers each, separated "
            "by semicolons."
        ) from None


def _resized(image: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the image resized, the points in it, and which of them are inside of it."""
    size = short_side_size(image.shape, _SHORT_SIDE, _MULTIPLE)
    # The protocol scales without the half pixel's offset, as is right if the first pixel's centre
    # is (0.5, 0.5), which is COLMAP's.
    points = points * size[::-1] / image.shape[1::-1]
    inside = ((points > 0) & (points < size[::-1])).all(axis=-1)
    return resize_lanczos(image, size), points, inside
