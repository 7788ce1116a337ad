"""What the tests share."""

import contextlib
import resource
import sys
import types
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
def own_preset():
    """Makes a class a preset, as long as the context that it returns."""
    from tfdense.networks import PRESETS, Preset

    @contextlib.contextmanager
    def make(name, network):
        module = types.ModuleType(f"tfdense.models.{name}")
        setattr(module, network.__name__, network)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, module.__name__, module)
            patch.setitem(PRESETS, name, Preset(f"{name}:{network.__name__}", {}))
            yield

    return make


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


@pytest.fixture
def shifts():
    """A backend that finds by how much two images are shifted, if that is at most `reach` px."""
    import cv2

    from tfdense.mixture import LaplaceMixture

    class Shifts:
        mixture = LaplaceMixture(maximum_variance=1e4)

        def __init__(self, reach=1000.0):
            self.reach, self.runs = reach, 0

        def working_size(self, height, width):
            return height, width

        def run(self, source, target):
            self.runs += 1
            grey = (
                cv2.cvtColor(x, cv2.COLOR_RGB2GRAY).astype(np.float32) for x in (target, source)
            )
            window = cv2.createHanningWindow(target.shape[1::-1], cv2.CV_32F)
            flow, response = cv2.phaseCorrelate(*grey, window)
            found = response > 0.4 and max(map(abs, flow)) <= self.reach
            size = target.shape[:2]
            return {
                "flow": np.full((*size, 2), flow, np.float32),
                "log_variance": np.full((*size, 2), (-2.0, 9.0), np.float32),
                "logits": np.full((*size, 2), (9.0 if found else -9.0, 0.0), np.float32),
            }

    return Shifts


@pytest.fixture
def backend(shifts, monkeypatch):
    """Stands in for the network of commands."""
    from tfdense import matcher as matchers

    backend = shifts()
    monkeypatch.setattr(matchers, "load", lambda *use: matchers.Matcher(backend))
    return backend
