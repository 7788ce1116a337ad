"""Readers of flows, disparities and homographies: .flo, .flo5, .npy, .npz, .pfm, KITTI's PNG."""

import io

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import strategies as st
from mutations import members_mutated, mutated, png_resealed, zipped
from oracle import evil_pickles, fuzz, small_answer

from tfdense.evaluation.truth_files import (
    read_flow_file,
    read_homography,
    read_numbers,
    read_pfm,
    read_raw,
)
from tfdense.flow_files import encode_flow

pytestmark = pytest.mark.fuzz

_FLOW = np.random.default_rng(0).normal(size=(5, 6, 2)).astype(np.float32)


def _saved(write, *arguments, **named) -> bytes:
    buffer = io.BytesIO()
    write(buffer, *arguments, **named)
    return buffer.getvalue()


def _pfm(values: np.ndarray) -> bytes:
    kind = "PF" if values.ndim == 3 else "Pf"
    header = f"{kind}\n# a line\n{values.shape[1]} {values.shape[0]}\n-1.0\n"
    return header.encode() + values.astype("<f4").tobytes()


def _hdf5(values, **options) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("flow", data=values, **options)
    return buffer.getvalue()


_KITTI = cv2.imencode(".png", np.full((5, 6, 3), 2**15, np.uint16))[1].tobytes()
_PARTS = {"u": _FLOW[..., 0], "v": _FLOW[..., 1]}
_OBJECTS = [_saved(np.save, np.array([{"a": 1}], object), allow_pickle=True)]
_OBJECTS += [_OBJECTS[0][:128] + each for each in evil_pickles()]
_SEEDS = {
    ".flo": [encode_flow(_FLOW)],
    ".pfm": [_pfm(np.dstack([_FLOW, _FLOW[..., 0]])), _pfm(_FLOW[..., 0])],
    ".flo5": [_hdf5(_FLOW), _hdf5(_FLOW, compression="gzip"), _hdf5(_FLOW, chunks=(2, 2, 2))],
    ".npy": [_saved(np.save, _FLOW), _saved(np.save, np.asfortranarray(_FLOW)), *_OBJECTS],
    ".npz": [_saved(np.savez, **_PARTS), _saved(np.savez_compressed, **_PARTS)],
    ".png": [_KITTI],
}
_NPZ = st.one_of(
    mutated(_SEEDS[".npz"]),
    members_mutated(_SEEDS[".npz"]),
    st.sampled_from([zipped({"u.npy": each, "v.npy": each}) for each in _OBJECTS]),
)


def _read(trial, suffix, content) -> None:
    path = trial.folder / f"flow{suffix}"
    path.write_bytes(content)
    flow, known = read_flow_file(path)
    small_answer(flow)
    assert flow.shape == (*known.shape, 2) and known.dtype == bool


@pytest.mark.parametrize("suffix", _SEEDS)
def test_the_seeds_are_whole(suffix, tmp_path):
    path = tmp_path / f"flow{suffix}"
    path.write_bytes(_SEEDS[suffix][0])
    assert read_flow_file(path)[0].shape == (5, 6, 2)


@fuzz(mutated(_SEEDS[".flo"]))
def test_flo(trial, content):
    _read(trial, ".flo", content)


@fuzz(mutated(_SEEDS[".pfm"]))
def test_pfm(trial, content):
    _read(trial, ".pfm", content)
    small_answer(read_pfm(trial.folder / "flow.pfm"))


@fuzz(mutated(_SEEDS[".flo5"]))
def test_flo5(trial, content):
    _read(trial, ".flo5", content)


@fuzz(mutated(_SEEDS[".npy"]))
def test_npy(trial, content):
    _read(trial, ".npy", content)


@fuzz(_NPZ)
def test_npz(trial, content):
    _read(trial, ".npz", content)


@fuzz(mutated([_KITTI]) | st.builds(png_resealed, mutated([_KITTI])))
def test_kitti(trial, content):
    _read(trial, ".png", content)
    small_answer(read_raw(trial.folder / "flow.png"))


@fuzz(mutated([b"1 0 2.5\n0 1 -3\n0 0 1\n", b"1 2 3 4\n5 6 7 8\n", b"\xef\xbb\xbf1 2 3"]))
def test_numbers(trial, content):
    path = trial.folder / "H.txt"
    path.write_bytes(content)
    small_answer(read_numbers(path, "rows of numbers", 3, 4))
    small_answer(read_homography(path))
