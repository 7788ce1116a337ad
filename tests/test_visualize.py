"""Pictures: colours mean what the legend says, and any size of image can be drawn."""

import cv2
import numpy as np
import pytest

from tfdense import visualize


def _flow(*vectors):
    return np.array([vectors], np.float32)


def test_flow_colors_name_the_direction():
    colors = visualize.flow_color(_flow((0, 0), (5, 0), (-5, 0), (0, 5), (0, -5)), longest=5)[0]
    assert colors[0].tolist() == [255, 255, 255]
    assert colors[1].tolist() == [255, 0, 0]
    assert colors[2].tolist() == [0, 255, 255]
    # Down is between yellow and green, up is its opposite.
    np.testing.assert_allclose(colors[3:].astype(int), [[128, 255, 0], [128, 0, 255]], atol=1)


def test_flow_saturates_at_the_longest():
    colors = visualize.flow_color(_flow((1, 0), (2, 0), (4, 0), (400, 0)), longest=4)[0].astype(int)
    np.testing.assert_allclose(colors[:, 1], 255 * np.array([0.75, 0.5, 0, 0]), atol=1)
    assert (colors[:, 0] == 255).all()


def test_flow_that_is_not_finite_is_grey():
    flow = np.ones((4, 4, 2), np.float32)
    flow[0, 0], flow[1, 1] = np.nan, np.inf
    color = visualize.flow_color(flow)
    assert color[0, 0].tolist() == color[1, 1].tolist()
    assert len(set(color[0, 0].tolist())) == 1
    assert np.unique(color.reshape(-1, 3), axis=0).shape[0] == 2


def test_longest_flow_passes_over_outliers():
    flow = np.zeros((100, 100, 2), np.float32)
    flow[..., 0] = 3
    flow[0, :50, 0] = 1e5
    flow[1, 0] = np.nan
    assert visualize.longest_flow(flow) == 3
    trusted = np.zeros((100, 100), bool)
    assert visualize.longest_flow(flow, trusted) == 3
    trusted[0] = True
    assert visualize.longest_flow(flow, trusted) == 1e5
    assert visualize.longest_flow(np.zeros((5, 2))) == 1
    assert visualize.longest_flow(np.zeros((0, 2))) == 1


def test_confidence_colors_grow_brighter():
    colors = visualize.confidence_color(np.linspace(0, 1, 20)[None])
    brightness = cv2.cvtColor(colors, cv2.COLOR_RGB2GRAY)[0].astype(int)
    assert (np.diff(brightness) > 0).all()
    beyond = visualize.confidence_color(np.array([[-1.0, 2.0, np.nan]]))[0]
    np.testing.assert_array_equal(beyond, colors[0, [0, -1, 0]])


def test_mask_keeps_what_is_confident():
    image = np.full((2, 3, 3), 200, np.uint8)
    masked = visualize.mask_by_confidence(image, np.array([[0.1, 0.2, 0.3]] * 2), 0.2)
    assert (masked[:, 1:] == 200).all()
    assert (masked[:, 0] < 110).all()


def test_matches_are_drawn_where_they_are():
    source, target = np.zeros((50, 100, 3), np.uint8), np.zeros((200, 100, 3), np.uint8)
    box = (200, 200)
    picture = visualize.draw_matches(
        source, target, np.array([[10.0, 20.0]]), np.array([[70.0, 150.0]]), box
    )
    # The source is doubled and stands 50 px below the top, the target is 100 px wide in its box.
    start, end = (21, 91), (picture.shape[1] - 200 + 50 + 70, 150)
    colors = [picture[y, x].tolist() for x, y in (start, end)]
    assert colors[0] == colors[1]
    assert max(colors[0]) > 200
    middle = picture[(start[1] + end[1]) // 2 - 3 :][:7, (start[0] + end[0]) // 2 - 3 :][:, :7]
    assert len(np.unique(middle.reshape(-1, 3), axis=0)) > 1
    assert picture[60, 150].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("source_size", "target_size"),
    [
        ((480, 640), (480, 640)),
        ((640, 480), (300, 900)),
        ((16, 16), (16, 20)),
        ((30, 2000), (2000, 30)),
        ((1500, 2000), (40, 60)),
    ],
)
@pytest.mark.parametrize("count", [0, 30])
def test_pictures_of_any_size_are_of_a_standard_size(source_size, target_size, count):
    random = np.random.default_rng(0)
    source, target, warped = (
        random.integers(0, 256, (*size, 3), np.uint8)
        for size in (source_size, target_size, target_size)
    )
    points = random.uniform(0, 15, (2, count, 2)).astype(np.float32)
    flow = random.normal(0, 9, (*target_size, 2)).astype(np.float32)
    confidence = random.uniform(0, 0.5, target_size).astype(np.float32)
    pictures = [
        visualize.flow_picture(flow, confidence, 0.1),
        visualize.confidence_picture(confidence, 1.0, 0.1),
        visualize.matches_picture(source, target, *points),
        visualize.overview(source, target, warped, flow, confidence, *points, 1.0, 0.1),
    ]
    for picture in pictures:
        assert picture.dtype == np.uint8 and picture.shape[2] == 3
        assert min(picture.shape[:2]) > 300 and max(picture.shape[:2]) < 4000
        # Titles and margins are on white, and something is drawn.
        assert (picture[:12] == 255).all() and (picture[:, :12] == 255).all()
        assert (picture < 100).any()


def test_overview_shows_the_warped_source_only_where_it_is_confident():
    size = (300, 300)
    grey, green = np.full((*size, 3), 128, np.uint8), np.full((*size, 3), (0, 255, 0), np.uint8)
    confidence = np.zeros(size, np.float32)
    confidence[:, :150] = 0.5
    points = np.zeros((0, 2), np.float32)
    flow = np.zeros((*size, 2), np.float32)
    picture = visualize.overview(grey, grey, green, flow, confidence, points, points, 1.0, 0.1)
    share = (picture == (0, 255, 0)).all(axis=-1).sum() / (400 * 400)
    assert share == pytest.approx(0.5, abs=0.01)


def test_training_picture_has_a_row_for_each_pair():
    random = np.random.default_rng(0)
    source = random.uniform(0, 255, (3, 32, 48, 3)).astype(np.float32)
    flow = random.normal(0, 5, (3, 32, 48, 2)).astype(np.float32)
    mask = np.ones((3, 32, 48), np.float32)
    arguments = [source, source, flow, mask * 0.5, flow, mask]
    three = visualize.training_picture(*arguments)
    one = visualize.training_picture(*(array[:1] for array in arguments))
    assert three.dtype == np.uint8 and three.shape[1] == one.shape[1]
    assert three.shape[0] > 2.5 * one.shape[0] - 100
    assert three.shape[1] > 7 * 180


def test_training_picture_shows_the_error_where_the_truth_is_known():
    zeros = np.zeros((1, 40, 40, 2), np.float32)
    true_flow = zeros.copy()
    true_flow[:, :, 20:, 0] = 100
    image = np.full((1, 40, 40, 3), 255, np.float32)
    confidence = np.ones((1, 40, 40), np.float32)

    def error_panel(mask):
        picture = visualize.training_picture(image, image, zeros, confidence, true_flow, mask)
        return picture[-12 - 170 : -12, -12 - 170 : -12].astype(int)

    known = error_panel(np.ones((1, 40, 40), np.float32))
    assert known[:, :80].mean() < 10 and known[:, -70:].mean() > 150
    unknown = error_panel(np.zeros((1, 40, 40), np.float32))
    assert (unknown == unknown[0, 0, 0]).all() and unknown[0, 0, 0] not in (0, 255)
