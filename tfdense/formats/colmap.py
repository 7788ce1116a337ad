"""A database of COLMAP: cameras, images, key points, matches and two-view geometries.

It is written by SQLite in the tables that COLMAP has had since version 3, which newer versions
bring to their own when they open it. The mapper needs nothing else: ``colmap mapper
--database_path out/database.db --image_path photos --output_path model``.

COLMAP's origin is the corner of the upper left pixel, so that all coordinates are larger by 0.5.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from tfdense.checks import camera_matrix
from tfdense.errors import InputError
from tfdense.files import check_folder, making, reporting
from tfdense.formats.colmap_geometry import Geometry, pinhole, two_view_geometry, unknown_camera
from tfdense.formats.shared_keypoints import Selection, SharedKeypoints, check_names, one_to_one

DATABASE = "database.db"
CORNER = 0.5
_MOST_IMAGES = 2**31 - 1
_TABLES = """
CREATE TABLE IF NOT EXISTS cameras (
    camera_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, model INTEGER NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL, params BLOB,
    prior_focal_length INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS images (
    image_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, name TEXT NOT NULL UNIQUE,
    camera_id INTEGER NOT NULL, prior_qw REAL, prior_qx REAL, prior_qy REAL, prior_qz REAL,
    prior_tx REAL, prior_ty REAL, prior_tz REAL,
    CONSTRAINT image_id_check CHECK(image_id >= 0 and image_id < 2147483647),
    FOREIGN KEY(camera_id) REFERENCES cameras(camera_id));
CREATE TABLE IF NOT EXISTS keypoints (
    image_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL, data BLOB,
    FOREIGN KEY(image_id) REFERENCES images(image_id) ON DELETE CASCADE);
CREATE TABLE IF NOT EXISTS descriptors (
    image_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL, data BLOB,
    FOREIGN KEY(image_id) REFERENCES images(image_id) ON DELETE CASCADE);
CREATE TABLE IF NOT EXISTS matches (
    pair_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL, data BLOB);
CREATE TABLE IF NOT EXISTS two_view_geometries (
    pair_id INTEGER PRIMARY KEY NOT NULL, rows INTEGER NOT NULL, cols INTEGER NOT NULL, data BLOB,
    config INTEGER NOT NULL, F BLOB, E BLOB, H BLOB, qvec BLOB, tvec BLOB);
CREATE UNIQUE INDEX IF NOT EXISTS index_name ON images(name);
"""


class ColmapWriter:
    """Writes pairs of images to a database of COLMAP, see `tfdense.formats.PairWriter`.

    Each pair is one transaction: whatever ends the process, the database holds whole pairs.

    Args:
        folder: of `database.db`; it is made if it does not exist. A database that this class began
            is added to, unless COLMAP has opened it since.
        cameras: intrinsic matrices [3, 3] by the names of images. Of others COLMAP finds focal
            length and radial distortion, beginning with 1.2 times the longer side, as it does.
        one_camera: whether the images of one size, as far as `cameras` does not name them, come
            from one camera.
        **selection: see `tfdense.formats.shared_keypoints.Selection`.

    Raises:
        InputError: if a matrix is not that of a camera, or its axes are not at right angles; or the
            file is no such database.
        OutputError: if the folder cannot be written to.
    """

    def __init__(
        self,
        folder: str | Path,
        cameras: Mapping[str, np.ndarray] | None = None,
        one_camera: bool = False,
        **selection,
    ):
        self._selection = Selection(**selection)
        self._cameras = {name: _camera(name, matrix) for name, matrix in (cameras or {}).items()}
        check_folder(folder)
        self._path = Path(folder, DATABASE)
        self._one_camera = one_camera
        self._keypoints: dict[int, SharedKeypoints] = {}
        with making(folder), reporting(self._path, sqlite3.Error):
            self._database = sqlite3.connect(self._path)
            if self._rows("SELECT 1 FROM sqlite_master WHERE name = 'frames'"):
                raise InputError(
                    f"{self._path} was opened by COLMAP. Expected a new one, or one that tfdense "
                    "alone has written."
                )
            self._database.executescript(_TABLES)

    def add(self, source: str, target: str, match) -> list[Path]:
        """Adds one pair. Images get numbers in the order in which they first come."""
        check_names(source, target)
        if self.has(source, target):
            raise InputError(f"{self._path} holds {source}, {target} already.")
        found = self._selection.matches(match)
        with self._transaction():
            numbers = self._image(source, match.source), self._image(target, match.target)
            names = source, target
            if numbers[0] > numbers[1]:
                numbers, names, found = numbers[::-1], names[::-1], found.swap()
            shared = [self._shared(number) for number in numbers]
            found = one_to_one(found, *shared)
            indices = [
                self._add_keypoints(number, keypoints, points)
                for number, keypoints, points in zip(numbers, shared, found[:2], strict=True)
            ]
            pairs = np.column_stack(indices).astype(np.uint32)
            cameras = [self._cameras.get(name) for name in names]
            geometry, inliers = two_view_geometry(found, match.radius, *cameras)
            self._write_pair(_pair_id(*numbers), pairs, geometry, inliers)
        return [self._path]

    def has(self, source: str, target: str) -> bool:
        """Whether the database holds a pair, in this order or the other."""
        numbers = [self._number(name) for name in (source, target)]
        if None in numbers:
            return False
        return bool(
            self._rows("SELECT 1 FROM matches WHERE pair_id = ?", _pair_id(*sorted(numbers)))
        )

    def close(self) -> None:
        """Closes the database."""
        self._database.close()

    def __enter__(self) -> "ColmapWriter":
        return self

    def __exit__(self, *error) -> None:
        self.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with reporting(self._path, sqlite3.Error), self._database:
                yield
        except BaseException:
            # What they hold may have been undone.
            self._keypoints.clear()
            raise

    def _rows(self, query: str, *values) -> list[tuple]:
        return self._database.execute(query, values).fetchall()

    def _insert(self, table: str, *values) -> int:
        """Adds a row, or replaces that of the same number; returns its number."""
        places = ", ".join("?" * len(values))
        return self._database.execute(
            f"INSERT OR REPLACE INTO {table} VALUES ({places})", values
        ).lastrowid

    def _number(self, name: str) -> int | None:
        rows = self._rows("SELECT image_id FROM images WHERE name = ?", name)
        return rows[0][0] if rows else None

    def _image(self, name: str, image: np.ndarray) -> int:
        """Returns the number of an image; adds it with its camera if it is new."""
        size = tuple(image.shape[1::-1])
        number = self._number(name)
        if number is None:
            nothing = [None] * 7
            return self._insert("images", None, name, self._camera(name, size), *nothing)
        ((*former,),) = self._rows(
            "SELECT width, height FROM images JOIN cameras USING (camera_id) WHERE image_id = ?",
            number,
        )
        if tuple(former) != size:
            raise InputError(
                f"Expected {name} to have {former[0]}x{former[1]} px, as before. "
                f"Received: {size[0]}x{size[1]} px"
            )
        return number

    def _camera(self, name: str, size: tuple[int, int]) -> int:
        if name in self._cameras:
            model, parameters = pinhole(self._cameras[name], CORNER)
            return self._insert("cameras", None, model, *size, parameters.tobytes(), 1)
        model, parameters = unknown_camera(size)
        values = model, *size, parameters.tobytes(), 0
        if self._one_camera:
            query = " AND ".join(
                f"{column} = ?"
                for column in ("model", "width", "height", "params", "prior_focal_length")
            )
            # The names are ours, the values apart.
            query = f"SELECT camera_id FROM cameras WHERE {query}"  # nosec B608
            if rows := self._rows(query, *values):
                return rows[0][0]
        return self._insert("cameras", None, *values)

    def _shared(self, number: int) -> SharedKeypoints:
        """Returns the key points of an image."""
        if number not in self._keypoints:
            points = self._read_keypoints(number) - CORNER
            self._keypoints[number] = SharedKeypoints(points, self._selection.cell)
        return self._keypoints[number]

    def _read_keypoints(self, number: int) -> np.ndarray:
        rows = self._rows("SELECT data FROM keypoints WHERE image_id = ?", number)
        return np.frombuffer(rows[0][0] if rows else b"", np.float32).reshape(-1, 2)

    def _add_keypoints(self, number: int, keypoints: SharedKeypoints, points) -> np.ndarray:
        """Adds the places that are no key points yet; returns the numbers of all, int [count]."""
        numbers, made = keypoints.add(points)
        every = np.concatenate([self._read_keypoints(number), points[made] + np.float32(CORNER)])
        self._insert("keypoints", number, *every.shape, every.tobytes())
        return numbers

    def _write_pair(
        self, number: int, pairs: np.ndarray, geometry: Geometry, inliers: np.ndarray
    ) -> None:
        self._insert("matches", number, *pairs.shape, pairs.tobytes())
        agreeing = pairs[inliers]
        matrices = (np.float64(values).tobytes() for values in geometry.shifted(CORNER))
        self._insert(
            "two_view_geometries",
            number,
            *agreeing.shape,
            agreeing.tobytes(),
            geometry.configuration,
            *matrices,
        )


def _pair_id(first: int, second: int) -> int:
    return first * _MOST_IMAGES + second


def _camera(name: str, matrix) -> np.ndarray:
    matrix = camera_matrix(f"the camera of {name}", matrix)
    if matrix[0, 1]:
        raise InputError(f"Expected the camera of {name} to have no skew. Received: {matrix}")
    return matrix
