"""Changes of domain: season, weather, time of day, spectrum, medium. No pixel moves.

They come in the order in which an image comes about, each where its draw says so: the scene
(season, snow), its light (shadow, fog, night, glare), then what records it (infrared, inversion,
curves, sketch). They imitate: a network shall learn what stays, not what a night looks like.
"""

import math

import tensorflow as tf

from tfdense.data import draws
from tfdense.data.conditions import where_any
from tfdense.data.planes import (
    blur,
    bumps,
    each,
    look_up,
    luma,
    mean,
    mix,
    random_field,
    smoothed,
    smoothstep,
    where_chosen,
)
from tfdense.data_config import DomainConfig

# Autumn's red, its yellow, dry grass, bare wood, lush green: colours of foliage, of luma 1.
_FOLIAGE = [
    [1.75, 0.72, 0.42],
    [1.35, 0.98, 0.20],
    [1.18, 0.98, 0.65],
    [1.08, 0.98, 0.92],
    [0.60, 1.25, 0.75],
]
_MOONLIGHT, _LAMPLIGHT, _SKYLIGHT = ([0.75, 0.95, 1.3], [1.35, 0.95, 0.5], [1.0, 0.93, 0.8])
# Weights of red, green and blue that make the sky dark, as near infrared does.
_BANDS = [0.6, 0.5, -0.3]
# Least mean of a photo taken at night, in grey levels.
_NIGHT_MEAN = 40.0
_LAMPS, _HIGHLIGHTS, _SHADOWS = 4, 5, 2
# Nodes along a side: neighbourhoods of a twentieth of the image.
_COARSE = 20
_KNOTS = 6
_LINE_WIDTH = 2.0


def random_domain(planes, seeds, config: DomainConfig, changed=True) -> tf.Tensor:
    """Takes images to other domains.

    Args:
        planes: float32 [batch, 3, height, width], RGB, 0..255.
        seeds: [batch, 2].
        config: the ranges. What has probability 0 is not computed.
        changed: bool [batch], which images may be changed.

    Returns:
        float32 [batch, 3, height, width], 0..255.
    """
    choice_seeds, *own_seeds = draws.split(seeds, len(_CHANGES) + 1)
    choice = draws.uniform(choice_seeds, [len(_CHANGES)])
    for number, (name, (change, bounds)) in enumerate(_CHANGES.items()):
        if share := getattr(config, name):
            amount_seeds, change_seeds = draws.split(own_seeds[number], 2)
            amount = draws.uniform(amount_seeds, (), *getattr(config, bounds)) if bounds else None
            chosen = changed & (choice[:, number] < share)
            planes = where_chosen(chosen, change, planes, change_seeds, amount)
    return planes


def recolour_foliage(planes, colour, strength) -> tf.Tensor:
    """Gives what is green another colour of the same luma.

    Args:
        planes: float32 [batch, 3, height, width], 0..255.
        colour: float32, of luma 1, [batch, 3, 1, 1] or [batch, 3, height, width].
        strength: [batch], 0..1.
    """
    share = each(strength) * _foliage(planes)
    return planes + share * (luma(planes) * colour - planes)


def cover_with_snow(planes, cover) -> tf.Tensor:
    """Whitens images, most of their relief hidden.

    Args:
        planes: float32 [batch, 3, height, width], 0..255.
        cover: float32 [batch, 1, height, width], 0..1.
    """
    white = 175.0 + 0.3 * luma(planes)
    return planes + cover * (white * tf.reshape([0.98, 1.0, 1.03], [3, 1, 1]) - planes)


def shade(planes, darkness, shadow) -> tf.Tensor:
    """Takes light from images; what is left comes from the sky and is a little bluer.

    Args:
        planes: float32 [batch, 3, height, width], 0..255.
        darkness: [batch], share of the light that a full shadow takes.
        shadow: float32 [batch, 1, height, width], 0..1.
    """
    return planes * (1.0 - each(darkness) * shadow * tf.reshape(_SKYLIGHT, [3, 1, 1]))


def add_fog(planes, depth, colour) -> tf.Tensor:
    """Puts a medium before images that takes and scatters light (Koschmieder, 1924).

    Args:
        planes: float32 [batch, 3, height, width], 0..255.
        depth: optical, float32 [batch, 1, height, width], not negative.
        colour: of the fog, float32 [batch, 3], 0..255.
    """
    return colour[:, :, None, None] + tf.exp(-depth) * (planes - colour[:, :, None, None])


