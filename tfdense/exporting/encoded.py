"""Decoding JPEG and PNG files within a graph, to the pixels that `tfdense.images` gives.

The orientation is the EXIF tag 0x0112 of the first directory; a JPEG has its EXIF data in a segment
APP1, a PNG in a chunk eXIf.
"""

import tensorflow as tf

from tfdense.pixels import OPAQUE, OUTLIERS

_ORIENTATION = 0x0112
_LONG = 4  # the type of a value of 32 bits; others that hold an orientation have 16


# A signature decodes up to four files; traced and stored once.
@tf.function(
    input_signature=[tf.TensorSpec([], tf.string)],
    autograph=False,
    experimental_attributes={"_noinline": True},
)
def decode_upright(encoded) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes an image file and turns it upright by its EXIF orientation.

    More than 8 bits are stretched, see `tfdense.pixels.stretch`. What `tf.io.decode_image` knows
    besides JPEG and PNG is decoded too, but not turned. A JPEG that is cut short is refused; one
    that is damaged within mostly is not: the decoder prints a warning at best. A transparent colour
    of a PNG is seen only in a palette.

    Args:
        encoded: string, the bytes of the file.

    Returns:
        Its pixels, uint8 [height, width, 3], RGB; and its alpha, uint8 [height, width], 255 if it
        has none.
    """
    content = tf.io.decode_raw(encoded, tf.uint8)

    def jpeg():
        # The default is faster, and differs by up to 7 grey levels from other programs.
        pixels = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
        return _turn(pixels, _opaque(pixels), _exif_orientation(_exif_of_jpeg(content)))

    def png():
        has_16_bits = _is(_bytes(content, 24, 1), b"\x10")
        image = tf.cond(
            has_16_bits,
            lambda: _stretch(*_split(tf.io.decode_png(encoded, dtype=tf.uint16))),
            lambda: _split(tf.io.decode_png(encoded)),
        )
        return _turn(*image, _exif_orientation(_exif_of_png(content)))

    def other():
        pixels = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        return pixels, _opaque(pixels)

    is_jpeg, is_png = (_is(_bytes(content, 0, len(x)), x) for x in (b"\xff\xd8", b"\x89PNG"))
    return tf.cond(is_jpeg, jpeg, lambda: tf.cond(is_png, png, other))


def _opaque(image) -> tf.Tensor:
    """Returns the alpha, [height, width], of an image that has none."""
    return tf.fill(tf.shape(image)[:2], tf.constant(image.dtype.max, image.dtype))


def _split(image) -> tuple[tf.Tensor, tf.Tensor]:
    """Splits grey or RGB, each with or without alpha, to RGB and alpha."""
    height, width, channels = tf.unstack(tf.shape(image))
    colours = channels - (channels + 1) % 2
    pixels = tf.broadcast_to(image[..., :colours], [height, width, 3])
    alpha = tf.cond(colours < channels, lambda: image[..., -1], lambda: _opaque(image))
    return pixels, alpha


def _turn(pixels, alpha, orientation) -> tuple[tf.Tensor, tf.Tensor]:
    """Turns an image upright."""

    def one_of(*orientations):
        return tf.reduce_any(orientation == tf.constant(orientations, tf.int64))

    def turned():
        swap = one_of(5, 6, 7, 8)
        axes = tf.boolean_mask([0, 1], [one_of(3, 4, 7, 8), one_of(2, 3, 6, 7)])
        order = tf.where(swap, [1, 0, 2], [0, 1, 2])
        return (
            tf.reverse(tf.transpose(pixels, order), axes),
            tf.reverse(tf.transpose(alpha, order[:2]), axes),
        )

    return tf.cond(orientation == 1, lambda: (pixels, alpha), turned)


def _stretch(pixels, alpha) -> tuple[tf.Tensor, tf.Tensor]:
    """Brings uint16 to uint8, as `tfdense.pixels.stretch` does what can be seen."""
    alpha = tf.cast(alpha, tf.int32) * 255 // 65535
    seen = tf.cast(tf.boolean_mask(pixels, alpha >= OPAQUE), tf.int32)
    counts = tf.cumsum(tf.math.bincount(tf.reshape(seen, [-1]), minlength=2**16, maxlength=2**16))
    count = tf.cast(counts[-1], tf.float64)

    def quantile(share):
        below = tf.cast(counts, tf.float64) < share * count
        return tf.cast(tf.math.count_nonzero(below), tf.float64)

    low, high = quantile(OUTLIERS), quantile(1 - OUTLIERS)
    whole = tf.clip_by_value(4 * (high - low) / 65535 - 1, 0, 1)
    low, high = low * (1 - whole), high + (65535 - high) * whole
    numbers = tf.range(2**16, dtype=tf.float64)
    steps = tf.minimum(256 * tf.clip_by_value((numbers - low) / (high - low + 1), 0, 1), 255)
    fits = counts[255] == counts[-1]
    levels = tf.cast(tf.where(fits, tf.minimum(numbers, 255), steps), tf.uint8)
    return tf.gather(levels, tf.cast(pixels, tf.int32)), tf.cast(alpha, tf.uint8)


def _exif_of_jpeg(content) -> tf.Tensor:
    """Returns the EXIF data of a JPEG, both uint8 [bytes], empty if it has none."""

    def end(position):
        return position + 2 + tf.maximum(_number(content, position + 2, 2), 2)

    def found(position):
        name = _bytes(content, position + 4, 6)
        return _is(_bytes(content, position, 2), b"\xff\xe1") & _is(name, b"Exif\0\0")

    def goes_on(position):
        start_of_scan = _is(_bytes(content, position, 2), b"\xff\xda")
        is_segment = _is(_bytes(content, position, 1), b"\xff")
        return is_segment & ~start_of_scan & ~found(position)

    position = tf.while_loop(goes_on, end, [tf.constant(2, tf.int64)])[0]
    return content[position + 10 : tf.where(found(position), end(position), 0)]


def _exif_of_png(content) -> tf.Tensor:
    """Returns the EXIF data of a PNG, both uint8 [bytes], empty if it has none."""

    def end(position):
        return position + 8 + _number(content, position, 4)

    def found(position):
        return _is(_bytes(content, position + 4, 4), b"eXIf")

    def goes_on(position):
        return (position < tf.size(content, tf.int64)) & ~found(position)

    position = tf.while_loop(goes_on, lambda at: end(at) + 4, [tf.constant(8, tf.int64)])[0]
    return content[position + 8 : tf.where(found(position), end(position), 0)]


def _exif_orientation(exif) -> tf.Tensor:
    """Returns the orientation that EXIF data, uint8 [bytes], state, 1 if they state none."""
    little_endian = _is(_bytes(exif, 0, 2), b"II")
    directory = _number(exif, 4, 4, little_endian)
    count = tf.minimum(_number(exif, directory, 2, little_endian), tf.size(exif, tf.int64) // 12)
    entries = directory + 2 + 12 * tf.range(count)
    tags, types = (_number(exif, entries + at, 2, little_endian) for at in (0, 2))
    short, long = (_number(exif, entries + 8, length, little_endian) for length in (2, 4))
    found = tf.boolean_mask(tf.where(types == _LONG, long, short), tags == _ORIENTATION)
    return tf.concat([found, tf.constant([1], tf.int64)], 0)[0]


def _number(content, position, length: int, little_endian=False) -> tf.Tensor:
    """Reads whole numbers, int64 of the shape of `position`."""
    numbers = tf.cast(_bytes(content, position, length), tf.int64)
    numbers = tf.where(little_endian, tf.reverse(numbers, [-1]), numbers)
    return tf.reduce_sum(numbers * 256 ** tf.range(length, dtype=tf.int64)[::-1], axis=-1)


def _bytes(content, position, length: int) -> tf.Tensor:
    """Reads bytes, uint8 of the shape of `position` and [length]; zeros beyond the end."""
    places = tf.cast(position, tf.int64)[..., None] + tf.range(length, dtype=tf.int64)
    return tf.gather(tf.pad(content, [[0, 1]]), tf.minimum(places, tf.size(content, tf.int64)))


def _is(values, expected: bytes) -> tf.Tensor:
    return tf.reduce_all(values == tf.constant(list(expected), tf.uint8))
