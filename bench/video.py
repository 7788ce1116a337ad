"""Films: errors and frames a second, started from the frame before and not.

    python bench/video.py FOLDER

FOLDER holds photos. Of each of the first a film is made in which it turns, grows and moves by a
constant step, so that the flow to its first frame is known.

    python bench/video.py FOLDER --shots DIR

DIR holds a folder of frames for each of several films: how much of a frame is matched with a later
one of the same film, and with one of another.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np

import tfdense
from tfdense.images import find_images, read_image
from tfdense.two_view.estimation import map_points


def film(photo: np.ndarray, size: tuple[int, int], count: int, draw) -> tuple[list, list]:
    """Returns frames of a moving photo, and for each the homography from the first frame's px."""
    height, width = size
    angle, scale = np.radians(draw.uniform(-6, 6)), 1 + draw.uniform(-0.04, 0.04)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([width, height]) / 2
    shift = middle - turn @ middle + draw.uniform(-0.04, 0.04, 2) * [width, height]
    step = np.vstack([np.column_stack([turn, shift]), [0, 0, 1]])
    scene = cv2.resize(photo, (2 * width, 2 * height), interpolation=cv2.INTER_AREA)
    shown = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])
    homographies = [np.linalg.matrix_power(step, i) for i in range(count)]
    frames = [
        cv2.warpPerspective(
            scene,
            homography @ shown,
            (width, height),
            flags=cv2.INTER_AREA,
            borderMode=cv2.BORDER_REFLECT,
        )
        for homography in homographies
    ]
    return frames, homographies


def errors(flow: np.ndarray, homography: np.ndarray) -> np.ndarray:
    """Returns the end-point errors, in px, of the pixels that are in both frames."""
    height, width = flow.shape[:2]
    grid = np.dstack(np.meshgrid(np.arange(width), np.arange(height)))
    places, _ = map_points(homography, grid)
    inside = ((places >= 0) & (places <= (width - 1, height - 1))).all(axis=-1)
    return np.linalg.norm(flow - (places - grid), axis=-1)[inside]


def shares(matcher, folders: Sequence[Path], frames: int = 3, step: int = 2) -> None:
    """Prints the shares of what is matched within films and between them, sorted."""
    films = [[read_image(p) for p in find_images(f)[: frames * step : step]] for f in folders]
    within, between = [], []
    for number, pictures in enumerate(films):
        within += [streamed.share for streamed in matcher.stream(pictures)]
        other = films[(number + 1) % len(films)][0]
        between += [streamed.share for streamed in matcher.stream([pictures[0], other])]
    for name, values in (("of one film", within), ("of different films", between)):
        print(f"frames {name}: {' '.join(f'{value:.3f}' for value in sorted(values))}", flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="pdcnet-lite")
    parser.add_argument("--size", nargs="*", default=["256x256", "384x512"], metavar="HxW")
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--shots", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    if arguments.shots is not None:
        folders = sorted(path for path in arguments.shots.iterdir() if path.is_dir())
        shares(tfdense.load(arguments.model, max_side=320), folders)
        return
    matcher = tfdense.load(arguments.model)
    photos = [read_image(path) for path in find_images(arguments.folder)[: arguments.photos]]
    for text in arguments.size:
        size = tuple(map(int, text.split("x")))
        films = [
            film(p, size, arguments.frames, np.random.default_rng(i)) for i, p in enumerate(photos)
        ]
        list(matcher.stream(films[0][0][:3], "first"))
        for reference, warm in (("previous", False), ("first", False), ("first", True)):
            found, seconds, count = [], 0.0, 0
            for frames, homographies in films:
                start = time.perf_counter()
                for streamed in matcher.stream(frames, reference, warm_start=warm):
                    seconds += time.perf_counter() - start
                    count += 1
                    of_target = homographies[streamed.index - 1 if reference == "previous" else 0]
                    true = homographies[streamed.index] @ np.linalg.inv(of_target)
                    found.append(errors(streamed.match.flow, true))
                    start = time.perf_counter()
            found = np.concatenate(found)
            print(
                f"{text} to {reference:8} {'from the frame before' if warm else 'cold':21} "
                f"AEPE {found.mean():6.2f} px, PCK-1 {100 * np.mean(found <= 1):5.1f} %, "
                f"PCK-5 {100 * np.mean(found <= 5):5.1f} %, {count / seconds:5.2f} frames/s",
                flush=True,
            )


if __name__ == "__main__":
    main()
