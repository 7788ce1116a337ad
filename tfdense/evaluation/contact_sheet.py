"""One picture of the pairs that a network does worst on."""

import heapq
import itertools

import cv2
import numpy as np

from tfdense import visualize
from tfdense.canvas import fit, framed, row, stack, text_line, titled
from tfdense.evaluation import metrics
from tfdense.evaluation.measuring import Measurement
from tfdense.evaluation.pairs import EvaluationPair
from tfdense.results.match import Match

_ROWS = 8
_HEADINGS = ("Source", "Target", "Warped source", "Error", "Confidence")
_BOX = 240, 180
# What a pair is judged by: the first of these that it has. Name, how it is written.
_BADNESS = (
    ("aepe", "AEPE {:.2f} px"),
    ("pose_error", "pose error {:.1f} degrees"),
    ("unmatched_p_1", "mean P_1 {:.3f}, where nothing matches"),
)
# The errors, in px, that may be shown in the brightest colour. All but 5 % of a pair's are smaller.
_SCALES = (1, 2, 5, 10, 20, 50, 100)
_SHOWN = 95
# Fewer points of a pair than this share of its pixels are drawn as discs.
_SPARSE = 0.05
_DISC = 0.012


class ContactSheet:
    """Collects the worst pairs and draws them, the worst first."""

    def __init__(self):
        self._rows = []
        self._counter = itertools.count()  # Pictures cannot be compared where two are as bad.

    def consider(self, pair: EvaluationPair, match: Match, measurement: Measurement) -> None:
        """Takes a pair if it is among the worst so far."""
        name, text = next(item for item in _BADNESS if item[0] in measurement.values)
        badness = measurement.values[name]
        if len(self._rows) == _ROWS and badness <= self._rows[0][0]:
            return
        drawn = _draw(pair, match, text.format(badness))
        heapq.heappush(self._rows, (badness, next(self._counter), drawn))
        if len(self._rows) > _ROWS:
            heapq.heappop(self._rows)

    def picture(self) -> np.ndarray:
        """Returns the contact sheet, uint8 [height, width, 3]."""
        headings = row([text_line(heading, _BOX[0]) for heading in _HEADINGS])
        rows = [drawn for _, _, drawn in sorted(self._rows, key=lambda item: -item[0])]
        note = "Error: black 0, yellow as stated above it or more, grey not known. "
        note += "Confidence: dark blue 0, yellow 1."
        return framed(stack([headings, *rows, text_line(note, headings.shape[1])]))


def _draw(pair: EvaluationPair, match: Match, figure: str) -> np.ndarray:
    errors = metrics.endpoint_error(metrics.sample(match.flow, pair.points), pair.true_flow)
    title, scale = f"{pair.name}: {figure}", 1
    if len(errors):
        most = np.percentile(errors, _SHOWN)
        scale = next((scale for scale in _SCALES if scale >= most), _SCALES[-1])
        title += f"; error in yellow: {scale} px"
    images = (
        pair.source,
        pair.target,
        match.warp(),
        visualize.error_color(_error_image(pair, errors), scale),
        visualize.confidence_color(match.confidence),
    )
    return titled(row([fit(image, _BOX)[0] for image in images]), title)


def _error_image(pair: EvaluationPair, errors: np.ndarray) -> np.ndarray:
    """Returns the errors in px at the target's size, NaN where the true flow is not known."""
    height, width = pair.target.shape[:2]
    image = np.full((height, width), np.nan, np.float32)
    places = np.clip(np.rint(pair.points).astype(int), 0, [width - 1, height - 1])
    if len(places) >= _SPARSE * height * width:
        image[places[:, 1], places[:, 0]] = errors
        return image
    radius = max(2, round(_DISC * max(height, width)))
    for place, error in zip(places.tolist(), errors.tolist(), strict=True):
        cv2.circle(image, place, radius, error, -1)
    return image
