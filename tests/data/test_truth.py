"""Ground truth of one's own: brought to squares, held out, mixed with warped photos by shares."""

import cv2
import numpy as np
import pytest

from tfdense.config import load_config
from tfdense.data import training_pairs, validation_pairs
from tfdense.data.pipeline import nested_shares
from tfdense.data.truth import TruePairs, View, make_pair, split_truth
from tfdense.errors import InputError
from tfdense.evaluation.pairs import EvaluationPair, UnreadPair, dense_pair, homography_pair
from tfdense.images import write_image

_SIZE = 32
_WHOLE = View(None, 0.0, visible=True)


def _picture(height=60, width=80):
    noise = np.random.default_rng(0).uniform(0, 255, (height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return np.clip(127 + 6 * (smooth - 127), 0, 255).astype(np.uint8)


def _shifted(dx, dy):
    """A picture, as source and target: target(x, y) shows source(x + dx, y + dy)."""
    source = _picture()
    matrix = np.float32([[1, 0, -dx], [0, 1, -dy]])
    target = cv2.warpAffine(source, matrix, source.shape[1::-1], borderMode=cv2.BORDER_REFLECT)
    return source, target


def _warped(made):
    grid = np.stack(np.meshgrid(np.arange(_SIZE), np.arange(_SIZE)), axis=-1)
    return cv2.remap(made["source"], np.float32(grid + made["flow"]), None, cv2.INTER_LINEAR)


def _assert_explains(made, share):
    """Where the flow is ground truth, the warped source shows the target."""
    known = made["mask"] > 0
    assert known.mean() > share
    assert np.abs(_warped(made) - made["target"])[known].mean() < 3
    assert np.abs(made["source"] - made["target"])[known].mean() > 9
    assert not (made["unmatched"] * made["mask"]).any()


@pytest.mark.parametrize("mirror", [0.0, 1.0])
@pytest.mark.parametrize("share", [(0.6, 0.6), (1.0, 1.0)])
def test_flow_is_cut_out_with_its_images(share, mirror):
    source, target = _shifted(6, -4)
    flow = np.broadcast_to(np.float32([6, -4]), (60, 80, 2))
    pair = dense_pair("a", source, target, flow, np.ones((60, 80), bool))
    for seed in range(4):
        made = make_pair(pair, View(share, mirror, True), _SIZE, np.random.default_rng(seed))
        _assert_explains(made, 0.5)
        scale = _SIZE / (60 * share[0])
        expected = np.array([-6 if mirror else 6, -4]) * scale
        np.testing.assert_allclose(
            made["flow"][made["mask"] > 0], [expected] * made["mask"].sum().astype(int), rtol=1e-5
        )
        assert made["unmatched"].any()  # what leaves the square


def test_flow_is_not_averaged_over_its_edges():
    flow = np.zeros((60, 80, 2), np.float32)
    flow[:, 37:] = 5
    known = np.ones((60, 80), bool)
    known[10:20] = False
    pair = dense_pair("a", *_shifted(0, 0), flow, known)
    made = make_pair(pair, View((0.9, 0.9), 0.0, False), _SIZE, np.random.default_rng(0))
    values = np.unique(made["flow"][made["mask"] > 0].round(4))
    np.testing.assert_allclose(values, [0, 5 * _SIZE / 54], rtol=1e-4)
    assert 0.7 < made["mask"].mean() < 0.9


def test_homography_is_exact_at_every_pixel():
    homography = np.array([[0.9, 0.1, 5.0], [-0.08, 1.1, 1.0], [1e-3, 0.0, 1.0]])
    source = _picture()
    # OpenCV's map leads from target to source too.
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    target = cv2.warpPerspective(source, homography, (70, 50), flags=flags)
    made = make_pair(
        homography_pair("a", source, target, homography), _WHOLE, _SIZE, np.random.default_rng(0)
    )
    _assert_explains(made, 0.4)
    # Both images were padded to 80x60 px; (10, 20) of the result is this place of the target.
    x, y = (np.array([10, 20]) + 0.5) * [80 / _SIZE, 60 / _SIZE] - 0.5
    u, v, w = homography @ [x, y, 1]
    match = (np.array([u / w, v / w]) + 0.5) * [_SIZE / 80, _SIZE / 60] - 0.5
    np.testing.assert_allclose(made["flow"][20, 10], match - [10, 20], rtol=1e-5)
    assert not made["mask"][:, 29:].any()  # beyond the target's own 70 px


def test_single_matches_have_their_weights():
    points = np.array([[4.3, 8.0], [40.0, 30.0], [79.0, 2.0]])
    flow = np.array([[8.0, 4.0], [2.0, -6.0], [30.0, 0.0]])
    weights = np.array([1.0, 0.25, 1.0])
    pair = EvaluationPair("a", *_shifted(0, 0), points, flow, weights=weights)
    made = make_pair(pair, _WHOLE, _SIZE, np.random.default_rng(0))
    rows, columns = np.nonzero(made["mask"])
    assert made["mask"][rows, columns].tolist() == [1.0, 0.25]
    scale = [_SIZE / 80, _SIZE / 60]
    np.testing.assert_allclose(made["flow"][rows, columns], flow[:2] * scale, rtol=1e-5)
    expected = np.rint((points[:2] + 0.5) * scale - 0.5)
    np.testing.assert_array_equal(np.stack([columns, rows], axis=-1), expected)
    assert made["unmatched"].sum() == 1  # the third leads out of the source


def _unread(names, scenes=None):
    pair = dense_pair("a", *_shifted(1, 0), np.ones((60, 80, 2)), np.ones((60, 80), bool))
    scenes = scenes or [""] * len(names)
    return [UnreadPair(n, lambda: pair, s) for n, s in zip(names, scenes, strict=True)]


def test_scenes_are_held_out_whole():
    pairs = _unread([f"{i}" for i in range(40)], [f"scene{i // 4}" for i in range(40)])
    kept, held_out = split_truth(pairs, 0.2)
    assert len(held_out) == 8 and len(kept) == 32
    assert not {pair.scene for pair in kept} & {pair.scene for pair in held_out}
    kept, held_out = split_truth(pairs[:4], 0.05)  # of one scene
    assert (len(kept), len(held_out)) == (3, 1)
    assert split_truth(pairs[:1], 0.05) == (pairs[:1], pairs[:1])


def test_every_epoch_takes_every_pair_and_skips_broken_ones(caplog):
    def broken():
        raise InputError("it is broken")

    names = [f"pair{i}" for i in range(5)]
    pairs = TruePairs([*_unread(names[:4]), UnreadPair(names[4], broken)], _WHOLE, _SIZE, 0)
    orders = [tuple(pairs.epoch(epoch)) for epoch in range(3)]
    assert all(sorted(order) == list(range(5)) for order in orders) and len(set(orders)) == 3
    for number in range(5):
        assert pairs.load(number)["mask"].any()
    assert "pair4: it is broken" in caplog.text
    with pytest.raises(InputError, match="None of the 1 pairs of the ground truth can be read"):
        TruePairs([UnreadPair("a", broken)], _WHOLE, _SIZE, 0)


@pytest.fixture
def folder(tmp_path):
    """Three pairs of each group, in the own layouts; the blue channel tells the group."""
    for group, blue in (("flow", 50), ("homographies", 100), ("matches", 200)):
        for number in range(3):
            pair = tmp_path / group / f"pair{number}"
            image = _picture()
            image[..., 2] = blue
            for name in ("source", "target"):
                write_image(pair / f"{name}.png", image)
            if group == "flow":
                np.save(pair / "flow.npy", np.zeros((60, 80, 2), np.float32))
            elif group == "homographies":
                (pair / "H_target_to_source.txt").write_text("1 0 0\n0 1 0\n0 0 1\n")
            else:
                (pair / "points.txt").write_text("10 10 10 10\n20 20 20 20\n")
    return tmp_path


def _config(folder, **shares):
    options = ["data.size=32", "data.photometry.probability=0", "data.unrelated=0"]
    options += ["loss.resolution=full", "data.objects.probability=0"]
    for group, share in shares.items():
        options += [f"data.{group}.folder={folder / group}", f"data.{group}.share={share}"]
    return load_config(None, options)


@pytest.mark.parametrize("shares", [(0.5,), (0.5, 0.5), (0.2, 0.3, 0.4), (0.0, 1.0), (1.0, 0.0)])
def test_shares_are_of_all_pairs(shares):
    left, found = 1.0, []
    for share in reversed(nested_shares(list(shares))):
        found.append(left * share)
        left *= 1.0 - share
    np.testing.assert_allclose(found[::-1], shares, atol=1e-12)


def test_pairs_are_of_all_sources(folder):
    config = _config(folder, flow=0.3, homographies=0.3, matches=0.3)
    (batch,) = training_pairs(config.data, 24, seed=0).take(1)
    target = batch["target"].numpy()[:, :20, :20, 2]
    is_flat = target.std(axis=(1, 2)) < 1
    kinds = np.where(is_flat, target.mean(axis=(1, 2)).round(), -1)
    assert set(kinds) == {50, 100, 200, -1}


def test_validation_takes_what_is_held_out_by_turns(folder):
    config = _config(folder, flow=0.5, matches=0.5)
    (batch,) = validation_pairs(config.data, 4, count=4, seed=0)
    blue = batch["target"].numpy()[:, :20, :20, 2].mean(axis=(1, 2)).round()
    assert blue.tolist() == [50, 200, 50, 200]
    assert (batch["mask"].numpy() > 0).sum(axis=(1, 2)).tolist() == [1024, 2, 1024, 2]


def test_shares_and_losses_that_do_not_fit():
    folders = ["data.flow.folder=a", "data.homographies.folder=b"]
    with pytest.raises(InputError, match=r"add up to 1 at most, are flow 0.7, homographies 0.5"):
        load_config(None, [*folders, "data.flow.share=0.7"])
    with pytest.raises(InputError, match=r"loss\.resolution should be full with data\.matches"):
        load_config(None, ["data.matches.folder=a"])
