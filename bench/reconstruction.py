"""Measures poses from dense matches: python -m bench.reconstruction DIR

DIR holds the views of a scene, each with the .camera.txt of Strecha's data: three rows of K,
three of the rotation to the world, one of the centre. Each view is matched, both ways, with the
three that follow. COLMAP (pycolmap) makes a model of what the form `colmap` holds, with cameras
that it is told and with one that it has to find; and each pair alone gives a pose, with and without
its camera.
"""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

import tfdense
from tfdense.errors import InputError, exit_status
from tfdense.evaluation.readers.folders import only_image
from tfdense.evaluation.truth_files import read_numbers
from tfdense.startup import import_tensorflow

_CAMERA = ".camera.txt"
_FOLLOWING = 3


class View(NamedTuple):
    """A view and its camera: a point X of the world is at ``rotation @ (X - centre)`` in it."""

    path: Path
    camera: np.ndarray
    rotation: np.ndarray
    centre: np.ndarray


class Model(NamedTuple):
    """What COLMAP made, and its errors over all pairs of its views, in degrees."""

    registered: int
    points: int
    track_length: float
    reprojection: float
    rotations: np.ndarray
    directions: np.ndarray
    focal: float

    def __str__(self):
        return (
            f"{self.registered} views, {self.points} points seen by {self.track_length:.1f}, "
            f"reprojection {self.reprojection:.2f} px, rotation {np.median(self.rotations):.2f} "
            f"(at most {self.rotations.max():.2f}), direction {np.median(self.directions):.2f} "
            f"(at most {self.directions.max():.2f}) degrees, focal length {self.focal:.1f} px"
        )


def read_views(folder: Path) -> dict[str, View]:
    """Reads the views of a scene by the names of their files."""
    views = {}
    for path in sorted(folder.glob(f"*{_CAMERA}")):
        rows = read_numbers(path, "three rows of K, three of R and one of C", 3)
        image = only_image(folder, path.name[: -len(_CAMERA)])
        views[image.name] = View(image, rows[:3], rows[3:6].T, rows[6])
    if len(views) < 2:
        raise InputError(f"Expected views with {_CAMERA} in {folder}. Received: {len(views)}")
    return views


def pairs_of(views: dict[str, View]) -> Iterator[tuple[str, str]]:
    """Yields each view's name with those of the views that follow."""
    names = [*views]
    for index, first in enumerate(names):
        for second in names[index + 1 : index + 1 + _FOLLOWING]:
            yield first, second


def pose_error(source: View, target: View, rotation, translation) -> tuple[float, float]:
    """Returns by how many degrees a rotation and the direction of a translation are wrong."""
    true = target.rotation @ source.rotation.T
    direction = target.rotation @ (source.centre - target.centre)
    turn = (np.trace(rotation @ true.T) - 1) / 2
    cosine = translation @ direction / np.linalg.norm(translation) / np.linalg.norm(direction)
    return tuple(np.degrees(np.arccos(np.clip([turn, cosine], -1, 1))))


def model_of(views: dict[str, View], matches: dict, known: bool, **options) -> Model | None:
    """Has COLMAP make a model, and compares it with the true cameras; None if it makes none."""
    import pycolmap

    pycolmap.logging.minloglevel = pycolmap.logging.ERROR
    cameras = {name: view.camera for name, view in views.items()} if known else None
    with tempfile.TemporaryDirectory() as folder:
        with tfdense.formats.open(
            "colmap", folder, cameras=cameras, one_camera=True, **options
        ) as writer:
            for pair, match in matches.items():
                writer.add(*pair, match)
        settings = pycolmap.IncrementalPipelineOptions(extract_colors=False)
        if known:
            settings.ba_refine_focal_length = settings.ba_refine_extra_params = False
        models = pycolmap.incremental_mapping(
            Path(folder, "database.db"), folder, Path(folder, "model"), settings
        )
    if not models:
        return None
    model = max(models.values(), key=lambda model: model.num_reg_images())
    poses = {image.name: image.cam_from_world() for image in model.images.values()}
    errors = []
    for first, second in itertools.combinations(sorted(poses), 2):
        pose = poses[second] * poses[first].inverse()
        errors.append(
            pose_error(views[first], views[second], pose.rotation.matrix(), pose.translation)
        )
    return Model(
        len(poses),
        model.num_points3D(),
        model.compute_mean_track_length(),
        model.compute_mean_reprojection_error(),
        *np.transpose(errors),
        next(iter(model.cameras.values())).params[0],
    )


def poses_of(views: dict[str, View], matches: dict) -> str:
    """Compares the poses of single pairs, with their cameras and without, with the true ones."""
    errors, focal = {"known": [], "found": []}, []
    for (source, target), match in matches.items():
        cameras = views[source].camera, views[target].camera
        found = match.self_calibrate()
        for name, pose in (
            ("known", match.pose(*cameras)),
            ("found", None if found is None else found.pose),
        ):
            wrong = (
                (180.0, 180.0)
                if pose is None
                else pose_error(views[source], views[target], pose.rotation, pose.translation)
            )
            errors[name].append(max(wrong))
        if found is not None:
            focal.append(abs(found.K_source[0, 0] / cameras[0][0, 0] - 1))
    lines = [
        f"pose, camera {name}: median {np.median(values):.2f}, at most {max(values):.2f} degrees"
        for name, values in errors.items()
    ]
    share = f"median {np.median(focal):.1%}, at most {max(focal):.1%}"
    return "\n".join(
        [*lines, f"focal length of {len(focal)} of {len(matches)} pairs wrong by: {share}"]
    )


def main() -> int:
    """Prints a line a model, then what single pairs give."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR", help="the views of one scene")
    parser.add_argument("--cells", type=float, nargs="+", default=[1.0], help="in px (%(default)s)")
    arguments = parser.parse_args()
    return exit_status(parser.prog, lambda: _measure(arguments))


def _measure(arguments: argparse.Namespace) -> None:
    views = read_views(arguments.folder)
    import_tensorflow()
    matcher = tfdense.load("pdcnet-lite")
    matches = {
        pair: matcher.match(*(views[name].path for name in pair), both_ways=True)
        for pair in pairs_of(views)
    }
    for cell in arguments.cells:
        for known in (True, False):
            camera = "known" if known else "found"
            print(
                f"cell {cell:g} px, camera {camera}: {model_of(views, matches, known, cell=cell)}"
            )
    print(poses_of(views, matches))


if __name__ == "__main__":
    sys.exit(main())
