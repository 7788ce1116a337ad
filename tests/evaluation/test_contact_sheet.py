"""The picture of the worst pairs."""

import numpy as np

from tfdense import visualize
from tfdense.evaluation.contact_sheet import ContactSheet
from tfdense.evaluation.measuring import Measurement
from tfdense.evaluation.pairs import EvaluationPair, dense_pair
from tfdense.results.match import Match

HEIGHT, WIDTH = 90, 120


def match_of(image):
    zeros = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    confidence = np.linspace(0, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    return Match(zeros, confidence, zeros, zeros, 1.0, image, image)


def sheet_of(errors):
    sheet = ContactSheet()
    for number, error in enumerate(errors):
        image = np.full((HEIGHT, WIDTH, 3), 20 * number, np.uint8)
        flow = np.full((HEIGHT, WIDTH, 2), [error, 0.0])
        pair = dense_pair(str(number), image, image, flow, np.ones((HEIGHT, WIDTH), bool))
        sheet.consider(pair, match_of(image), Measurement("", "", {"aepe": error}))
    return sheet.picture()


def test_the_worst_come_first():
    picture = sheet_of([3.0, 1.0, 9.0, 1.0, 8.0, 4.0, 4.5, 7.0, 6.0, 5.0])
    # Each row shows its image, of one grey, in the first column.
    column = picture[:, 132, 0].astype(int)
    starts = np.flatnonzero(np.diff(column, prepend=-1))
    lengths = np.diff(starts, append=len(column))
    shown = [column[start] // 20 for start in starts[lengths > 150]]
    assert shown == [2, 4, 7, 8, 9, 6, 5, 0]


def test_errors_and_confidence_are_shown():
    picture = sheet_of([3.0])
    middle = 68 + 90  # below margin, headings, gap and title
    # The errors of 3 px are all between 0 and the next step of the scale, 5 px.
    expected = visualize.error_color(np.full((1, 1), 3.0), 5.0)[0, 0]
    assert (picture[middle, 12 + 3 * 252 + 120] == expected).all()
    # The confidence rises from 0 at the top of its 180 rows to 1 at their end.
    for offset in (-60, 60):
        confidence = np.full((1, 1), 0.5 + offset / 180)
        found = picture[middle + offset, 12 + 4 * 252 + 120].astype(int)
        assert abs(found - visualize.confidence_color(confidence)[0, 0]).max() < 12


def test_few_points_are_drawn_as_discs_and_pairs_without_points_too():
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    points = np.array([[60.0, 45.0]])
    sheet = ContactSheet()
    sparse = EvaluationPair("a", image, image, points, np.array([[100.0, 0.0]]))
    sheet.consider(sparse, match_of(image), Measurement("", "", {"aepe": 100.0}))
    picture = sheet.picture()
    yellow = visualize.error_color(np.full((1, 1), 100.0), 100.0)[0, 0]
    assert (picture == yellow).all(axis=-1).sum() > 4
    nothing = np.empty((0, 2))
    alone = ContactSheet()
    unrelated = EvaluationPair("b", image, image, nothing, nothing, unmatched=points)
    alone.consider(unrelated, match_of(image), Measurement("", "", {"unmatched_p_1": 0.5}))
    assert alone.picture().shape == picture.shape
