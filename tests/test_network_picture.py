"""The graph that is drawn of pdcnet-lite is pdcnet-lite."""

import importlib.util
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tfdense.config import ModelConfig
from tfdense.models import build

_SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "network_picture.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(_SCRIPT.stem, _SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("passes", [0, 1])
def test_the_graph_answers_as_the_network(script, passes):
    options = {"decoder_channels": [[8, 8]] * 3, "radius": 1, "refinement_passes": passes}
    network = build(ModelConfig("pdcnet-lite", options), backbone_weights=False)
    images = np.random.default_rng(0).uniform(0, 255, (2, 1, 64, 64, 3)).astype(np.float32)
    pair = dict(zip(("source", "target"), images, strict=True))
    expected, answer = network(pair), script.in_steps(network, 64)(pair)
    assert list(answer) == ["flow", "log_variance", "logits"]
    for name, value in answer.items():
        np.testing.assert_array_equal(value, expected[name])


@pytest.mark.slow
def test_it_is_drawn(script, tmp_path):
    pytest.importorskip("pydot")
    if shutil.which("dot") is None:
        pytest.skip("there is no Graphviz")
    script.draw(tmp_path / "a.png")
    drawn, shown = (cv2.imread(str(path)) for path in (tmp_path / "a.png", script.PICTURE))
    # Fonts differ from machine to machine.
    np.testing.assert_allclose(drawn.shape, shown.shape, rtol=0.3)
    assert drawn.min() == 0 and drawn.max() == 255
