"""Sequences of frames: which pairs they give, in which order, and what of them is refused."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tfdense.data import training_pairs
from tfdense.data.sequences import Sequences, find_sequences, make_frames
from tfdense.data_config import DataConfig, PhotometryConfig, SequencesConfig, WarpConfig
from tfdense.errors import InputError
from tfdense.images import write_image

_HEIGHT, _WIDTH, _SIZE, _SIDE = 40, 60, 32, 48
_STEP = 2  # px of motion between frames


def _write_frames(folder, count, seed, step=_STEP):
    """A smooth picture that moves to the left; its red channel tells sequence and frame."""
    noise = np.random.default_rng(seed).uniform(0, 255, [_HEIGHT, _WIDTH + 30, 3])
    wide = cv2.GaussianBlur(noise.astype(np.float32), (0, 0), 3)
    wide = np.clip(127 + 6 * (wide - 127), 0, 255).astype(np.uint8)
    folder.mkdir(parents=True)
    for number in range(count):
        frame = wide[:, step * number : step * number + _WIDTH].copy()
        frame[..., 0] = 40 * seed + number
        # Named so that the order of the letters is another: 8, 9, 10, 11.
        write_image(folder / f"frame{number + 8}.png", frame)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sequences of five and of four frames, and a folder of one."""
    root = tmp_path_factory.mktemp("videos")
    _write_frames(root / "a", 5, 1)
    _write_frames(root / "deep" / "b", 4, 2)
    _write_frames(root / "single", 1, 3)
    return root


def _drawn(sequences, numbers):
    """The red values (source, target) of pairs."""
    pairs = [sequences.load(number) for number in numbers]
    return [tuple(int(image[0, 0, 0]) for image in pair) for pair in pairs]


def _one(batch):
    return {name: value[0] for name, value in batch.items()}


def test_frames_are_in_the_order_of_their_numbers(folder):
    found = find_sequences(folder)
    names = [[path.name for path in sequence] for sequence in found]
    assert names == [[f"frame{i}.png" for i in range(8, 8 + count)] for count in (5, 4)]
    assert [path.parent for path, *_ in found] == [folder / "a", folder / "deep" / "b"]
    assert len(find_sequences(folder / "a")) == 1


@pytest.mark.parametrize("gap", [1, 2, 9])
def test_pairs_are_all_those_within_the_gap(folder, gap):
    sequences = Sequences(SequencesConfig(folder=str(folder), gap=gap), _SIDE, seed=0)
    assert len(sequences) == 9
    frames = [40 + i for i in range(5)] + [80 + i for i in range(4)]
    expected = {
        (a, b) for a in frames for b in frames if a // 40 == b // 40 and 0 < abs(a - b) <= gap
    }
    drawn = _drawn(sequences, range(360))
    assert set(drawn) == expected
    for epoch in range(3):
        assert sorted(target for _, target in drawn[9 * epoch : 9 * epoch + 9]) == frames
    orders = {tuple(target for _, target in drawn[9 * e : 9 * e + 9]) for e in range(4)}
    assert len(orders) == 4


def test_pairs_depend_on_seed_and_number_alone(folder):
    config = SequencesConfig(folder=str(folder), gap=3)
    first, again, other = (Sequences(config, _SIDE, seed) for seed in (0, 0, 1))
    expected = _drawn(first, range(20))
    assert _drawn(again, reversed(range(20))) == expected[::-1]
    assert _drawn(other, range(20)) != expected