def make_night(planes, light, lamps) -> tf.Tensor:
    """Takes the daylight, most of all the sky's; small bright things shine on their own.

    Args:
        planes: float32 [batch, 3, height, width], 0..255.
        light: [batch], the share of the grey levels that is left where no lamp shines.
        lamps: their light, float32 [batch, 1, height, width], not negative.
    """
    brightness = luma(planes)
    around = smoothed(brightness, _COARSE)
    # Bright, not warm, and even.
    rough = smoothed(_steepness(brightness), 2 * _COARSE)
    cold = smoothstep(planes[:, 2:] - planes[:, :1], -40.0, 0.0)
    sky = smoothstep(brightness, 90.0, 150.0) * cold * (1.0 - smoothstep(rough, 10.0, 25.0))
    moon, lamp = (tf.reshape(colour, [3, 1, 1]) for colour in (_MOONLIGHT, _LAMPLIGHT))
    lit = (each(light) * moon * (1.0 - 0.7 * sky) + lamps * lamp * (1.0 - sky)) * planes
    shining = smoothstep(brightness - around, 30.0, 70.0) * smoothstep(brightness, 150.0, 200.0)
    return lit + shining * tf.maximum(planes * lamp - lit, 0.0)


def add_glare(planes, light) -> tf.Tensor:
    """Adds light that saturates: each share of it takes that share of what is missing to white.

    Args:
        planes: float32 [batch, 3, height, width], 0..255.
        light: float32, 0..1, [batch, 1 or 3, height, width].
    """
    return 255.0 - (255.0 - planes) * (1.0 - light)


def invert(planes) -> tf.Tensor:
    """Returns negatives."""
    return 255.0 - planes


def draw_lines(planes, deviation) -> tf.Tensor:
    """Returns the strength of edges, as bright as they are steep for the image.

    Args:
        planes: float32 [batch, 3, height, width], 0..255.
        deviation: of the Gaussian that takes the finest detail, in pixels, [batch], at most 2.

    Returns:
        float32 [batch, 1, height, width], 0..255; 255 from three times the mean steepness on.
    """
    steepness = _steepness(blur(luma(planes), deviation, _LINE_WIDTH))
    # Of an even image nothing is an edge: its noise is far below one grey level.
    return 255.0 * tf.minimum(steepness / (3.0 * mean(steepness) + 1.0), 1.0)


def _season(planes, seeds, strength) -> tf.Tensor:
    """Blends two colours of foliage from place to place."""
    colour_seeds, field_seeds = draws.split(seeds, 2)
    chosen = tf.cast(draws.uniform(colour_seeds, [2], 0.0, float(len(_FOLIAGE))), tf.int32)
    first, second = tf.unstack(tf.gather(tf.constant(_FOLIAGE), chosen), axis=1)
    share = tf.sigmoid(2.0 * random_field(field_seeds, *planes.shape[2:]))
    first, second = (colour[:, :, None, None] for colour in (first, second))
    return recolour_foliage(planes, first + share * (second - first), strength)


def _snow(planes, seeds, cover) -> tf.Tensor:
    """Lets snow lie low in the image, in patches, and on what faces the light."""
    brightness = luma(planes)
    relief = (brightness - smoothed(brightness, _COARSE)) / 30.0
    ground = tf.linspace(-1.0, 1.0, planes.shape[2])[:, None]
    likely = random_field(seeds, *planes.shape[2:]) + ground + relief
    return cover_with_snow(planes, tf.sigmoid(3.0 * (likely + 5.0 * (each(cover) - 0.5))))


def _shadow(planes, seeds, darkness) -> tf.Tensor:
    """Casts strips with more or less wavy, more or less soft edges."""
    draw_seeds, *field_seeds = draws.split(seeds, 1 + _SHADOWS)
    draw = draws.uniform(draw_seeds, [_SHADOWS, 5])
    height, width = planes.shape[2:]
    x = tf.linspace(-1.0, 1.0, width)
    y = tf.linspace(-1.0, 1.0, height)[:, None]
    lit = 1.0
    for number, own in enumerate(field_seeds):
        angle, place, half, wave, softness = (
            each(value) for value in tf.unstack(draw[:, number], axis=1)
        )
        across = tf.cos(2.0 * math.pi * angle) * x + tf.sin(2.0 * math.pi * angle) * y
        across += 0.4 * wave**2 * random_field(own, height, width)
        distance = tf.abs(across + 1.4 * place - 0.7) - (0.1 + 0.5 * half)
        lit *= tf.sigmoid(distance / (0.005 + 0.05 * softness**2))
    return shade(planes, darkness, 1.0 - lit)


def _fog(planes, seeds, density) -> tf.Tensor:
    """Makes fog denser towards the top, where a scene is far as a rule, and in clouds."""
    colour_seeds, field_seeds = draws.split(seeds, 2)
    draw = draws.uniform(colour_seeds, [4], -1.0, 1.0)
    colour = 190.0 + 40.0 * draw[:, :1] + 10.0 * draw[:, 1:]
    height, width = planes.shape[2:]
    far = tf.linspace(1.7, 0.3, height)[:, None]
    depth = far * tf.exp(0.4 * random_field(field_seeds, height, width))
    return add_fog(planes, each(density) * depth, colour)


def _night(planes, seeds, light) -> tf.Tensor:
    """Puts up lamps, and exposes longer where the image would be all but black."""
    place_seeds, size_seeds = draws.split(seeds, 2)
    draw = draws.uniform(size_seeds, [_LAMPS, 2])
    strength, radius = 0.9 * draw[..., 0] ** 2, 0.05 + 0.25 * draw[..., 1]
    places = draws.uniform(place_seeds, [_LAMPS, 2])
    night = make_night(planes, light, bumps(places, radius, strength, *planes.shape[2:]))
    return night * tf.clip_by_value(_NIGHT_MEAN / (mean(night) + 1.0), 1.0, 3.0)


