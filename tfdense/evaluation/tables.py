"""Results as tables: of one data set for the terminal, of several in Markdown."""

from collections.abc import Mapping, Sequence

from tfdense.errors import InputError

NETWORK = "network"
"""What the network is called among the methods."""

# Name of a value, heading in the table, decimals.
_COLUMNS = (
    ("aepe", "AEPE", 2),
    ("pck_1", "PCK-1", 1),
    ("pck_3", "PCK-3", 1),
    ("pck_5", "PCK-5", 1),
    ("pck_10", "PCK-10", 1),
    ("pck_rule", "PCK-rule", 1),
    ("fl", "Fl", 1),
    ("ause", "AUSE", 3),
    ("epipolar_precision", "epipolar", 1),
    ("seconds", "seconds", 3),
)
# Name of figures that not every method has, title, what stands before their keys, decimals.
_DETAILS = (
    ("corner_error_auc", "homography, corner error in px, AUC", "@", 1),
    ("pose_auc", "pose, error in degrees, exact AUC", "@", 1),
    ("pose_map", "pose, error in degrees, mAP in steps of 5", "@", 1),
    ("expected_calibration_error", "expected calibration error", "P_", 3),
)
_RANKINGS = (
    ("ause", "confidence"),
    ("ause_p_3", "P_3"),
    ("ause_p_5", "P_5"),
    ("ause_deviation", "deviation"),
    ("ause_forward_backward", "forward-backward error"),
)
# Figures of the Markdown tables: where they stand, heading, decimals, whether more is better.
_ACCURACY = (
    (("mean_over_pairs", "aepe"), "AEPE", 2, False),
    *(
        (("mean_over_pairs", f"pck_{threshold}"), f"PCK-{threshold}", 1, True)
        for threshold in (1, 3, 5, 10)
    ),
    (("mean_over_pairs", "pck_rule"), "PCK by its own rule", 1, True),
    *((("corner_error_auc", t), f"corner error AUC@{t} px", 1, True) for t in ("3", "5", "10")),
    *((("pose_auc", t), f"pose AUC@{t}°", 1, True) for t in ("5", "10", "20")),
    (("mean_over_pairs", "epipolar_precision"), "epipolar precision", 1, True),
)
_CONFIDENCE = (
    (("mean_over_pairs", "ause"), "AUSE", 3, False),
    (("mean_over_pairs", "ause_p_5"), "AUSE by P_5", 3, False),
    (("mean_over_pairs", "ause_forward_backward"), "AUSE, forward-backward error", 3, False),
    (("ause_ratio",), "AUSE / that of forward-backward error", 2, False),
    *((("expected_calibration_error", r), f"ECE P_{r}", 3, False) for r in ("1", "3", "5")),
    *((("unmatched", f"p_{r}"), f"mean P_{r}, no match", 3, False) for r in ("1", "5")),
)


def text_table(summary: dict[str, dict]) -> str:
    """Returns what `tfdense.evaluation.summary.summarize` gives as a table, methods as rows."""
    width = max(map(len, summary))
    known = {name for figures in summary.values() for name in figures["mean_over_pairs"]}
    columns = [column for column in _COLUMNS if column[0] in known]
    lines = [" ".join([" " * width, *(f"{heading:>8}" for _, heading, _ in columns)])]
    for method, figures in summary.items():
        values = figures["mean_over_pairs"]
        cells = (
            f"{values[name]:8.{decimals}f}" if name in values else " " * 8
            for name, _, decimals in columns
        )
        lines += [" ".join([method.ljust(width), *cells]).rstrip(), *_details(figures)]
    return "\n".join(lines)


def _details(figures: dict[str, dict]) -> list[str]:
    lines, values = [], figures["mean_over_pairs"]
    for name, title, prefix, decimals in _DETAILS:
        if name in figures:
            parts = (f"{prefix}{key} {value:.{decimals}f}" for key, value in figures[name].items())
            lines.append(f"  {title}: {', '.join(parts)}")
    if "ause_forward_backward" in values:
        parts = (f"{title} {values[name]:.3f}" for name, title in _RANKINGS)
        lines.append(f"  AUSE by {', '.join(parts)}")
        if "ause_ratio" in figures:
            lines[-1] += f"; first to last: {figures['ause_ratio']:.2f}"
        lines.append(f"  mean P_1: {values['mean_confidence']:.3f}")
    if "unmatched" in figures:
        of = figures["unmatched"]
        parts = (
            f"mean P_{r} {of[f'p_{r}']:.3f}, above 0.5 {of[f'p_{r}_above_half']:.1%}"
            for r in ("1", "5")
        )
        lines.append(f"  {of['pixels']} pixels without a match: {'; '.join(parts)}")
    return lines


def markdown_tables(results: Sequence[dict]) -> str:
    """Puts the results of several data sets side by side.

    Args:
        results: contents of ``results.json`` files, as `tfdense evaluate` writes them. A data set
            may occur several times, with different networks.

    Returns:
        Two tables with the figures of the data sets as rows and the methods as columns: the
        accuracy of all methods, the best of each row bold, and the confidence of networks.

    Raises:
        InputError: if the same data set was read from different folders or at different sizes.
    """
    sets: dict[str, dict[str, dict]] = {}
    origins: dict[str, dict] = {}
    networks: dict[str, None] = {}
    for result in results:
        _require_same_origin(origins.setdefault(result["dataset"], result), result)
        network = f"{result['model']} ({usage(result)})"
        for name, figures in result["methods"].items():
            if name == NETWORK:
                networks[name := network] = None
            sets.setdefault(result["dataset"], {})[name] = figures
    baselines = dict.fromkeys(name for methods in sets.values() for name in methods)
    methods = [*(name for name in baselines if name not in networks), *networks]
    tables = _markdown(sets, methods, _ACCURACY), _markdown(sets, list(networks), _CONFIDENCE)
    return "\n\n".join(table for table in tables if table)


def usage(result: Mapping) -> str:
    """Says how the network of a result was used; what older ones do not name was not."""
    words = {"fill": "filled", "tiles": "in tiles"}
    parts = [f"setting {result['setting']}"] if result.get("setting") else []
    parts += [result["mode"], *(word for name, word in words.items() if result.get(name))]
    return ", ".join(parts)


def _require_same_origin(first: dict, second: dict) -> None:
    for key in ("data", "max_side", "pairs"):
        if first[key] != second[key]:
            raise InputError(
                f"Expected all results of {first['dataset']} to have the same {key}. "
                f"Received: {first[key]} and {second[key]}"
            )


def _markdown(sets: dict[str, dict], methods: list[str], figures: Sequence) -> str:
    lines = []
    for dataset, measured in sets.items():
        for path, heading, decimals, more_is_better in figures:
            values = [_find(measured.get(name, {}), path) for name in methods]
            known = [round(value, decimals) for value in values if value is not None]
            if not known:
                continue
            best = max(known) if more_is_better else min(known)
            cells = [_cell(value, decimals, best if len(known) > 1 else None) for value in values]
            lines.append(f"| {' | '.join([dataset, heading, *cells])} |")
    if not lines:
        return ""
    header = f"| {' | '.join(['data set', 'figure', *methods])} |"
    return "\n".join([header, "|" + "---|" * (len(methods) + 2), *lines])


def _find(figures: dict, path: Sequence[str]) -> float | None:
    for key in path:
        figures = figures.get(key, {})
    return None if figures == {} else figures


def _cell(value: float | None, decimals: int, best: float | None) -> str:
    if value is None:
        return ""
    text = f"{value:.{decimals}f}"
    return f"**{text}**" if round(value, decimals) == best else text