def test_both_frames_are_cut_out_alike(folder):
    """Frames that differ by nothing but their motion stay so, at every scale and mirrored."""
    config = DataConfig(
        size=_SIZE,
        photometry=PhotometryConfig(probability=0.0),
        warp=WarpConfig(view=(0.5, 0.8)),
        sequences=SequencesConfig(folder=str(folder)),
    )
    sequences = Sequences(config.sequences, _SIDE, seed=0)
    motions = []
    for number in range(12):
        frames = sequences.load(number)
        pair = _one(make_frames(tf.constant(frames[None]), tf.constant([[5, number]]), config))
        motion = _STEP * (int(frames[1][0, 0, 0]) - int(frames[0][0, 0, 0]))
        # OpenCV's own search for where the middle of the target is in the source.
        template = pair["target"].numpy()[8:24, 8:24, 1:]
        found = cv2.matchTemplate(pair["source"].numpy()[..., 1:], template, cv2.TM_SQDIFF)
        assert cv2.minMaxLoc(found)[0] < 16 * 16 * 2 * 4**2
        x, y = cv2.minMaxLoc(found)[2]
        assert abs(y - 8) <= 1
        motions.append((x - 8) / motion)
        for name in ("flow", "mask", "unmatched"):
            assert not pair[name].numpy().any()
    # A view of 0.5 to 0.8 of 40 px is enlarged 1.0 to 1.6 times; mirrored, it moves the other way.
    assert 0.7 < np.abs(motions).min() < np.abs(motions).max() < 2.1
    assert min(motions) < 0 < max(motions)


def test_light_changes_in_both_frames_but_noise_in_each(tmp_path):
    frames = np.full([1, 2, _SIDE, _SIDE, 3], (150, 100, 90), np.uint8)
    for light in (
        PhotometryConfig(probability=1.0, noise=0.0),
        PhotometryConfig(probability=1.0, noise=1.0, jpeg=0.0, blur=0.0, shading=0.0),
    ):
        config = DataConfig(size=_SIZE, photometry=light)
        for number in range(4):
            pair = _one(make_frames(tf.constant(frames), tf.constant([[1, number]]), config))
            source, target = pair["source"].numpy(), pair["target"].numpy()
            if light.noise:
                assert np.corrcoef(source[..., 1].ravel(), target[..., 1].ravel())[0, 1] < 0.95
                assert (source != target).mean() > 0.9
                assert abs(source.mean() - target.mean()) < 3
            else:
                np.testing.assert_array_equal(source, target)
                assert np.abs(source.mean(axis=(0, 1)) - frames[0, 0, 0, 0]).max() > 1


def test_stream_mixes_and_resumes(folder):
    config = DataConfig(size=_SIZE, sequences=SequencesConfig(folder=str(folder), share=0.5))
    batches = list(training_pairs(config, 4, seed=3).take(6).as_numpy_iterator())
    resumed = list(training_pairs(config, 4, seed=3, start_step=4).take(2).as_numpy_iterator())
    for whole, later in zip(batches[4:], resumed, strict=True):
        assert whole.keys() == later.keys() == batches[0].keys()
        for name, value in whole.items():
            np.testing.assert_array_equal(value, later[name])
    frames = [
        not (mask.any() or flow.any())
        for b in batches
        for mask, flow in zip(b["mask"], b["flow"], strict=True)
    ]
    assert 6 <= sum(frames) <= 18


def test_unusable_frames_give_way(folder, tmp_path, caplog):
    """Of three frames one is broken and one of another size: none fits another."""
    _write_frames(tmp_path / "a", 3, 1)
    (tmp_path / "a" / "frame9.png").write_text("no picture")
    config = SequencesConfig(folder=str(tmp_path), gap=2)
    sequences = Sequences(config, _SIDE, seed=0)
    assert set(_drawn(sequences, range(12))) == {(40, 42), (42, 40)}
    assert sum("frame9.png" in record.message for record in caplog.records) == 1
    write_image(tmp_path / "a" / "frame8.png", np.zeros([50, 50, 3], np.uint8))
    with pytest.raises(InputError, match=r"No two frames of a sequence in .* differ in size"):
        Sequences(config, _SIDE, seed=0)


def test_what_is_no_sequence_is_named(tmp_path):
    with pytest.raises(InputError, match=r"missing, which is not a folder"):
        find_sequences(tmp_path / "missing")
    with pytest.raises(InputError, match="No images in"):
        find_sequences(tmp_path)
    for name in ("a", "b"):
        _write_frames(tmp_path / name, 1, 1)
    with pytest.raises(InputError, match=r"at least two frames each.*2 images in 2 folders"):
        find_sequences(tmp_path)
