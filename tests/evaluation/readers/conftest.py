"""What the readers' tests share."""

import numpy as np
import pytest

from tfdense.images import write_image


@pytest.fixture
def write_images():
    """A function that writes images of the shades 10, 20, ... so that they can be told apart."""

    def write(folder, names, height=18, width=24):
        for index, name in enumerate(names):
            shade = 10 * (index + 1)
            write_image(folder / name, np.full((height, width, 3), shade, np.uint8))

    return write
