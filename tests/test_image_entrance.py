"""Whatever is given as an image gives pixels and mask, or one short error."""

import io

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from PIL import Image

from tfdense.images import load_image

_SETTINGS = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
_MODES = (
    *("1", "L", "P", "PA", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB"),
    *("HSV", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"),
)
_FORMS = ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "JPEG2000")

_NOISE = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
_IMAGE_SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]))
_DTYPES = st.one_of(
    st_numpy.boolean_dtypes(),
    st_numpy.integer_dtypes(endianness="?"),
    st_numpy.unsigned_integer_dtypes(endianness="?"),
    st_numpy.floating_dtypes(endianness="?"),
    st_numpy.complex_number_dtypes(),
    st_numpy.datetime64_dtypes(),
    st_numpy.timedelta64_dtypes(),
    st_numpy.unicode_string_dtypes(),
)


def _takes(given_image, size=None):
    """Checks what comes of an image, and that its size is the (height, width)."""
    try:
        with np.errstate(all="ignore"):
            pixels, mask = load_image(given_image)
    except (ValueError, TypeError) as error:
        assert 1 <= len(str(error).splitlines()) <= 3
        return False
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[-1] == 3
    assert pixels.flags.c_contiguous and (size is None or pixels.shape[:2] == tuple(size))
    assert mask is None or (mask.dtype == bool and mask.shape == pixels.shape[:2])
    return True


@_SETTINGS
@given(st.data())
def test_arrays_of_any_type_shape_and_layout(data):
    shapes = st.one_of(_IMAGE_SHAPES, st_numpy.array_shapes(min_dims=0, max_dims=5, min_side=0))
    array = data.draw(st_numpy.arrays(data.draw(_DTYPES), data.draw(shapes)))
    if array.ndim > 1:
        array = array[data.draw(st_numpy.basic_indices(array.shape, min_dims=2))]
        axes = data.draw(st.permutations(range(array.ndim)))
        array = array.transpose(axes)
    _takes(array, array.shape[:2] if array.ndim > 1 else None)


@_SETTINGS
@given(st.data())
def test_numbers_in_range_are_always_taken(data):
    dtype = data.draw(st.sampled_from(["u1", "<u2", ">u2", "<i4", ">i8", "<f4", ">f8"]))
    elements = (
        st.floats(0, 255, width=32)
        if "f" in dtype
        else st.integers(0, 65535 if "u2" in dtype else 255)
    )
    array = data.draw(st_numpy.arrays(dtype, data.draw(_IMAGE_SHAPES), elements=elements))
    if "f" in dtype:
        array[0, 0, 0] = 255  # so it cannot be meant to have white at 1
    if data.draw(st.booleans()):
        array = array[::-1, ::-1]
    assert _takes(array, array.shape[:2])


@_SETTINGS
@given(st.data())
def test_images_of_pillow_of_any_mode(data):
    mode = data.draw(st.sampled_from(_MODES))
    width, height = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    image = Image.new(mode, (width, height))
    content = data.draw(st.binary(min_size=len(image.tobytes()), max_size=len(image.tobytes())))
    image.frombytes(content)
    swapped = False
    if data.draw(st.booleans()):
        orientation = data.draw(st.integers(0, 10))
        image.getexif()[0x0112] = orientation
        swapped = 5 <= orientation <= 8
    assert _takes(image, (width, height) if swapped else (height, width))


@_SETTINGS
@given(st.data())
def test_files_changed_or_cut_anywhere(data):
    form = data.draw(st.sampled_from(_FORMS))
    mode = data.draw(st.sampled_from(["L", "RGB"]))
    file = io.BytesIO()
    Image.fromarray(_NOISE).convert(mode).save(file, form)
    content = bytearray(file.getvalue())
    assert _takes(bytes(content), (12, 20))
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    _takes(bytes(content[: data.draw(st.integers(0, len(content)))]))


@_SETTINGS
@given(
    st.one_of(
        st.none(),
        st.text(),
        st.binary(),
        st.integers(),
        st.lists(st.lists(st.floats())),
        st.just("x" * 5000),
        st.just("a\nb\nc\nd\n"),
        st.just("/etc/\udcff"),
        st.builds(object),
    )
)
def test_what_is_no_image_at_all(given_image):
    _takes(given_image)
