"""Matching the frames of a film, each to the one before or all to one picture.

A match has the earlier frame, or the picture, as target, and the frame itself as source: so its
flow says where each pixel of the target went, and its warp is the frame as the target would show
it.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from tfdense.checks import photo_to_match
from tfdense.images import Photo
from tfdense.inference.backends import Backend
from tfdense.inference.fitting import find_homography
from tfdense.inference.looks import Look, Outputs, Pair, confidence_within, to_size
from tfdense.inference.modes import Plan
from tfdense.inference.pipeline import answer, pair_of, run
from tfdense.inference.plane import follow_plane
from tfdense.masking import UNKNOWN_LOG_VARIANCE
from tfdense.pixels import pixel_positions
from tfdense.results.match import Match
from tfdense.two_view.estimation import map_points
from tfdense.video import tracking

Reference = Literal["previous", "first"]
_WORDS = get_args(Reference)

# Mean probability over the target that the flow is right to five pixels of what the network sees.
# Below, the frame shows something else.
_LEAST_SHARE = 0.1


class Network(NamedTuple):
    """How a stream is matched.

    Attributes:
        backend: runs the network; one that remembers features saves those of each target.
        plan: what the mode does.
        fill: whether uncertain pixels get another flow.
        radius: of the confidence, in px; None as for `Matcher.match`.
    """

    backend: Backend
    plan: Plan
    fill: bool
    radius: float | None


class Start(NamedTuple):
    """What came before the frames of a stream.

    Attributes:
        index: number of the first of them.
        target: what they are compared with; None takes the first of them.
        former: the frame before.
        homography: that this one followed, to the target.
    """

    index: int = 0
    target: Photo | None = None
    former: Photo | None = None
    homography: np.ndarray | None = None


class StreamedMatch(NamedTuple):
    """The match of a frame of a film.

    Attributes:
        index: number of the frame, from 0.
        match: its source is the frame, its target the frame before, or what all are compared with.
        share: mean probability over the target that the flow is right to five pixels of what the
            network sees.
        lost: whether that is so small that the frame hardly shows what the target does.
        cut: whether the frame begins another shot: it does not show what the frame before does.
        homography: that most matches follow, from the frame's px to the target's, [3, 3]; None if
            there is none. From it the next frame starts.
        warm: whether the match started from the homography of the frame before.
    """

    index: int
    match: Match
    share: float
    lost: bool
    cut: bool
    homography: np.ndarray | None
    warm: bool


def stream(
    network: Network,
    frames: Iterable,
    reference: Reference | np.ndarray | Path = "previous",
    warm_start: bool = True,
    start: Start | None = None,
) -> Iterator[StreamedMatch]:
    """Matches frames; see `tfdense.matcher.Matcher.stream`.

    Args:
        network: how to match.
        frames: images.
        reference: what each is matched with.
        warm_start: whether to start from the homography of the frame before.
        start: what came before these frames; None at the beginning of a film.
    """
    fixed = not (isinstance(reference, str) and reference in _WORDS)
    chained = not fixed and reference == "previous"
    start = start or Start()
    target, former, homography = start.target, start.former, start.homography
    if fixed:
        target = _copied(photo_to_match("reference", reference))
    for index, frame in enumerate(frames, start.index):
        photo = _copied(photo_to_match("frame", frame))
        if target is None:
            target = former = photo
            continue
        streamed = match_frame(
            network, photo, target, homography if warm_start and not chained else None
        )
        streamed = streamed._replace(index=index)
        if chained:
            streamed, target = streamed._replace(cut=streamed.lost), photo
        else:
            homography = streamed.homography
            if streamed.lost and not fixed and _differ(network, photo, former):
                # What was the reference will not come back; the new shot has one of its own.
                streamed, target, homography = streamed._replace(cut=True), photo, None
        former = photo
        yield _handed_out(streamed)


def track(
    network: Network, frames: Iterable, points: np.ndarray
) -> Iterator[tracking.TrackedPoints]:
    """Follows points through frames; see `tfdense.matcher.Matcher.track`."""
    first = former = tracked = None
    for frame in frames:
        photo = _copied(photo_to_match("frame", frame))
        if first is None:
            first, tracked = photo, tracking.start_tracks(points, photo.pixels)
            start = tracked
        else:
            step = direct = match_frame(network, photo, former).match
            if former is not first:
                direct = match_frame(network, photo, first).match
            tracked = tracking.advance(
                network.backend.mixture,
                start,
                tracked,
                step,
                direct,
                radius_of_tracks(network, photo),
            )
        former = photo
        # Whoever gets it may change it: the next frame starts from what is kept.
        yield tracking.TrackedPoints(tracked.index, *map(np.copy, tracked[1:]))


def _copied(photo: Photo) -> Photo:
    """Returns a frame to keep: whoever gave it may fill the same array with the next one."""
    return Photo(*(None if part is None else part.copy() for part in photo))


def _handed_out(streamed: StreamedMatch) -> StreamedMatch:
    """Returns a match whose arrays are not those that the next frame is matched with."""
    kept = ("source", "target", "source_mask", "target_mask")
    copies = {
        name: np.copy(streamed.match[name]) for name in kept if streamed.match[name] is not None
    }
    homography = None if streamed.homography is None else streamed.homography.copy()
    return streamed._replace(
        match=dataclasses.replace(streamed.match, **copies), homography=homography
    )


def radius_of_tracks(network: Network, frame: Photo) -> float:
    """Returns what counts as right where points are followed, in px of the frame."""
    height, width = frame.pixels.shape[:2]
    rows, columns = network.backend.working_size(height, width)
    return tracking.RADIUS * max(1.0, float(np.sqrt(height * width / (rows * columns))))


def match_frame(
    network: Network, source: Photo, target: Photo, homography: np.ndarray | None = None
) -> StreamedMatch:
    """Matches a frame.

    Args:
        network: how to match.
        source: the frame.
        target: what it is compared with.
        homography: to start from, from the frame's px to the target's; where it leads astray, or
            there is none, the mode does without.

    Returns:
        The match, as that of frame 0.
    """
    pair = pair_of(network.backend, source, target)
    mixture, size = pair.backend.mixture, pair.size
    of_source, of_target = to_size(source.pixels, size), to_size(target.pixels, size)
    warm = homography is not None
    if warm:
        start = of_target @ homography @ np.linalg.inv(of_source)
        outputs = Look(pair, start, _follow(start, size)).outputs
        if network.plan.plane:
            outputs = follow_plane(mixture, outputs)
        share = float(confidence_within(mixture, outputs).mean())
        warm = share >= _LEAST_SHARE
    if not warm:
        outputs, share = _match(network, pair)
    found = find_homography(mixture, outputs)
    if warm and found is not None:
        # What the start led out of the frame follows the frame's own homography: a better guess.
        unknown = outputs["log_variance"][..., :1] == UNKNOWN_LOG_VARIANCE
        guess = _follow(found[0], size)["flow"]
        outputs = {**outputs, "flow": np.where(unknown, guess, outputs["flow"])}
    if found is not None:
        homography = np.linalg.inv(of_target) @ found[0] @ of_source
        homography /= homography[2, 2]
    lost = share < _LEAST_SHARE
    return StreamedMatch(
        0,
        answer(network.backend, outputs, source, target, network.radius, network.fill),
        share,
        lost,
        False,
        None if lost or found is None else homography,
        warm,
    )


def _differ(network: Network, source: Photo, target: Photo) -> bool:
    return _match(network, pair_of(network.backend, source, target))[1] < _LEAST_SHARE


def _match(network: Network, pair: Pair) -> tuple[Outputs, float]:
    """Returns the outputs, and the mean probability that they are right to five pixels."""
    outputs = run(network.plan, pair)
    return outputs, float(confidence_within(pair.backend.mixture, outputs).mean())


def _follow(homography: np.ndarray, size: tuple[int, int]) -> Outputs:
    """Answers with the flow of a homography, of which nothing is certain."""
    grid = pixel_positions(size)
    inverse = np.linalg.inv(homography)
    places, denominator = map_points(inverse / inverse[2, 2], grid)
    flow = np.where((denominator > 0)[..., None], places - grid, 0.0).astype(np.float32)
    # A network has two components of its mixture.
    unknown = np.full((*size, 2), UNKNOWN_LOG_VARIANCE, np.float32)
    return {"flow": flow, "log_variance": unknown, "logits": np.zeros_like(unknown)}
