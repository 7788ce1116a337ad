"""Pairs of frames of the data sets that optical flow is trained on, and of own lists of files."""

import csv
import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tfdense.errors import InputError
from tfdense.evaluation.pairs import EvaluationPair, UnreadPair, dense_pair
from tfdense.evaluation.readers.flow import frame_pair, read_mask
from tfdense.evaluation.readers.folders import file_in, find_files, only_image, read_lines
from tfdense.evaluation.truth_files import read_flow_file
from tfdense.images import read_image

_LIST = "pairs.csv"
_COLUMNS = ("source", "target", "flow")


def listed_flow_pairs(folder: Path) -> Iterator[UnreadPair]:
    """Yields the pairs of a table ``source,target,flow[,valid]`` of files in the folder.

    The flow is at the target's pixels. ``valid`` is an image, not black where the flow is true; it
    may be left out, or empty. Targets in one sub-folder are held to show one scene.

    Raises:
        InputError: if the table has other columns.
    """
    path = folder / _LIST
    rows = csv.DictReader(read_lines(path), skipinitialspace=True)
    if missing := set(_COLUMNS) - set(rows.fieldnames or ()):
        raise InputError(
            f"Expected the first line of {path} to be source,target,flow or "
            f"source,target,flow,valid: {', '.join(sorted(missing))} is missing."
        )
    for number, row in enumerate(rows, 1):
        target = Path(row["target"] or "")
        name = f"{number}-{target.stem}"
        scene = target.parent.as_posix().removeprefix(".")
        yield UnreadPair(name, partial(_listed_pair, name, folder, row), scene)


def _listed_pair(name: str, folder: Path, row: dict[str, str]) -> EvaluationPair:
    source, target, path = (folder / (row[column] or "") for column in _COLUMNS)
    flow, known = read_flow_file(path)
    if row.get("valid"):
        known = known & read_mask(folder / row["valid"], known.shape, 1)
    return dense_pair(name, read_image(source), read_image(target), flow, known)


def flying_chairs_pairs(folder: Path) -> Iterator[UnreadPair]:
    """Yields the pairs of FlyingChairs: image 1 is the target, image 2 the source."""
    for path in find_files(folder, "data/*_flow.flo"):
        name = path.stem.removesuffix("_flow")
        frames = [file_in(path.parent, f"{name}_img{n}.ppm") for n in (2, 1)]
        yield UnreadPair(name, partial(frame_pair, name, *frames, path))


def flying_things_pairs(folder: Path, rendering: str) -> Iterator[UnreadPair]:
    """Yields the pairs of FlyingThings3D's subset, in both directions of time where they are there.

    Args:
        folder: the train or the val folder.
        rendering: clean or final.
    """
    for direction, step in (("into_future", 1), ("into_past", -1)):
        for path in find_files(folder, f"flow/*/{direction}/[0-9]*.flo"):
            side, number = path.parent.parent.name, int(path.stem)
            images = folder / f"image_{rendering}" / side
            frames = [
                file_in(images, f"{n:0{len(path.stem)}d}.png") for n in (number + step, number)
            ]
            name = f"{side}-{direction}-{path.stem}"
            # Sequences have ten frames.
            yield UnreadPair(name, partial(frame_pair, name, *frames, path), str(number // 10))


def hd1k_pairs(folder: Path) -> Iterator[UnreadPair]:
    """Yields the pairs of HD1K: a frame is the target, the next one of its sequence the source.

    The numbers of the frames have gaps; the flow of a sequence's last frame has no source.
    """
    frames = find_files(folder, "hd1k_input/image_2/*_*.png")
    for target, source in itertools.pairwise(frames):
        sequence, _, number = target.stem.rpartition("_")
        path = file_in(folder / "hd1k_flow_gt" / "flow_occ", target.name)
        if source.stem.rpartition("_")[0] == sequence and path.is_file():
            name = f"{sequence}-{number}"
            yield UnreadPair(name, partial(frame_pair, name, source, target, path), sequence)


def viper_pairs(folder: Path) -> Iterator[UnreadPair]:
    """Yields the pairs of VIPER: a frame is the target, the one after it the source.

    Args:
        folder: the train or the val folder.
    """
    for path in find_files(folder, "flow/*/*_[0-9]*.npz"):
        sequence, _, number = path.stem.rpartition("_")
        images = folder / "img" / sequence
        following = f"{int(number) + 1:0{len(number)}d}"
        stems = [f"{sequence}_{n}" for n in (following, number)]
        read = partial(_viper_pair, f"{sequence}-{number}", images, stems, path)
        yield UnreadPair(f"{sequence}-{number}", read, sequence)


def _viper_pair(name: str, images: Path, stems: list[str], path: Path) -> EvaluationPair:
    return frame_pair(name, *(only_image(images, stem) for stem in stems), path)


def spring_pairs(folder: Path) -> Iterator[UnreadPair]:
    """Yields the pairs of Spring (Mehl et al., CVPR 2023), forward and backward in time.

    The flow has four values a pixel, of which the upper left one is taken.

    Args:
        folder: the train folder.
    """
    for direction, step in (("FW", 1), ("BW", -1)):
        for path in find_files(folder, f"*/flow_{direction}_*/*.flo5"):
            scene, (*_, side, number) = path.parent.parent, path.stem.split("_")
            images = scene / f"frame_{side}"
            frames = [
                file_in(images, f"frame_{side}_{n:0{len(number)}d}.png")
                for n in (int(number) + step, int(number))
            ]
            name = f"{scene.name}-{direction}-{side}-{number}"
            yield UnreadPair(name, partial(_spring_pair, name, *frames, path), scene.name)


def _spring_pair(name: str, source: Path, target: Path, path: Path) -> EvaluationPair:
    flow, known = read_flow_file(path)
    image = read_image(target)
    if known.shape == tuple(2 * side for side in image.shape[:2]):
        flow, known = flow[::2, ::2], known[::2, ::2]
    return dense_pair(name, read_image(source), image, flow, known)
