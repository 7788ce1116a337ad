"""Draws how well a confidence ranks the errors, and how honest it is as a probability."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfdense.files import replacing

_DOTS_PER_INCH = 120
# Of Okabe and Ito, told apart by the colour-blind too.
_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
_CURVES = (
    ("confidence", "confidence of the network", _BLUE, "-"),
    ("forward_backward", "forward-backward error", _ORANGE, "-"),
    ("oracle", "true error (best possible)", _GREY, "--"),
)
# Bins of fewer pixels, or of a smaller share of them, tell more of chance than of the network.
_FEWEST, _SMALLEST_SHARE = 10, 1e-3
_RADIUS_COLORS = {"1": _BLUE, "3": _ORANGE, "5": _GREEN}


def plot_sparsification(
    path: Path, title: str, curves: dict[str, Sequence[float]], areas: dict[str, float]
) -> None:
    """Draws the error of the pixels kept against the share removed.

    Args:
        path: of the picture to write.
        title: above it.
        curves: ``sparsification`` of `tfdense.evaluation.summary.summarize`.
        areas: AUSE, by the same names.
    """
    figure, axes = _figure(title, width=6.4)
    for name, label, color, style in _CURVES:
        curve = curves[name]
        if name in areas:
            label = f"{label}, AUSE {areas[name]:.3f}"
        axes.plot(np.linspace(0, 100, len(curve)), curve, style, color=color, label=label)
    axes.set(
        xlabel="pixels removed, least certain first (%)",
        ylabel="AEPE of the pixels kept / AEPE of all",
        xlim=(0, 100),
        ylim=(0, None),
    )
    axes.legend(frameon=False)
    _save(figure, path)


def plot_reliability(
    path: Path, title: str, counts: dict[str, Sequence], errors: dict[str, float]
) -> None:
    """Draws how often the flow is right against how probable it was said to be.

    Below it stands how the pixels are distributed. Bins of fewer than ten of them,
    or less than 0.1 %, are left out.

    Args:
        path: of the picture to write.
        title: above it.
        counts: ``reliability`` of `tfdense.evaluation.summary.summarize`.
        errors: the expected calibration error, by the same keys.
    """
    figure, (upper, lower) = _figure(
        title, width=5.6, height=7.6, rows=2, sharex=True, height_ratios=(4, 1)
    )
    upper.plot([0, 1], [0, 1], "--", color=_GREY, linewidth=1, label="as stated")
    for radius, color in _RADIUS_COLORS.items():
        number, confidence, correct = np.asarray(counts[radius], float).T
        seen = number >= max(_FEWEST, _SMALLEST_SHARE * number.sum())
        label = f"P_{radius}, calibration error {errors[radius]:.3f}"
        stated, observed = (sums[seen] / number[seen] for sums in (confidence, correct))
        upper.plot(stated, observed, "o-", color=color, markersize=4, label=label, clip_on=False)
        edges = np.linspace(0, 1, len(number) + 1)
        lower.stairs(100 * number / number.sum(), edges, color=color, linewidth=1.5)
    upper.set(ylabel="share of pixels within R px of the truth", ylim=(0, 1), xlim=(0, 1))
    lower.set(xlabel="stated probability P_R", ylabel="pixels (%)", ylim=(0, None))
    figure.legend(frameon=False, loc="outside lower center", ncols=2)
    _save(figure, path)


def _figure(
    title: str, width: float, height: float = 4.4, rows: int = 1, **layout
) -> tuple[Figure, Axes | np.ndarray]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, 1, **layout)
    figure.suptitle(title, fontsize="large")
    for part in np.atleast_1d(axes):
        part.grid(color="#dddddd", linewidth=0.8)
        part.set_axisbelow(True)
        part.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DOTS_PER_INCH)