def _glare(planes, seeds, strength) -> tf.Tensor:
    """Adds a sun with its halo, and small highlights, of which some are missing."""
    place_seeds, size_seeds, colour_seeds = draws.split(seeds, 3)
    size = planes.shape[2:]
    places = draws.uniform(place_seeds, [1 + _HIGHLIGHTS, 2])
    draw = draws.uniform(size_seeds, [1 + _HIGHLIGHTS, 2])
    tops = tf.concat([1.0 + 0.0 * draw[:, :1, 0], 2.0 * draw[:, 1:, 0] - 0.7], axis=1)
    tops = strength[:, None] * tf.clip_by_value(tops, 0.0, 1.0)
    radii = tf.concat([0.05 + 0.15 * draw[:, :1, 1], 0.01 + 0.03 * draw[:, 1:, 1]], axis=1)
    halo = bumps(places[:, :1], 4.0 * radii[:, :1], 0.4 * tops[:, :1], *size)
    light = tf.minimum(bumps(places, radii, tops, *size) + halo, 1.0)
    warmth = draws.uniform(colour_seeds, (), 0.0, 0.3)[:, None] * tf.constant([0.0, 0.4, 1.0])
    return add_glare(planes, light * (1.0 - warmth)[:, :, None, None])


def _infrared(planes, seeds, remap) -> tf.Tensor:
    """Mixes the colours anew, lets foliage shine and remaps brightness, then sets the exposure."""
    weight_seeds, foliage_seeds, curve_seeds = draws.split(seeds, 3)
    weights = tf.constant(_BANDS) + 0.4 * draws.normal(weight_seeds, [3])
    weights /= tf.reduce_sum(tf.abs(weights), axis=1, keepdims=True)
    # What a negative weight takes from white is added back.
    grey = mix(planes, weights) + each(tf.reduce_sum(tf.nn.relu(-weights), axis=1)) * 255.0
    grey += each(draws.uniform(foliage_seeds, (), 0.0, 0.8)) * _foliage(planes) * (255.0 - grey)
    knots = 255.0 * draws.uniform(curve_seeds, [1, _KNOTS])
    plain = tf.linspace(0.0, 255.0, _KNOTS)
    curve = plain + remap[:, None, None] * (knots - plain)
    grey = where_any(remap > 0, lambda: look_up(grey, curve), grey)
    centred = grey - mean(grey)
    contrast = tf.minimum(55.0 / (tf.sqrt(mean(centred**2)) + 1.0), 3.0)
    return tf.tile(115.0 + contrast * centred, [1, 3, 1, 1])


def _inversion(planes, _seeds, _strength) -> tf.Tensor:
    return invert(planes)


def _curves(planes, seeds, deviation) -> tf.Tensor:
    """Gives each colour a rising curve through a few knots."""
    slopes = tf.exp(deviation[:, None, None] * draws.normal(seeds, [3, _KNOTS - 1]))
    slopes /= tf.reduce_sum(slopes, axis=2, keepdims=True)
    return look_up(planes, 255.0 * tf.pad(tf.cumsum(slopes, axis=2), [[0, 0], [0, 0], [1, 0]]))


def _sketch(planes, seeds, strength) -> tf.Tensor:
    draw = draws.uniform(seeds, [2])
    lines = draw_lines(planes, 0.5 + (_LINE_WIDTH - 0.5) * draw[:, 0])
    drawing = tf.where(each(draw[:, 1] < 0.5), invert(lines), lines)
    return planes + each(strength) * (drawing - planes)


# In the order in which they are made: new ones at the end, or all draws change.
_CHANGES = {
    "season": (_season, "season_strength"),
    "snow": (_snow, "snow_cover"),
    "shadow": (_shadow, "shadow_darkness"),
    "fog": (_fog, "fog_density"),
    "night": (_night, "night_light"),
    "glare": (_glare, "glare_strength"),
    "infrared": (_infrared, "infrared_remap"),
    "inversion": (_inversion, None),
    "curves": (_curves, "curve_deviation"),
    "sketch": (_sketch, "sketch_strength"),
}


def _steepness(plane) -> tf.Tensor:
    """Returns how much brighter a pixel's neighbours are on one side than on the other."""
    padded = tf.pad(plane, [[0, 0], [0, 0], [1, 1], [1, 1]], "SYMMETRIC")
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    return tf.sqrt(across**2 + down**2)


def _foliage(planes) -> tf.Tensor:
    """Returns where images are green, 0..1, by the excess green index (Woebbecke et al., 1995)."""
    total = tf.reduce_sum(planes, axis=1, keepdims=True)
    excess = 3.0 * planes[:, 1:2] / tf.maximum(total, 1.0) - 1.0
    return smoothstep(excess, 0.02, 0.2) * smoothstep(total, 15.0, 60.0)
