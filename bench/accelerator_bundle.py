"""Writes what bench/accelerator.py measures: a training bundle with some programs more."""

import argparse
import functools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf
from correlation import plain as plain_local

from tfdense.config import ModelConfig, load_config
from tfdense.errors import InputError
from tfdense.exporting.bundled_pairs import bundled_pairs
from tfdense.exporting.command import two_numbers
from tfdense.exporting.signatures import match_fixed
from tfdense.exporting.stablehlo import Program, lower
from tfdense.exporting.training_bundle import Variant, export_bundle
from tfdense.models import build
from tfdense.networks import PRESETS
from tfdense.ops import correlation

# Of the features that pdcnet-lite correlates, stride and channels.
_LOCAL, _GLOBAL = ((4, 32), (8, 64)), (16, 96)


def write_bundle(options: argparse.Namespace) -> int:
    """Writes a bundle as the options of bench/accelerator.py say; returns the exit status."""
    overrides = list(options.set)
    if options.data is not None:
        overrides.append(f"data.photos={json.dumps(str(options.data))}")
    try:
        config = load_config(options.config, overrides)
        batches = [two_numbers(text) for text in options.programs]
        variants = [
            Variant(*batch, precision) for batch in batches for precision in options.precisions
        ]
        sizes = [two_numbers(text) for text in options.match]
        further = {**_rates(options.rates), **_correlations(*batches[-1], options.radius)}
        for network in options.networks:
            further |= _matching(network, sizes)
        pairs = bundled_pairs(max(variants).configure(config))
        export_bundle(config, options.bundle, pairs, variants, further=further)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
    shutil.copy(Path(__file__).with_name("accelerator.py"), options.bundle / "measure.py")
    size = sum(path.stat().st_size for path in options.bundle.rglob("*") if path.is_file())
    print(f"{options.bundle}: {size / 1e6:.1f} MB")
    print(f"Where JAX is: python {options.bundle}/measure.py --minutes 9")
    return 0


Further = dict[str, tuple[Program, dict]]


def _rates(side: int) -> Further:
    """What the device can: copying a large array, and multiplying large matrices."""
    count = 16 * side * side
    vector, matrix = tf.TensorSpec([count], tf.float32), tf.TensorSpec([side, side], tf.float32)
    copy = lower(lambda a: {"y": 2.0 * a["x"] + 1.0}, {"x": vector}, {})
    product = lower(lambda a: {"y": a["x"] @ a["x"]}, {"x": matrix}, {})
    return {
        "rate-copy": (copy, {"bytes": 8 * count}),
        "rate-product": (product, {"operations": 2 * side**3}),
    }


def _correlations(size: int, batch: int, radius: int) -> Further:
    """The correlations of a training step, forward and backward, ours and plainly."""
    further = {}
    for stride, channels in _LOCAL:
        shape = [batch, size // stride, size // stride, channels]
        for suffix, function in (("", correlation.local), ("-plain", plain_local)):
            local = functools.partial(function, radius=radius)
            further |= dict(
                _both_ways(f"local-{_name(shape)}", suffix, local, shape, (2 * radius + 1) ** 2)
            )
    stride, channels = _GLOBAL
    shape = [batch, size // stride, size // stride, channels]
    for suffix, function in (("", correlation.all_pairs), ("-plain", plain_global)):
        further |= dict(
            _both_ways(f"global-{_name(shape)}", suffix, function, shape, shape[1] * shape[2])
        )
    return further


def plain_global(target, source) -> tf.Tensor:
    """Multiplies each feature with each and adds up, and leaves the gradient to TensorFlow."""
    batch, height, width, channels = source.shape
    source = tf.reshape(source, [batch, 1, 1, height * width, channels])
    return tf.reduce_sum(target[..., None, :] * source, axis=-1)


def _both_ways(
    name: str, suffix: str, correlate: Callable, shape: list[int], count: int
) -> Iterator[tuple[str, tuple[Program, dict]]]:
    """Yields the programs of a correlation and of its gradient.

    Args:
        name: of the correlation.
        suffix: of the form it is written in.
        correlate: of target and source.
        shape: of either.
        count: channels of the result.
    """
    features = tf.TensorSpec(shape, tf.float32)
    upstream = tf.TensorSpec([*shape[:3], count], tf.float32)
    inputs = {"target": features, "source": features}

    def forward(arrays):
        return {"scores": correlate(arrays["target"], arrays["source"])}

    def backward(arrays):
        parts = [arrays["target"], arrays["source"]]
        with tf.GradientTape() as tape:
            tape.watch(parts)
            scores = correlate(*parts)
        gradients = tape.gradient(scores, parts, output_gradients=arrays["upstream"])
        return dict(zip(inputs, gradients, strict=True))

    # Each array once from memory or to it, a product and a sum for each channel of a score.
    least, scores = features.shape.num_elements(), upstream.shape.num_elements()
    operations = 2 * shape[3] * scores
    forth = {"bytes": 4 * (2 * least + scores), "operations": operations}
    back = {"bytes": 4 * (4 * least + scores), "operations": 2 * operations}
    yield f"{name}-forward{suffix}", (lower(forward, inputs, {}), forth)
    inputs_back = {**inputs, "upstream": upstream}
    yield f"{name}-backward{suffix}", (lower(backward, inputs_back, {}), back)


def _matching(preset: str, sizes: list[tuple[int, int]]) -> Further:
    """Programs that match; their weights are made up where they run, which changes no time."""
    config = ModelConfig(preset, {**PRESETS[preset].trained_options})
    network = build(config, backbone_weights=False)
    weights = {f"{preset}/{i:04d}": v.value for i, v in enumerate(network.variables)}
    further = {}
    for height, width in sizes:
        image = tf.TensorSpec([1, height, width, 3], tf.uint8)
        images = {"source": image, "target": image}
        program = lower(lambda a: match_fixed(network, a["source"], a["target"]), images, weights)
        further[f"match-{preset}-{height}x{width}"] = (program, {})
    return further


def _name(shape: list[int]) -> str:
    return "x".join(map(str, shape))
