"""The plots: what their lines show, read back from Matplotlib."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from tfdense.evaluation.plots import plot_reliability, plot_sparsification
from tfdense.images import read_image


@pytest.fixture
def figures(monkeypatch):
    """The figures that are written."""
    figures, write = [], Figure.savefig

    def savefig(figure, *arguments, **options):
        figures.append(figure)
        write(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def labels(figure):
    (legend,) = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    return [text.get_text() for text in legend.get_texts()]


def test_sparsification(tmp_path, figures):
    curves = {"confidence": [1, 0.5, 0], "forward_backward": [1, 0.8, 0], "oracle": [1, 0.1, 0]}
    areas = {"confidence": 0.2, "forward_backward": 0.35}
    plot_sparsification(tmp_path / "a.png", "points", curves | {"p_3": [1, 0, 0]}, areas)
    (axes,) = figures[0].axes
    for line, curve in zip(axes.get_lines(), curves.values(), strict=True):
        np.testing.assert_allclose(line.get_xydata(), np.stack([[0, 50, 100], curve], axis=-1))
    assert labels(figures[0])[1] == "forward-backward error, AUSE 0.350"
    assert read_image(tmp_path / "a.png").std() > 10


def test_reliability(tmp_path, figures):
    # Of 4 bins: none, 100 pixels at 0.3 of which half are right, too few, 100 at 0.9, all right.
    counts = np.array([[0, 0, 0], [100, 30, 50], [9, 6, 0], [100, 90, 100]], float)
    others = np.array([[0, 0, 0], [0, 0, 0], [0, 0, 0], [50, 45, 40]], float)
    plot_reliability(
        tmp_path / "a.png",
        "points",
        {"1": counts.tolist(), "3": others.tolist(), "5": others.tolist()},
        {"1": 0.125, "3": 0.1, "5": 0.1},
    )
    upper, lower = figures[0].axes
    _, first, second, _ = upper.get_lines()
    np.testing.assert_allclose(first.get_xydata(), [[0.3, 0.5], [0.9, 1.0]])
    np.testing.assert_allclose(second.get_xydata(), [[0.9, 0.8]])
    shares = lower.patches[0].get_data()
    np.testing.assert_allclose(shares.values, 100 * counts[:, 0] / 209)
    np.testing.assert_allclose(shares.edges, [0, 0.25, 0.5, 0.75, 1])
    assert labels(figures[0])[1] == "P_1, calibration error 0.125"
    assert read_image(tmp_path / "a.png").std() > 10
