"""The network with the weights behind the reference vectors."""

import functools
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfdense.converting import assign_weights
from tfdense.models.pdcnet import PDCNet

_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Runs a test marked ``without_onednn`` in a process of its own, where oneDNN is off."""
    if not pyfuncitem.get_closest_marker("without_onednn") or os.environ.get(_ONEDNN) == "0":
        return None
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:xdist", "-m", "", pyfuncitem.nodeid],
        cwd=pyfuncitem.config.rootpath,
        env=os.environ | {_ONEDNN: "0"},
        capture_output=True,
        text=True,
    )
    if run.returncode:
        pytest.fail(f"{run.stdout}\n{run.stderr}", pytrace=False)
    return True


@functools.cache
def _state_dict(reference: Path, name: str) -> dict[str, np.ndarray]:
    make_all = runpy.run_path(str(reference / "make_weights.py"))["make_all"]
    return make_all(reference / f"{name}.json")


@pytest.fixture(scope="session")
def state_dict(reference):
    """Returns the weights of ``pdcnet`` or ``pdcnet-plus`` by the authors' names."""

    def get(preset="pdcnet"):
        names = {"pdcnet": "state_dict", "pdcnet-plus": "state_dict_plus"}
        return _state_dict(reference, names[preset])

    return get


@pytest.fixture(scope="session")
def reference_network(state_dict):
    """Builds the network with the reference weights."""

    def make(preset="pdcnet", **options):
        network = PDCNet(separate_pyramids=preset == "pdcnet-plus", **options)
        assign_weights(network, state_dict(preset))
        return network

    return make


@pytest.fixture(scope="session")
def load_vectors(reference):
    """Loads a file of vectors; [batch, channels, height, width] becomes channels-last."""

    def load(name):
        with np.load(reference / f"{name}.npz") as arrays:
            return {key: _channels_last(arrays[key]) for key in arrays.files}

    return load


def _channels_last(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
