"""Working off a film, frame by frame, so that it can be broken off at any moment and go on."""

import contextlib
import csv
import io
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfdense.checks import photo_to_match
from tfdense.errors import InputError
from tfdense.files import write_text
from tfdense.images import Photo, write_image
from tfdense.job_folder import JobFolder
from tfdense.progress import Progress
from tfdense.results.saving import save_compressed
from tfdense.video import tracking
from tfdense.video.reading import Film
from tfdense.video.streaming import (
    Network,
    Start,
    StreamedMatch,
    match_frame,
    radius_of_tracks,
    stream,
)
from tfdense.video.views import stabilised, view
from tfdense.video.writing import (
    ARRAYS,
    FILES,
    LINES,
    PICTURES,
    STABILISED,
    TRACKS,
    VIEW,
    write_film,
)


class Request(NamedTuple):
    """What is wanted of a film.

    Attributes:
        film: its frames.
        reference: what they are matched with: "previous", "first" or an image.
        warm: whether a frame may start from the one before.
        points: to follow, (x, y) in the first frame, float32 [points, 2]; or None.
        threshold: the least confidence of what is shown as matched.
        arrays: whether to write flow and confidence of each frame.
        count: of frames, at most; None takes all.
    """

    film: Film
    reference: str | Photo
    warm: bool
    points: np.ndarray | None
    threshold: float
    arrays: bool
    count: int | None


