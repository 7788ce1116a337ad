"""Pairs whose ground truth is a list of matching points."""

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tfdense.errors import InputError
from tfdense.evaluation.pairs import EvaluationPair, UnreadPair
from tfdense.evaluation.readers.folders import (
    file_in,
    image_places,
    pair_folders,
    read_lines,
    read_listed_image,
    read_source_and_target,
)
from tfdense.evaluation.readers.protocols import pad_alike, resize_lanczos, short_side_size
from tfdense.evaluation.truth_files import read_numbers

_SHORT_SIDE, _MULTIPLE = 480, 16
_COLUMNS = ("source_image", "target_image", "XA", "YA", "XB", "YB")


def stored_points_pairs(folder: Path) -> Iterator[UnreadPair]:
    """Yields the pairs of folders with a file of points."""
    for pair in pair_folders(folder, "points.txt"):
        yield UnreadPair(pair.name, partial(_stored_points_pair, file_in(pair, "points.txt")))


def _stored_points_pair(path: Path) -> EvaluationPair:
    content = "rows of target x, target y, source x, source y, and perhaps a weight of at least 0"
    rows = read_numbers(path, content, 4, 5)
    if (rows[:, 4:] < 0).any():
        raise InputError(f"Expected {path} to hold {content}.")
    flow, weights = rows[:, 2:4] - rows[:, :2], rows[:, 4] if rows.shape[1] == 5 else None
    images = read_source_and_target(path.parent)
    return EvaluationPair(path.parent.name, *images, rows[:, :2], flow, weights=weights)


def table_pairs(folder: Path, table: str) -> Iterator[UnreadPair]:
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
        InputError: if the table is another one.
    """
    path = folder / table
    places = image_places(folder)
    rows = csv.DictReader(read_lines(path))
    if missing := set(_COLUMNS) - set(rows.fieldnames or ()):
        raise InputError(f"{path} has no column {', '.join(sorted(missing))}.")
    for number, row in enumerate(_rows(rows, path), 1):
        stems = (Path(row[column] or "").stem for column in _COLUMNS[:2])
        name = "-".join([str(number), *stems])
        yield UnreadPair(name, partial(_table_pair, name, row, f"row {number} of {path}", places))


def _rows(rows: csv.DictReader, path: Path) -> Iterator[dict[str, str]]:
    try:
        yield from rows
    except csv.Error as error:
        raise InputError(f"Line {rows.line_num} of {path} cannot be read: {error}.") from None


def _table_pair(
    name: str, row: dict[str, str], origin: str, places: list[Path]
) -> EvaluationPair | None:
    source_points, target_points = _points(origin, row)
    source, target = (
        read_listed_image(places, row[column], row.get("scene") or "") for column in _COLUMNS[:2]
    )
    source, source_points, source_inside = _resized(source, source_points)
    target, target_points, target_inside = _resized(target, target_points)
    inside = source_inside & target_inside
    if not inside.any():
        return None
    flow = source_points[inside] - target_points[inside]
    return EvaluationPair(name, *pad_alike(source, target), np.rint(target_points[inside]), flow)


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
