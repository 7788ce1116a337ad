"""What the tests share."""

import contextlib
import resource
from pathlib import Path

import numpy as np
import pytest

_REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference"


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of reference vectors that the original network computed."""
    if not (_REFERENCE / "README.json").is_file():
        pytest.skip(f"the reference vectors are not at {_REFERENCE}")
    return _REFERENCE


@pytest.fixture(scope="session")
def texture():
    """Makes float32 images [height, width, 3] of noise at several scales, in colour."""
    import cv2  # which the environment of the tests against TensorFlow Addons lacks

    def make(height, width, seed=0):
        generator = np.random.default_rng(seed)
        image = sum(
            cv2.GaussianBlur(generator.normal(size=(height, width, 3)), (0, 0), scale) * scale
            for scale in (1.5, 4, 10)
        )
        return np.clip(128 + 90 * image / image.std(), 0, 255).astype(np.float32)

    return make


@pytest.fixture
def full_disk():
    """A context in which no file grows beyond 1000 bytes: to a program, much as on a full disk.

    It ends before the test does: pytest itself may write to a file.
    """

    @contextlib.contextmanager
    def limit():
        former = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, former[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, former)

    return limit
