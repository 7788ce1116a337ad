"""Matching many pairs: reading, resizing and enlarging go on while the network runs."""

import collections
import contextlib
import dataclasses
import itertools
import numbers
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np

from tfdense.checks import photo_to_match
from tfdense.errors import InputError, shown
from tfdense.images import Photo
from tfdense.inference.looks import Outputs
from tfdense.inference.resizing import resize_image
from tfdense.pairs.reusing import RecentlyUsed
from tfdense.progress import Progress
from tfdense.results.match import Match

Errors = Literal["raise", "return"]

# Of the photos that are kept in case they recur.
_MOST_BYTES = 2**29
_THREADS = min(4, os.cpu_count() or 1)
# So many batches of pairs are read ahead, and as many may wait for others of their size.
_BATCHES_AHEAD = 3


class Batches(NamedTuple):
    """How pairs are matched in batches.

    Attributes:
        working_size: gives the (height, width) at which a target of a height and width is seen.
        run: gives what the network answers for each of some sources and targets of that size.
        answer: makes a match of one such answer, source and target.
    """

    working_size: Callable[[int, int], tuple[int, int]]
    run: Callable[[list[np.ndarray], list[np.ndarray]], list[Outputs]]
    answer: Callable[[Outputs, Photo, Photo], Match]


class _Look(NamedTuple):
    """A source to be matched with a target; a pair matched both ways has two.

    Attributes:
        source, target: the photos.
        resized: both, as the network sees them; None if the pair is matched on its own.
    """

    source: Photo
    target: Photo
    resized: tuple[np.ndarray, np.ndarray] | None


def match_many(
    pairs: Iterable[tuple],
    match: Callable[[Photo, Photo], Match],
    batches: Batches | None,
    batch_size: int,
    both_ways: bool,
    errors: Errors,
    progress: bool,
) -> Iterator[Match]:
    """Matches pairs; see `tfdense.matcher.Matcher.match_many`.

    Args:
        match: matches one pair.
        batches: how to match several at once; None if that cannot be.
    """
    if not isinstance(batch_size, numbers.Integral) or batch_size < 1:
        raise InputError(f"Expected a batch size of at least 1. Received: {shown(batch_size)}")
    if not isinstance(pairs, Iterable):
        raise InputError(f"Expected pairs of (source, target). Received: {shown(pairs)}")
    if errors not in ("raise", "return"):
        raise InputError(f'Expected errors to be "raise" or "return". Received: {errors!r}')
    total = len(pairs) if hasattr(pairs, "__len__") else None
    return _counted(_matched(pairs, match, batches, batch_size, both_ways), errors, total, progress)


def _counted(
    matches: Generator[Match | Exception], errors: Errors, total: int | None, progress: bool
) -> Iterator[Match]:
    # Its threads end here, not when the memory is tidied up, which may be in one of them.
    with contextlib.closing(matches), Progress("pairs", total, shown=progress) as shown:
        for match in matches:
            if isinstance(match, Exception) and errors == "raise":
                raise match
            shown.advance()
            yield match


def _matched(pairs, match, batches, batch_size, both_ways) -> Generator[Match | Exception]:
    """Yields the match of each pair, or the error that it met, in their order."""
    waiting = _BATCHES_AHEAD * batch_size
    groups: dict[tuple, list] = collections.defaultdict(list)
    done: dict[int, list[Future]] = {}
    following = 0
    with ThreadPoolExecutor(_THREADS) as pool:

        def run(size: tuple | None) -> None:
            """Matches what waits for others of its size."""
            numbers, ways, looks = zip(*groups.pop(size), strict=True)
            for number, way, result in zip(
                numbers, ways, _run(pool, match, batches, looks), strict=True
            ):
                done[number][way] = result

        prepared = _ahead(pool, pairs, batches, both_ways, waiting)
        try:
            for number, looks in enumerate(prepared):
                failed = isinstance(looks, Exception)
                done[number] = [_finished(looks)] if failed else [None] * len(looks)
                for way, look in enumerate(() if failed else looks):
                    size = None if look.resized is None else look.resized[0].shape
                    groups[size].append((number, way, look))
                    if size is None or len(groups[size]) >= batch_size:
                        run(size)
                if number - following >= waiting:
                    for size in [s for s, group in groups.items() if group[0][0] == following]:
                        run(size)
                while following in done and (
                    number - following >= waiting or _is_done(done[following])
                ):
                    yield _joined(done.pop(following))
                    following += 1
            for size in list(groups):
                run(size)
            for results in done.values():
                yield _joined(results)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run(pool, match, batches, looks) -> list[Future]:
    """Matches pairs of one size."""
    try:
        if looks[0].resized is None:
            return [_finished(match(look.source, look.target)) for look in looks]
        outputs = batches.run(*map(list, zip(*(look.resized for look in looks), strict=True)))
    except Exception as error:  # Whatever it is, it is that of these pairs.
        return [_finished(error)] * len(looks)
    return [
        pool.submit(batches.answer, each, look.source, look.target)
        for each, look in zip(outputs, looks, strict=True)
    ]


def _is_done(results: list[Future | None]) -> bool:
    return all(result is not None and result.done() for result in results)


def _joined(results: list[Future]) -> Match | Exception:
    try:
        match, *reverse = (result.result() for result in results)
    except Exception as error:
        return error
    return dataclasses.replace(match, reverse=reverse[0]) if reverse else match


def _finished(result: Match | Exception) -> Future:
    future = Future()
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
    return future


def _ahead(pool, pairs, batches, both_ways, count) -> Iterator[list[_Look] | Exception]:
    """Reads and resizes the images of pairs, some pairs ahead.

    Yields:
        What there is to match of each, or the error that it met.
    """
    photos = RecentlyUsed(_MOST_BYTES, _bytes_of)
    # Errors of the iteration itself are raised: nothing is known of the pairs after it.
    pairs = iter(pairs)
    read = collections.deque()

    def read_pair(pair) -> None:
        try:
            images = list(zip(("source", "target"), pair, strict=True))
        except (TypeError, ValueError):
            read.append(_finished(InputError(f"Expected (source, target). Received: {pair!r:.80}")))
            return
        # A thread that waits for a photo takes the place of none that reads it: these began before.
        futures = [photo(role, image) for role, image in images]
        read.append(pool.submit(_looks, *futures, batches, both_ways))

    def photo(role, image) -> Future:
        def start() -> Future:
            return pool.submit(photo_to_match, role, image)

        if isinstance(image, (str, os.PathLike)):
            return photos.get(os.fspath(image), start)
        if isinstance(image, np.ndarray):
            image = image.copy()  # The caller may write over it, such as a buffer of frames.
        return start()

    for pair in itertools.islice(pairs, count):
        read_pair(pair)
    while read:
        first = read.popleft()
        for pair in itertools.islice(pairs, 1):
            read_pair(pair)
        try:
            result = first.result()
        except Exception as error:
            result = error
        yield result


def _looks(source: Future, target: Future, batches: Batches | None, both_ways: bool) -> list[_Look]:
    photos = source.result(), target.result()
    ways = (photos, photos[::-1]) if both_ways else (photos,)
    return [_Look(*way, _resized(batches, *way)) for way in ways]


def _resized(batches: Batches | None, source: Photo, target: Photo) -> tuple | None:
    if batches is None or source.mask is not None or target.mask is not None:
        return None
    size = batches.working_size(*target.pixels.shape[:2])
    return resize_image(source.pixels, size), resize_image(target.pixels, size)


def _bytes_of(photo: Future) -> int:
    if not photo.done() or photo.cancelled() or photo.exception():
        return 0
    return photo.result().pixels.nbytes
