"""Key points that all pairs of an image share, so that matches of pairs join into tracks.

A dense match has no key points. Two choices make them:

- In each target the same pixels are matched, those of a lattice, whatever the source. What several
  sources show of one of them is one point of the scene, with its exact places.
- The places in the sources are anywhere. Those that round to the same cell are one key point. It
  stays where the first was, so that what was written of earlier pairs stays right.

It is what hloc does with dense matchers (Sarlin et al., CVPR 2019, `match_dense.py`), but with no
second pass over all pairs.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from tfdense.errors import InputError
from tfdense.results.spreading import DEFAULT_THRESHOLD


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which matches of a pair are written.

    Attributes:
        threshold, cycle: of what counts as matched, see `Match.matches`.
        points: of the lattice in each target, about.
        cell: side of the cells in which two places are one key point, in px.
    """

    threshold: float = DEFAULT_THRESHOLD
    cycle: float | None = None
    points: int = 4000
    cell: float = 1.0

    def matches(self, match):
        """Selects the matches of the pixels of the lattice, the most confident first.

        Args:
            match: see `tfdense.results.match.Match`. If it was made both ways, the source's
                lattice is matched, too.

        Returns:
            `tfdense.two_view.estimation.Matches`.
        """
        found = self._on_lattice(match)
        if match.reverse is None:
            return found
        more = self._on_lattice(dataclasses.replace(match.reverse, reverse=match)).swap()
        both = type(found)(*(np.concatenate(parts) for parts in zip(found, more, strict=True)))
        return both.select(np.argsort(-both.confidence, kind="stable"))

    def _on_lattice(self, match):
        height, width = match.confidence.shape
        spacing = max(1, round((height * width / self.points) ** 0.5))
        found = match.matches(threshold=self.threshold, cycle=self.cycle)
        return found.select((found.target % spacing == spacing // 2).all(axis=-1))


def check_names(source: str, target: str) -> None:
    """Refuses names of a pair that do not tell two images apart.

    Raises:
        InputError: if one is empty or not UTF-8, or both are equal.
    """
    readable = all(name and name.isprintable() for name in (source, target))
    if not readable or source == target:
        raise InputError(f"Expected names of two images. Received: {source!a} and {target!a}")


class SharedKeypoints:
    """The key points of one image.

    Attributes:
        count: how many there are.

    Args:
        points: (x, y) in px of those that are there, [count, 2]; None is none.
        cell: side of a cell, in px.
    """

    def __init__(self, points: np.ndarray | None = None, cell: float = 1.0):
        self._cell = cell
        self._numbers = {}
        self.count = 0
        for key in [] if points is None else self.cells(points):
            self._numbers.setdefault(key, self.count)
            self.count += 1

    def cells(self, points: np.ndarray) -> list[tuple[int, int]]:
        """Returns the cell of each point."""
        return [*map(tuple, np.rint(np.float64(points) / self._cell).astype(int).tolist())]

    def add(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds the key point of each place, and makes those that are missing.

        Args:
            points: (x, y) in px, [count, 2].

        Returns:
            The numbers of the key points, int [count], and which places made one, int [new], in
            the order of their numbers.
        """
        made, numbers = [], []
        for index, key in enumerate(self.cells(points)):
            number = self._numbers.setdefault(key, self.count)
            if number == self.count:
                self.count += 1
                made.append(index)
            numbers.append(number)
        return np.array(numbers, int), np.array(made, int)


def one_to_one(matches, source: SharedKeypoints, target: SharedKeypoints):
    """Leaves of some matches, sorted by confidence, the first of each key point of both images."""
    return matches.select(
        _is_first(source.cells(matches.source)) & _is_first(target.cells(matches.target))
    )


def _is_first(keys: Iterable[tuple]) -> np.ndarray:
    seen = set()
    return np.array([not (key in seen or seen.add(key)) for key in keys], bool)
