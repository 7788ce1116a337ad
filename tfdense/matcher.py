"""Matching two images of any size.

The network sees both images at one working size. Its answer is brought to the target's size and
into the source's own pixels with half-pixel centres, so that a shift stays exact to the border.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from tfdense.checks import (
    check_fill,
    check_flag,
    check_frames,
    check_radius,
    key_points,
    photo_to_match,
)
from tfdense.errors import InputError
from tfdense.images import Photo
from tfdense.inference.backends import (
    Backend,
    KerasBackend,
    LiteBackend,
    SavedModelBackend,
    refuse_fork,
)
from tfdense.inference.modes import MODES, Mode, check_mode
from tfdense.inference.pipeline import answer, pair_of, run
from tfdense.mixture import Mixture
from tfdense.models import load as load_model
from tfdense.networks import existing, is_preset, newest_saved_model
from tfdense.pairs import many
from tfdense.pairs.reusing import reusing
from tfdense.results.match import Match
from tfdense.tiles.spans import Tiles, checked
from tfdense.video import streaming, tracking


def load(
    name_or_path: str | Path,
    max_side: int,
    mode: Mode,
    fill: bool,
    refine: bool = True,
    tiles: Tiles = None,
) -> "Matcher":
    """Loads a network for matching; see `tfdense.load` and `tfdense.inference.settings`."""
    backend = _load_backend(name_or_path, max_side, refine)
    preset = is_preset(name_or_path)
    # What a pickle holds counts in any working directory.
    origin = (
        name_or_path if preset else Path(name_or_path).absolute(),
        max_side,
        mode,
        fill,
        refine,
        tiles,
    )
    return Matcher(backend, mode, fill, origin, tiles)


def _load_backend(name_or_path: str | Path, max_side: int, refine: bool) -> Backend:
    if not is_preset(name_or_path):
        path = existing(name_or_path)
        if path.suffix == ".tflite":
            return LiteBackend(path)
        if saved_model := newest_saved_model(path):
            return SavedModelBackend(saved_model, max_side)
    refuse_fork()
    model, _ = load_model(name_or_path)
    return KerasBackend(model, max_side, refine)


class Matcher:
    """Matches pairs of images with one network.

    Threads may share it. A process forked after TensorFlow was used cannot use it, except one from
    a .tflite file; one that was started with "spawn" can. A pickle holds no network, only what
    `load` was given.

    Args:
        backend: runs the network.
        mode: how it is used, see `tfdense.inference.modes`.
        fill: whether uncertain pixels get the flow of the certain ones around them, see
            `tfdense.inference.filling`.
        origin: the arguments of `load`, if that made it.
        tiles: of what `match` and `match_many` match unless `match` is told else, see there.

    Raises:
        InputError: if there is no such mode, `fill` is neither True nor False, there are no such
            tiles, or mode "plane" has any.
    """

    def __init__(
        self,
        backend: Backend,
        mode: Mode = "direct",
        fill: bool = False,
        origin: tuple | None = None,
        tiles: Tiles = None,
    ):
        self._backend = backend
        self._mode = check_mode(mode)
        self._fill = check_fill(fill)
        self._origin = origin
        self._tiles = self._checked(tiles)

    def __repr__(self) -> str:
        origin = "" if self._origin is None else f" of {self._origin[0]}"
        return f"<Matcher{origin}, mode {self._mode}{', filled' if self._fill else ''}>"

    def __reduce__(self):
        if self._origin is None:
            raise InputError(
                "Expected a matcher of tfdense.load, which is pickled as what it was loaded from. "
                "Received: one made of a backend."
            )
        return load, self._origin

    @property
    def backend(self) -> Backend:
        """What runs its network."""
        return self._backend

    @property
    def mixture(self) -> Mixture:
        """What the log-variances and logits of its matches are parameters of."""
        return self._backend.mixture

    def match(
        self,
        source,
        target,
        radius: float | None = None,
        both_ways: bool = False,
        source_mask=None,
        target_mask=None,
        tiles: Tiles = None,
    ) -> Match:
        """Finds for every pixel of the target its place in the source.

        Args:
            source, target: paths, or arrays [height, width, 3] or [height, width] with values in
                0..255, uint8 or floating; their sizes may differ.
            radius: R of the confidence, in px of the source. None takes one pixel of the source
                as the network sees it, but at least 1: of a photo that is shrunk six times the
                place is known to some six pixels, and P_1 is small everywhere. `Match.radius`
                says what was taken.
            both_ways: also matches the source's pixels in the target, which takes as long again:
                `Match.reverse`, for the checks that need it.
            source_mask, target_mask: which pixels count, paths or arrays [height, width] of the
                image's size: what is not 0 counts. So does an image's own alpha channel, from a
                half on. Where the target is masked, or its match in the source, the confidence is
                0; what is masked does not change the rest.
            tiles: of a target larger than what the network sees: how many (rows, columns) of
                parts it is cut into, each of which is matched again, after the whole, with all the
                detail that the network can see, see `tfdense.tiles.matching`. True takes as many
                as show it the target's own pixels, and none where the whole does. False looks at
                the whole only, as mode "plane" must. None takes what the matcher was loaded with.

        Returns:
            The match, at the target's size.

        Raises:
            InputError: if an image cannot be read, is no image or too small, the radius is not
                positive and finite, `both_ways` neither True nor False, tiles are none, the network
                answers what is not finite or of another size, or the process was forked after
                TensorFlow was used.
        """
        radius, both_ways = check_radius(radius), check_flag("both_ways", both_ways)
        tiles = self._tiles if tiles is None else self._checked(tiles)
        source = photo_to_match("source", source, source_mask)
        target = photo_to_match("target", target, target_mask)
        match = self._match(source, target, radius, tiles)
        if not both_ways:
            return match
        return dataclasses.replace(match, reverse=self._match(target, source, radius, tiles))

    def match_many(
        self,
        pairs: Iterable[tuple],
        batch_size: int = 1,
        radius: float | None = None,
        both_ways: bool = False,
        errors: many.Errors = "raise",
        progress: bool = False,
    ) -> Iterator[Match]:
        """Matches many pairs, one after the other, faster than `match` does.

        Files are read, images resized and answers enlarged by threads of their own while the
        network runs. A file that recurs is read once, and what the network computes of an image
        alone, its features, is computed once for each size it is seen at; both are kept up to half
        a GiB. With a network in Keras and in mode direct, pairs that are seen at one size run in
        batches.

        Args:
            pairs: of (source, target), each as `match` takes them. They may come from a generator,
                which is read a few pairs ahead.
            batch_size: how many pairs of a size the network matches at once. On a CPU more than 1
                gains nothing.
            radius, both_ways: as of `match`.
            errors: "raise" raises the error of a pair that cannot be matched; "return" yields the
                error in the place of its match, and goes on.
            progress: whether to show on standard error how far it is.

        Yields:
            The match of each pair, in their order, the same as of `match`; in batches to some
            0.05 px.

        Raises:
            InputError: as `match`, or if the batch size is not positive.
        """
        radius, both_ways = check_radius(radius), check_flag("both_ways", both_ways)
        matcher = self._reusing()
        batches = None
        if matcher._mode == "direct" and not self._tiles and hasattr(matcher._backend, "run_many"):
            batches = many.Batches(
                matcher._backend.working_size,
                matcher._backend.run_many,
                lambda outputs, source, target: answer(
                    matcher._backend, outputs, source, target, radius, matcher._fill
                ),
            )
        return many.match_many(
            pairs,
            lambda source, target: matcher._match(source, target, radius, self._tiles),
            batches,
            batch_size,
            both_ways,
            errors,
            progress,
        )

    def stream(
        self,
        frames: Iterable,
        reference: streaming.Reference | np.ndarray | Path = "previous",
        radius: float | None = None,
        warm_start: bool = True,
    ) -> Iterator[streaming.StreamedMatch]:
        """Matches the frames of a film as they come.

        A match has the frame as source. Its target is the frame before, or the reference: so the
        flow says where each pixel of the target went, and ``match.warp()`` shows the frame as the
        target would.

        Args:
            frames: images, as `match` takes them; a generator is read frame by frame, and may give
                one array again and again with other values.
            reference: "previous" matches each frame with the one before; "first" with the first,
                and after a cut with the first of the new shot: to stabilise a film; an image or a
                path with that: to find a picture in all frames.
            radius: as of `match`.
            warm_start: with a reference, whether a frame starts from the homography that the frame
                before followed, in a single run of the network. The matcher's mode is then used
                only where there is none or it leads astray.

        Yields:
            The match of each frame, but of none that begins a film or, with "first", a shot.

        Raises:
            InputError: as `match`, or if there is no such reference, or frames are none.
        """
        radius, warm_start = check_radius(radius), check_flag("warm_start", warm_start)
        frames = check_frames(frames)
        return streaming.stream(self.network(radius), frames, reference, warm_start)

    def track(self, frames: Iterable, points) -> Iterator[tracking.TrackedPoints]:
        """Follows points of the first frame through a film.

        Args:
            frames: images of one size, as `stream` takes them.
            points: (x, y) in the first frame, in px, [points, 2].

        Yields:
            Where they are in each frame, the first included.

        Raises:
            InputError: as `match`, or if the points are no such array, or frames are none.
        """
        frames, points = check_frames(frames), key_points("first frame", points)
        return streaming.track(self.network(), frames, points)

    def network(self, radius: float | None = None) -> streaming.Network:
        """Returns how a film is matched, for what `stream` and `track` are made of."""
        return streaming.Network(reusing(self._backend), MODES[self._mode], self._fill, radius)

    def _reusing(self) -> "Matcher":
        """Returns the same, which computes the features of an image that recurs once."""
        backend = reusing(self._backend)
        return Matcher(backend, self._mode, self._fill, self._origin, self._tiles)

    def _checked(self, tiles: Tiles) -> tuple[int, int] | bool:
        tiles = checked(tiles)
        if tiles and self._mode == "plane":
            raise InputError(
                "Expected no tiles in mode plane, which follows one homography at any size. "
                f"Received: {tiles}"
            )
        return tiles

    def _match(self, source: Photo, target: Photo, radius: float | None, tiles: Tiles) -> Match:
        outputs = run(MODES[self._mode], pair_of(self._backend, source, target))
        return answer(self._backend, outputs, source, target, radius, self._fill, tiles)
