"""Many pairs give what each of them gives alone, whatever is read, kept and run together."""

import itertools

import numpy as np
import pytest

from tfdense.config import ModelConfig
from tfdense.errors import InputError
from tfdense.images import write_image
from tfdense.inference.backends import KerasBackend
from tfdense.matcher import Matcher
from tfdense.models import build
from tfdense.pairs.reusing import RecentlyUsed


class CountedBackend(KerasBackend):
    """Counts the images whose features are computed."""

    seen = 0

    def features(self, images):
        self.seen += len(images)
        return super().features(images)


@pytest.fixture(scope="module", params=["pdcnet-lite", "pwc-unet"])
def backend(request):
    options = {"refinement_passes": 1} if request.param == "pdcnet-lite" else {}
    model = build(ModelConfig(request.param, options), backbone_weights=False)
    return CountedBackend(model, max_side=64)


@pytest.fixture(scope="module")
def files(tmp_path_factory, texture):
    """Files of two sizes by turns."""
    paths = []
    for seed, size in enumerate(((64, 96), (90, 60), (64, 96), (90, 60))):
        paths.append(tmp_path_factory.mktemp("images") / f"{seed}.png")
        write_image(paths[-1], texture(*size, seed).astype(np.uint8))
    return paths


@pytest.mark.parametrize("batch_size", [1, 3])
def test_each_pair_as_alone_and_in_order(backend, files, batch_size):
    matcher = Matcher(backend)
    pairs = list(itertools.permutations(files, 2))
    matches = list(matcher.match_many(pairs, batch_size=batch_size))
    assert len(matches) == len(pairs)
    for pair, match in zip(pairs, matches, strict=True):
        alone = matcher.match(*pair)
        np.testing.assert_allclose(match.flow, alone.flow, atol=0.02)
        np.testing.assert_allclose(match.confidence, alone.confidence, atol=1e-3)
        np.testing.assert_array_equal(match.source, alone.source)
        np.testing.assert_array_equal(match.target, alone.target)


def test_features_are_computed_once_for_each_image_and_size(backend, files):
    backend.seen = 0
    list(Matcher(backend).match_many(list(itertools.permutations(files, 2))))
    # Each of four images is seen at both sizes, if the network takes both: the target's counts.
    sizes = {backend.working_size(*size) for size in ((64, 96), (90, 60))}
    assert backend.seen == 4 * len(sizes)


def test_both_ways(backend, files):
    matcher, pairs = Matcher(backend), [(files[0], files[1]), (files[2], files[0])]
    for pair, match in zip(pairs, matcher.match_many(pairs, 2, both_ways=True), strict=True):
        alone = matcher.match(*pair, both_ways=True)
        np.testing.assert_allclose(match.reverse.flow, alone.reverse.flow, atol=0.02)


def test_what_a_mode_or_a_mask_needs_is_matched_on_its_own(backend, files, texture):
    masked = np.dstack([texture(64, 96), np.full((64, 96), 255, np.float32)]).astype(np.uint8)
    masked[:, :30, 3] = 0
    path = files[0].with_name("masked.png")
    import cv2

    cv2.imwrite(str(path), masked)
    for matcher in (Matcher(backend), Matcher(backend, "multiscale", fill=True)):
        pairs = [(files[0], files[2]), (path, files[0])]
        for pair, match in zip(pairs, matcher.match_many(pairs), strict=True):
            np.testing.assert_allclose(match.flow, matcher.match(*pair).flow, atol=0.02)
    assert (matcher.match(files[0], path).confidence[:, :30] == 0).all()


def test_errors_take_the_place_of_matches_or_are_raised(shifts, files):
    matcher = Matcher(shifts())
    pairs = [(files[0], "absent.png"), (files[0], files[2]), (files[0],), (files[2], files[0])]
    matches = list(matcher.match_many(pairs, errors="return"))
    assert [isinstance(match, Exception) for match in matches] == [True, False, True, False]
    assert "absent.png" in str(matches[0])
    found = matcher.match_many(pairs[1:])
    next(found)
    with pytest.raises(InputError, match="source, target"):
        next(found)
    with pytest.raises(InputError, match="batch size"):
        matcher.match_many(pairs, batch_size=0)
    with pytest.raises(InputError, match=r"batch size of at least 1. Received: 1.5"):
        matcher.match_many(pairs, batch_size=1.5)
    with pytest.raises(InputError, match=r"pairs of \(source, target\). Received: None"):
        matcher.match_many(None)
    with pytest.raises(InputError, match="raise"):
        matcher.match_many(pairs, errors="ignore")
    with pytest.raises(InputError, match="radius"):
        matcher.match_many(pairs, radius=-1)


def test_an_array_may_be_written_over_once_it_is_given(shifts, texture):
    first, second = (texture(64, 96, seed).astype(np.uint8) for seed in (0, 1))
    buffer = np.empty_like(first)

    def pairs():
        for image in (first, second, first):
            buffer[:] = image
            yield buffer, first

    matches = list(Matcher(shifts()).match_many(pairs()))
    for match, source in zip(matches, (first, second, first), strict=True):
        np.testing.assert_array_equal(match.source, source)


def test_a_generator_is_read_a_few_pairs_ahead(shifts, texture):
    taken = 0

    def pairs():
        nonlocal taken
        while True:
            taken += 1
            yield texture(32, 32), texture(32, 32, 1)

    matches = Matcher(shifts()).match_many(pairs())
    for _ in range(5):
        next(matches)
    assert taken < 20
    matches.close()


def test_progress_is_shown_on_request(shifts, files, capsys):
    list(Matcher(shifts()).match_many([(files[0], files[2])] * 2, progress=True))
    assert "2/2 pairs" in capsys.readouterr().err
    list(Matcher(shifts()).match_many([(files[0], files[2])] * 2))
    assert not capsys.readouterr().err


def test_what_was_not_used_for_longest_goes_first():
    kept = RecentlyUsed(10, len)
    for key in "abca":
        kept.get(key, lambda key=key: key * 4)
    # c pushed out a, which came again and pushed out b.
    assert [key in kept for key in "abc"] == [True, False, True]
    assert kept.get("large", lambda: "x" * 99) == "x" * 99
    assert [key in kept for key in ("a", "c", "large")] == [False, False, True]