class Job:
    """A film and the folder of what is found in it.

    ``frames.jsonl`` gets a line for each frame, once its pictures are written.

    Args:
        folder, settings: see `JobFolder`.
        request: what is wanted.

    Raises:
        InputError: if the folder holds results of other settings, of a camera or of something else.
    """

    def __init__(self, folder: Path, settings: dict, request: Request):
        self._folder, self._request = folder, request
        self._record = JobFolder(folder, LINES, settings)
        if request.film.is_camera and self._record.entries:
            raise InputError(f"{folder} holds frames of a camera already. Choose another output.")
        if not self._record.entries:
            for path in (folder / name for name in (*FILES, ARRAYS)):
                if path.exists():
                    raise InputError(f"{path} is not of this film. Choose another output.")
        self._fixed = not isinstance(request.reference, str)
        self._stabilises = self._fixed or request.reference == "first"
        self._progress = None

    def match(self, network: Network) -> bool:
        """Matches the frames that are not done yet; returns False after Ctrl-C."""
        film, done = self._request.film, len(self._record.entries)
        if self._request.count is not None and self._request.count < done:
            raise InputError(
                f"Expected --frames of at least {done}, which are done in {self._folder}. "
                f"Received: {self._request.count}"
            )
        total = film.count if self._request.count is None else self._request.count
        left = None if total is None else max(total - done, 0)
        frames = itertools.islice(film.frames(), self._request.count)
        try:
            with Progress("frames", left) as self._progress:
                self._match(network, frames)
        except KeyboardInterrupt:
            return False
        return True

    def finish(self, keep_pictures: bool) -> list[Path]:
        """Makes films of the pictures, and a table of the points; returns their paths.

        Raises:
            InputError: if there are fewer than two frames.
        """
        if not any("share" in entry for entry in self._record.entries):
            raise self._too_short()
        pictures = self._folder / PICTURES
        for name in (VIEW, STABILISED):
            found = sorted(pictures.glob(f"{name}_*.jpg"))
            if found:
                write_film(self._folder / f"{name}.mp4", found, self._request.film.rate)
        if self._request.points is not None:
            write_text(self._folder / TRACKS, self._tracks())
        if pictures.is_dir() and not keep_pictures:
            self._remove_pictures()
        names = (*FILES, ARRAYS, PICTURES)
        return [path for name in names if (path := self._folder / name).exists()]

    def _remove_pictures(self) -> None:
        for entry in self._record.entries:
            for name in (VIEW, STABILISED):
                self._picture(name, entry["frame"]).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # There are others' files.
            (self._folder / PICTURES).rmdir()

    def _too_short(self) -> InputError:
        return InputError(f"Expected two frames at least. Received: {self._request.film.source}")

    def summary(self) -> str:
        """Says in a line how many frames there are, and what of them is special."""
        entries = self._record.entries
        parts = [f"{len(entries)} frames"]
        stated = self._request.film.count
        if self._request.count is None and stated and len(entries) < stated:
            parts[0] += f" of {stated} that the film states"
        if self._progress is not None and self._progress.count:
            parts.append(f"{self._progress.rate:.3g} frames/s")
        cuts = [entry["frame"] for entry in entries if entry.get("cut")]
        if cuts:
            shown = ", ".join(map(str, cuts[:10])) + (" ..." if len(cuts) > 10 else "")
            parts.append(f"another shot from frame {shown}")
        lost = sum(entry.get("lost", False) and not entry["cut"] for entry in entries)
        if lost:
            parts.append(f"lost in {lost}")
        return ", ".join(parts)

    def _match(self, network: Network, frames: Iterator[np.ndarray]) -> None:
        request = self._request
        first = next(frames, None)
        if first is None:
            raise InputError(f"{request.film.source} holds no frame.")
        start = Start()
        if not self._record.entries and self._fixed:
            frames = itertools.chain([first], frames)
        else:
            if not self._record.entries:
                second = next(frames, None)
                if second is None:
                    raise self._too_short()
                # What is refused leaves nothing.
                for frame in (first, second):
                    photo_to_match("frame", frame)
                frames = itertools.chain([second], frames)
                self._begin(first)
            start = self._resume(first, frames)
            frames = self._with_room(frames)
        began = time.perf_counter()
        for streamed in stream(network, frames, request.reference, request.warm, start):
            tracked = None
            if request.points is not None:
                tracked = self._follow(network, Photo(first), streamed)
            self._write(streamed, tracked, time.perf_counter() - began)
            began = time.perf_counter()
            self._progress.advance()

    def _begin(self, frame: np.ndarray) -> None:
        """Notes the first frame, which has nothing to be matched with."""
        entry = {"frame": 0, "reference": 0}
        if self._request.points is not None:
            tracked = tracking.start_tracks(self._request.points, frame)
            entry["points"] = _points_of(tracked)
        if self._stabilises:
            write_image(self._picture(STABILISED, 0), frame)
        self._record.add(entry)

    def _resume(self, first: np.ndarray, frames: Iterator[np.ndarray]) -> Start:
        """Reads the frames that are done, after the first; returns from where to go on."""
        last = self._record.entries[-1]
        reference = last["reference"]
        if last.get("cut") or self._request.reference == "previous":
            reference = last["frame"]
        kept = {0: Photo(first)}
        for number in range(1, len(self._record.entries)):
            frame = next(frames, None)
            if frame is None:
                raise InputError(f"{self._request.film.source} has fewer frames than before.")
            if number in (reference, last["frame"]):
                kept[number] = Photo(frame)
        homography = None if last.get("cut") else last.get("homography")
        return Start(
            last["frame"] + 1,
            kept.get(reference),
            kept[last["frame"]],
            None if homography is None else np.array(homography),
        )

    def _with_room(self, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Refuses further frames once the pictures of those before were removed."""
        last = self._record.entries[-1]
        kept = "share" not in last or self._picture(VIEW, last["frame"]).is_file()
        for number, frame in enumerate(frames):
            if not number and not kept:
                films = (self._folder / f"{VIEW}.mp4").is_file()
                raise InputError(
                    f"The films in {self._folder} are finished, and the pictures they were made of "
                    "removed. Choose another output, or --keep-frames the next time."
                    if films
                    else f"The pictures of the frames that are done are no longer in "
                    f"{self._folder / PICTURES}. Choose another output."
                )
            yield frame

    def _follow(
        self, network: Network, first: Photo, streamed: StreamedMatch
    ) -> tracking.TrackedPoints:
        source = Photo(streamed.match.source)
        direct = streamed.match
        if streamed.index > 1:
            direct = match_frame(network, source, first).match
        former = _points_from(self._record.entries[-1])
        begun = tracking.start_tracks(self._request.points, first.pixels)
        radius = radius_of_tracks(network, source)
        return tracking.advance(
            network.backend.mixture, begun, former, streamed.match, direct, radius
        )

    def _write(
        self, streamed: StreamedMatch, tracked: tracking.TrackedPoints | None, seconds: float
    ) -> None:
        index, last = streamed.index, self._record.entries[-1:]
        drawn = view(streamed, self._request.threshold, self._fixed, tracked)
        write_image(self._picture(VIEW, index), drawn)
        if self._stabilises:
            picture = streamed.match.source if streamed.cut else stabilised(streamed)
            write_image(self._picture(STABILISED, index), picture)
        if self._request.arrays:
            save_compressed(streamed.match, self._folder / ARRAYS / f"{index:06d}.npz")
        if self._fixed:
            reference = None
        elif self._request.reference == "previous":
            reference = index - 1
        else:
            reference = index - 1 if last[0].get("cut") else last[0]["reference"]
        homography = streamed.homography
        entry = {
            "frame": index,
            "reference": reference,
            "share": round(streamed.share, 4),
            "lost": streamed.lost,
            "cut": streamed.cut,
            "warm": streamed.warm,
            "homography": None if homography is None else homography.tolist(),
            "seconds": round(seconds, 4),
        }
        if tracked is not None:
            entry["points"] = _points_of(tracked)
        self._record.add(entry)

    def _picture(self, name: str, index: int) -> Path:
        return self._folder / PICTURES / f"{name}_{index:06d}.jpg"

    def _tracks(self) -> str:
        """Returns a table of the points: a row for each in each frame."""
        table = io.StringIO(newline="")
        writer = csv.writer(table)
        writer.writerow(["frame", "point", "x", "y", "probability", "visible"])
        for entry in self._record.entries:
            for number, (x, y, probability, visible) in enumerate(entry["points"]):
                numbers = f"{x:.3f}", f"{y:.3f}", f"{probability:.4f}"
                writer.writerow([entry["frame"], number, *numbers, int(visible)])
        return table.getvalue()


def _points_of(tracked: tracking.TrackedPoints) -> list:
    columns = (*tracked.positions.T, tracked.probability, tracked.visible)
    return [list(row) for row in zip(*(c.tolist() for c in columns), strict=True)]


def _points_from(entry: dict) -> tracking.TrackedPoints:
    x, y, probability, visible = zip(*entry["points"], strict=True)
    return tracking.TrackedPoints(
        entry["frame"],
        np.array([x, y], np.float32).T,
        np.array(probability, np.float32),
        np.array(visible, bool),
    )
