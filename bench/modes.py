"""Compares the modes of matching on turned and enlarged parts of photos.

    python bench/modes.py FOLDER              photos that the network was not trained on
    python bench/modes.py FOLDER --turn 0     enlarged only
    python bench/modes.py FOLDER --bend 5     of what is almost a plane

One image of a pair is a photo, the other shows a part of it, turned and enlarged, with other
contrast and noise; either may be the source.
"""

import argparse
import itertools
import os
import time
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np

import tfdense
from tfdense.evaluation.measuring import measure
from tfdense.evaluation.pairs import EvaluationPair, dense_pair, homography_pair
from tfdense.evaluation.summary import summarize
from tfdense.evaluation.tables import text_table
from tfdense.images import find_images, read_image
from tfdense.inference.modes import MODES

_HEIGHT, _WIDTH = 384, 512
_LEAST_SHARED = 0.04
_ZOOM_BOUNDS = (1, 2, 3, np.inf)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", help="folder of photos")
    parser.add_argument("--model", default="pdcnet-lite", help="as of tfdense match")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--zoom", type=float, default=4.5, help="largest")
    parser.add_argument("--turn", type=float, default=180, help="largest, in degrees")
    parser.add_argument("--bend", type=float, default=0, help="largest deviation from a plane, px")
    parser.add_argument("--confidence", action="store_true", help="judge it, too; twice the time")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--fill", action="store_true", help="fill uncertain pixels")
    arguments = parser.parse_args()

    matchers = {
        name: tfdense.load(arguments.model, max_side=_WIDTH, fill=arguments.fill, mode=name)
        for name in arguments.modes
    }
    rows = {name: [] for name in matchers}
    judged = {name: [] for name in matchers}
    zooms = []
    for zoom, pair in _pairs(arguments):
        zooms.append(zoom)
        columns, lines = pair.points.astype(int).T
        for name, matcher in matchers.items():
            start = time.process_time()
            match = matcher.match(pair.source, pair.target)
            seconds = time.process_time() - start
            error = np.linalg.norm(match.flow[lines, columns] - pair.true_flow, axis=-1)
            rows[name].append((error.mean(), 100 * (error < 5).mean(), seconds))
            if arguments.confidence:
                judged[name] += [m for m, _ in measure({name: matcher}, pair, matcher.mixture)]

    groups = np.digitize(zooms, _ZOOM_BOUNDS[1:-1])
    of_zooms = [f"{lower}-{upper}" for lower, upper in itertools.pairwise(_ZOOM_BOUNDS)]
    print(f"{'mode':14}{'AEPE':>8}{'PCK-5':>8}", *(f"{zoom:>8}" for zoom in of_zooms), "  CPU s")
    for name, values in rows.items():
        values = np.array(values)
        aepe, pck, seconds = values.mean(axis=0)
        by_zoom = [values[groups == group, 1] for group in range(len(of_zooms))]
        of_groups = (f"{part.mean():8.1f}" if len(part) else f"{'':8}" for part in by_zoom)
        print(f"{name:14}{aepe:8.1f}{pck:8.1f}", *of_groups, f"{seconds:7.2f}")
    if arguments.confidence:
        print(text_table({name: summarize(of_mode)[name] for name, of_mode in judged.items()}))


def _pairs(arguments: argparse.Namespace) -> Iterator[tuple[float, EvaluationPair]]:
    """Yields pairs and by how much one image is enlarged."""
    random = np.random.default_rng(0)
    photos = find_images(arguments.photos)
    made = 0
    while made < arguments.pairs:
        photo = _fill_frame(read_image(photos[random.integers(len(photos))]))
        zoom = np.exp(random.uniform(0, np.log(arguments.zoom)))
        turn = np.radians(random.uniform(-arguments.turn, arguments.turn))
        cos, sin = zoom * np.cos(turn), zoom * np.sin(turn)
        tilt = random.uniform(-6e-4, 6e-4, 2)
        turning = np.array([[cos, -sin, 0], [sin, cos, 0], [*tilt, 1]])
        # The part stays within the photo but for a quarter of its own size.
        frame = np.array([_WIDTH, _HEIGHT])
        margin = frame / zoom / 2
        middle = random.uniform(margin, np.maximum(frame - margin, margin + 1e-9))
        middle += random.uniform(-0.25, 0.25, 2) * frame / zoom
        homography = _shift(frame / 2) @ turning @ _shift(-middle)
        images = [photo, cv2.warpPerspective(photo, homography, (_WIDTH, _HEIGHT))]
        if random.random() < 0.5:
            images, homography = images[::-1], np.linalg.inv(homography)
        images = [_change(image, random) for image in images]
        # Ground truth goes from the target to the source.
        pair = homography_pair("", *images, np.linalg.inv(homography))
        if arguments.bend:
            pair = _bend(pair, arguments.bend, random)
        if len(pair.points) >= _LEAST_SHARED * _HEIGHT * _WIDTH:
            made += 1
            yield zoom, pair


def _bend(pair: EvaluationPair, largest: float, random: np.random.Generator) -> EvaluationPair:
    """Moves the target's pixels by a smooth random field."""
    field = random.normal(size=(_HEIGHT, _WIDTH, 2)).astype(np.float32)
    field = cv2.GaussianBlur(field, (0, 0), random.uniform(40, 120), borderType=cv2.BORDER_REFLECT)
    field *= random.uniform(0, largest) / np.abs(field).max()
    grid = np.stack(np.meshgrid(np.arange(_WIDTH), np.arange(_HEIGHT)), axis=-1)
    places = (grid + field).astype(np.float32)
    flow = np.zeros((_HEIGHT, _WIDTH, 3), np.float32)
    columns, lines = pair.points.astype(int).T
    flow[lines, columns] = np.insert(pair.true_flow, 2, 1, axis=-1)
    flow = cv2.remap(flow, places, None, cv2.INTER_LINEAR)
    target = cv2.remap(pair.target, places, None, cv2.INTER_LINEAR)
    return dense_pair("", pair.source, target, flow[..., :2] + field, flow[..., 2] > 0.999)


def _fill_frame(photo: np.ndarray) -> np.ndarray:
    height, width = photo.shape[:2]
    if height > width:
        photo, (height, width) = photo.transpose(1, 0, 2), (width, height)
    scale = max(_HEIGHT / height, _WIDTH / width)
    size = max(_WIDTH, round(width * scale)), max(_HEIGHT, round(height * scale))
    return cv2.resize(photo, size, interpolation=cv2.INTER_AREA)[:_HEIGHT, :_WIDTH]


def _change(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Changes gamma, contrast and brightness, and adds noise."""
    values = (image / 255) ** np.exp(random.uniform(-0.3, 0.3))
    values = (values - 0.5) * random.uniform(0.7, 1.2) + 0.5 + random.uniform(-0.1, 0.1)
    values += random.normal(scale=random.uniform(0, 0.03), size=values.shape)
    return (255 * values.clip(0, 1)).astype(np.uint8)


def _shift(by: np.ndarray) -> np.ndarray:
    return np.array([[1, 0, by[0]], [0, 1, by[1]], [0, 0, 1]])


if __name__ == "__main__":
    main()
