"""Measures the match of a large pair, whole or in tiles: time, memory and accuracy.

python -m bench.large 12 --data ../shared/data/photos/kodak --tiles auto

The source is a mosaic of photos in their own pixels, the target the same turned, enlarged, tilted
and bent, so that the true flow is known everywhere; each has noise of its own. A process measures
one size, since its peak memory counts.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import cv2
import numpy as np

import tfdense
from tfdense.errors import exit_status
from tfdense.images import find_images, read_image
from tfdense.results.match import Match
from tfdense.tiles.spans import read_tiles

# Of the target about its middle: degrees, ratio, and by how much of its size the far end shrinks.
_TURN, _SCALE, _TILT = 6.0, 1.12, 0.05
# Waves that bend it: how many across the longer side, and their height in shares of it.
_WAVES, _HEIGHT = 3, 0.003
_NOISE = 2.0
_ROWS = 256


def mosaic(paths: list[Path], height: int, width: int) -> np.ndarray:
    """Puts photos side by side until they fill uint8 [height, width, 3]."""
    result, number, top = np.zeros((height, width, 3), np.uint8), 0, 0
    while top < height:
        left, bottom = 0, height
        while left < width:
            photo = read_image(paths[number % len(paths)])
            part = photo[: height - top, : width - left]
            result[top : top + part.shape[0], left : left + part.shape[1]] = part
            left, number = left + part.shape[1], number + 1
            bottom = min(bottom, top + part.shape[0])
        top = bottom
    return result


def places(rows: slice, height: int, width: int) -> np.ndarray:
    """Returns where in the source some rows of the target are, float32 [rows, width, 2]."""
    side = max(height, width)
    y, x = np.mgrid[rows, :width].astype(np.float32)
    x, y = (x - (width - 1) / 2) / side, (y - (height - 1) / 2) / side
    depth = (1 + _TILT * (x + y)) * _SCALE
    cos, sin = np.cos(np.radians(_TURN)), np.sin(np.radians(_TURN))
    u, v = (cos * x - sin * y) / depth, (sin * x + cos * y) / depth
    turns = 2 * np.pi * _WAVES
    u, v = u + _HEIGHT * np.sin(turns * v), v + _HEIGHT * np.cos(turns * u)
    x, y = u * side + (width - 1) / 2, v * side + (height - 1) / 2
    return np.stack([x, y], axis=-1).astype(np.float32)


def large_pair(paths: list[Path], height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns source and target, uint8 [height, width, 3]."""
    source = mosaic(paths, height, width)
    target = np.empty_like(source)
    for rows in _parts(height):
        target[rows] = cv2.remap(source, places(rows, height, width), None, cv2.INTER_CUBIC)
    random = np.random.default_rng(0)
    for image in (source, target):
        for rows in _parts(height):
            noise = random.normal(0, _NOISE, image[rows].shape)
            image[rows] = np.clip(image[rows] + noise, 0, 255).round()
    return source, target


def errors(match: Match) -> np.ndarray:
    """Returns the endpoint errors, in px, of the pixels whose place lies inside of the source."""
    height, width = match.target.shape[:2]
    found = []
    for rows in _parts(height):
        true = places(rows, height, width)
        grid = np.stack(np.meshgrid(np.arange(width), np.arange(rows.start, rows.stop)), axis=-1)
        inside = ((true >= 0) & (true <= (width - 1, height - 1))).all(axis=-1)
        found.append(np.linalg.norm(match.flow[rows] + grid - true, axis=-1)[inside])
    return np.concatenate(found).astype(np.float32)


def _parts(height: int) -> list[slice]:
    return [slice(top, min(top + _ROWS, height)) for top in range(0, height, _ROWS)]


def main() -> int:
    """Prints the figures of one pair."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("megapixels", type=float, help="of each image, four to three")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="photos")
    parser.add_argument("--model", default="pdcnet-lite", help="(%(default)s)")
    parser.add_argument("--max-side", type=int, help="see tfdense match")
    parser.add_argument("--tiles", default="none", help="see tfdense match (%(default)s)")
    arguments = parser.parse_args()
    return exit_status(parser.prog, lambda: _measure(arguments))


def _measure(arguments: argparse.Namespace) -> None:
    tiles = read_tiles(arguments.tiles)
    matcher = tfdense.load(arguments.model, max_side=arguments.max_side, tiles=tiles)
    paths = find_images(arguments.data)
    width = round((arguments.megapixels * 1e6 * 4 / 3) ** 0.5)
    pair = large_pair(paths, round(0.75 * width), width)
    # What the first match prepares does not count.
    matcher.match(*(image[:480, :640] for image in pair), tiles=(1, 1) if tiles else None)
    start = time.perf_counter(), time.process_time()
    match = matcher.match(*pair)
    seconds, of_cores = time.perf_counter() - start[0], time.process_time() - start[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    error = errors(match)
    shares = ", ".join(f"PCK-{r} {100 * (error <= r).mean():.1f}" for r in (1, 3, 5))
    print(
        f"{width}x{round(0.75 * width)}, tiles {arguments.tiles}: {seconds:.1f} s, "
        f"{of_cores:.1f} s of all cores, "
        f"peak memory of the process {peak / 1e9:.2f} GB, AEPE {error.mean():.2f}, {shares}, "
        f"mean P_{match.radius:.3g} {100 * match.confidence.mean():.1f}"
    )


if __name__ == "__main__":
    sys.exit(main())
