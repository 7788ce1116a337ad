"""Features and matches as hloc keeps them, in HDF5 (Sarlin et al., CVPR 2019).

`features.h5` has a group for each image: "keypoints" (x, y) in px [count, 2], the centre of the
upper left pixel at (0, 0), "scores" [count], and "image_size" (width, height). `matches.h5` has a
group "SOURCE/TARGET" for each pair, "/" in a name being "-": "matches0", for each of the source's
key points its number in the target or -1, and "matching_scores0". hloc's `triangulation` and
`reconstruction` read both.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from tfdense.errors import InputError
from tfdense.files import check_folder, making, reporting
from tfdense.formats.shared_keypoints import Selection, SharedKeypoints, check_names, one_to_one

FEATURES, MATCHES = "features.h5", "matches.h5"
# What is written last of a pair.
_LAST = "matching_scores0"


class HlocWriter:
    """Writes pairs of images to `features.h5` and `matches.h5`, see `tfdense.formats.PairWriter`.

    The files are open during `add` alone. HDF5 cannot undo: what kills the process within `add` can
    leave a file that cannot be read.

    Args:
        folder: of the files; it is made if it does not exist. Those that are there are added to.
        **selection: see `tfdense.formats.shared_keypoints.Selection`.

    Raises:
        InputError: if there are matches without features.
        OutputError: if the folder cannot be written to.
    """

    def __init__(self, folder: str | Path, **selection):
        self._selection = Selection(**selection)
        check_folder(folder)
        self._features, self._matches = (Path(folder, name) for name in (FEATURES, MATCHES))
        if self._matches.exists() and not self._features.exists():
            raise InputError(
                f"{self._matches} is of no use without {FEATURES}, which is not there."
            )
        self._keypoints: dict[str, SharedKeypoints] = {}

    def add(self, source: str, target: str, match) -> list[Path]:
        """Adds one pair."""
        check_names(source, target)
        if self.has(source, target):
            raise InputError(f"{self._matches} holds {source}, {target} already.")
        found = self._selection.matches(match)
        try:
            self._write(source, target, match, found)
        except BaseException:
            # The file may not hold what they do.
            self._keypoints.clear()
            raise
        return [self._features, self._matches]

    def has(self, source: str, target: str) -> bool:
        """Whether the file of matches holds a pair."""
        if not self._matches.exists():
            return False
        with _open(self._matches, "r") as file:
            return f"{_pair(source, target)}/{_LAST}" in file

    def close(self) -> None:
        """Does nothing: the files are closed after each pair."""

    def __enter__(self) -> "HlocWriter":
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def _write(self, source: str, target: str, match, found) -> None:
        with making(self._features.parent), _open(self._features, "a") as file:
            images = ((source, match.source), (target, match.target))
            shared = [self._shared(file, name, image) for name, image in images]
            found = one_to_one(found, *shared)
            numbers = [
                _add_keypoints(file[name], keypoints, points, found.confidence)
                for (name, _), keypoints, points in zip(images, shared, found[:2], strict=True)
            ]
        with _open(self._matches, "a") as file:
            pair = file.require_group(_pair(source, target))
            pair.clear()  # What was broken off before its last part.
            partners = np.full(shared[0].count, -1, np.int32)
            scores = np.zeros(shared[0].count, np.float32)
            partners[numbers[0]], scores[numbers[0]] = numbers[1], found.confidence
            pair["matches0"], pair[_LAST] = partners, scores

    def _shared(self, file: h5py.File, name: str, image: np.ndarray) -> SharedKeypoints:
        """Returns the key points of an image; makes its group if there is none."""
        size = np.array(image.shape[1::-1])
        if name not in file:
            group = file.create_group(name)
            group["image_size"] = size
            group.create_dataset("keypoints", (0, 2), np.float32, maxshape=(None, 2), chunks=True)
            group.create_dataset("scores", (0,), np.float32, maxshape=(None,), chunks=True)
        group = file[name]
        if not np.array_equal(group["image_size"], size):
            raise InputError(
                f"Expected {name} to have {'x'.join(map(str, group['image_size']))} px, as before. "
                f"Received: {'x'.join(map(str, size))} px"
            )
        if name not in self._keypoints:
            self._keypoints[name] = SharedKeypoints(group["keypoints"][:], self._selection.cell)
        return self._keypoints[name]


def _add_keypoints(group, keypoints: SharedKeypoints, points, confidence) -> np.ndarray:
    """Adds the places that are no key points yet; returns the numbers of all, int [count]."""
    numbers, made = keypoints.add(points)
    for name, values in (("keypoints", points), ("scores", confidence)):
        group[name].resize(keypoints.count, axis=0)
        group[name][keypoints.count - len(made) :] = values[made]
    return numbers


def _pair(source: str, target: str) -> str:
    return "/".join(name.replace("/", "-") for name in (source, target))


@contextlib.contextmanager
def _open(path: Path, mode: str) -> Iterator[h5py.File]:
    with reporting(path), h5py.File(path, mode) as file:
        yield file
