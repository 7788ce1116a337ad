"""Draws pdcnet-lite: python docs/network_picture.py; needs pydot and Graphviz."""

from collections.abc import Callable
from pathlib import Path

import keras

from tfdense.config import ModelConfig
from tfdense.geometry import resize_bilinear, spatial_size
from tfdense.models import build
from tfdense.models.presets import as_shipped

PICTURE = Path(__file__).with_name("pdcnet_lite.png")
_STRIDES = (16, 8, 4)


class Step(keras.layers.Layer):
    """A part of what a network does, as a layer of a graph."""

    def __init__(self, name: str, function: Callable):
        super().__init__(name=name)
        self._function = function

    def call(self, *inputs):
        return self._function(*inputs)


def in_steps(network: keras.Model, side: int = 256) -> keras.Model:
    """Returns what a network does as a graph of steps: Keras draws one that is a class as one box.

    Args:
        network: pdcnet-lite, without descriptors of places.
        side: of the images, in px.

    Returns:
        A functional model that answers {"flow", "log_variance", "logits"} as the network does.
    """
    source, target = (keras.Input((side, side, 3), name=role) for role in ("source", "target"))
    found = [
        Step(f"features_of_the_{name}", lambda image: network.features(image).pyramid)(image)
        for name, image in (("target", target), ("source", source))
    ]
    targets, sources = Step("context", network._in_context)(*found)
    match = Step("global_matching", lambda *x: network.global_matching(*x)[:2])
    cells, certainty = match(targets[0], sources[0])
    propagate = Step(
        "propagation", lambda x, flow, *known: network.propagation(x, 16 * flow, *known)
    )
    flow = propagate(targets[0], cells, certainty)
    raw, state = Step("first_uncertainty", network._initial_raw)(flow), certainty
    for i, stride in enumerate(_STRIDES):
        if i:
            enlarge = Step(f"enlarging_to_stride_{stride}", _enlarge)
            flow, raw, state = enlarge(targets[i], flow, raw, state)
        correlate = Step(
            f"correlation_at_stride_{stride}",
            lambda x, y, flow, stride=stride: network.correlation(x, y, flow / stride),
        )
        costs = correlate(targets[i], sources[i], flow)
        decode = Step(f"decoder_at_stride_{stride}", _decoding(network.decoders[i], stride))
        flow, raw, state = decode(targets[i], costs, flow, raw, state)
    if network.refinement_passes:
        refine = Step("full_resolution", lambda *x: network.refinement(*x)[-1])
        flow, raw = refine(flow, raw, state, target, source)
    else:
        flow, raw = Step("enlarging_to_the_image", _enlarge)(target, flow, raw)
    answer = Step("mixture", network._level)(flow, raw)
    return keras.Model({"source": source, "target": target}, answer)


def _enlarge(target, *fields):
    return [resize_bilinear(field, spatial_size(target)) for field in fields]


def _decoding(decoder: keras.layers.Layer, stride: int) -> Callable:
    def decode(target, costs, flow, raw, state):
        new, correction = decoder([target, costs, raw, state])
        return flow + correction[..., :2] * stride, raw + correction[..., 2:], new

    return decode


def draw(path: Path = PICTURE) -> None:
    """Writes the picture."""
    network = build(as_shipped(ModelConfig("pdcnet-lite")), backbone_weights=False)
    keras.utils.plot_model(in_steps(network), path, show_layer_names=True, dpi=72)


if __name__ == "__main__":
    draw()
