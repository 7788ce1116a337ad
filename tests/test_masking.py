"""What does not count: read as a mask, shown to the network as noise, never matched."""

import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.masking import as_mask, hide, is_masked


@pytest.mark.parametrize(
    "white", [True, 1, 255, np.uint8(255), np.uint16(65535), 1.0, np.float16(0.7)]
)
def test_white_counts_in_masks_of_any_type(white):
    given = np.array([[0, 1, 0], [1, 1, 0]]) * white
    np.testing.assert_array_equal(as_mask(given, (2, 3), "mask"), given != 0)


def test_grey_levels_next_to_black_are_black():
    # As the edges and the noise of a JPEG file are.
    mask = np.uint8([[0, 3, 250], [12, 255, 100]])
    assert as_mask(mask, (2, 3), "mask").tolist() == [[False, False, True], [False, True, False]]


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (np.ones((3, 2)), r"the mask to have .* \(2, 3\).*\(3, 2\)"),
        (np.ones((2, 3, 1)), r"\(2, 3, 1\)"),
        (np.full((2, 3), "a"), "finite numbers or booleans. Received: <U1"),
        (np.full((2, 3), np.nan), "finite numbers or booleans. Received: nan"),
        (np.float32([[1, 0, 1], [1, -np.inf, 0]]), "finite numbers or booleans. Received: -inf"),
    ],
)
def test_what_is_no_mask_is_refused(mask, reason):
    with pytest.raises(InputError, match=reason):
        as_mask(mask, (2, 3), "mask")


def test_hidden_pixels_are_noise_whatever_they_were():
    random = np.random.default_rng(0)
    mask = random.uniform(size=(50, 1500)) < 0.7
    image, other = random.integers(0, 256, (2, 50, 1500, 3), np.uint8)
    other[mask] = image[mask]
    shown = hide(image, mask, "source")
    np.testing.assert_array_equal(shown[mask], image[mask])
    np.testing.assert_array_equal(shown, hide(other, mask, "source"))
    # Noise that the shrinking to 640 px does not average away, and another one in the target.
    noise = hide(image, np.zeros_like(mask), "source").astype(float)
    assert noise[:48].reshape(16, 3, 500, 3, 3).mean(axis=(1, 3)).std() > 60
    against = hide(image, np.zeros_like(mask), "target").astype(float)
    assert abs(np.corrcoef(noise.ravel(), against.ravel())[0, 1]) < 0.02
    assert hide(image, None, "source") is image


def test_masked_is_what_needs_a_masked_pixel():
    random = np.random.default_rng(1)
    source_mask = random.uniform(size=(20, 30)) < 0.6
    target_mask = random.uniform(size=(25, 15)) < 0.8
    flow = random.uniform(-20, 30, (25, 15, 2)).astype(np.float32)
    flow[3] = np.rint(flow[3])
    masked = is_masked(flow, source_mask, target_mask)
    for y in range(25):
        for x in range(15):
            place = flow[y, x] + np.float32([x, y])
            needed = []
            if 0 <= place[0] <= 29 and 0 <= place[1] <= 19:
                columns = {int(np.floor(place[0])), int(np.ceil(place[0]))}
                rows = {int(np.floor(place[1])), int(np.ceil(place[1]))}
                needed = [source_mask[row, column] for row in rows for column in columns]
            assert masked[y, x] == (not target_mask[y, x] or not all(needed))
    assert not is_masked(flow, None, None).any()
