"""What runs a network: Keras, an exported SavedModel or LiteRT, behind one interface."""

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import cv2
import keras
import numpy as np
import tensorflow as tf

from tfdense import mixture as mixtures
from tfdense.errors import InputError, printable
from tfdense.masking import UNKNOWN_LOG_VARIANCE
from tfdense.mixture import Mixture
from tfdense.networks import check_max_side
from tfdense.ops.correlation import forward_only
from tfdense.pixels import pixel_positions
from tfdense.results.answers import check_answer
from tfdense.saved_models import SavedModel, Signature

_ROLES = ("source", "target")
_OUTPUTS = ("flow", "log_variance", "logits")


class Backend(Protocol):
    """A network that matches two images of one size.

    Attributes:
        mixture: what its log-variances and logits are parameters of.
        working_size: gives the (height, width) at which to run for a target's height and width.
    """

    mixture: Mixture
    working_size: Callable[[int, int], tuple[int, int]]

    def run(self, source: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
        """Matches two images of a working size.

        Args:
            source, target: uint8 [height, width, 3].

        Returns:
            float32: "flow" [height, width, 2], "log_variance" and "logits"
            [height, width, components], in px of these images.
        """


@dataclasses.dataclass(frozen=True)
class TargetSize:
    """A rule for the working size: the target's, within what network and memory allow.

    Attributes:
        max_side: of the longer side, in px.
        stride: both sides are multiples of it.
        minimum: of each side, in px.
    """

    max_side: int
    stride: int
    minimum: int

    def __post_init__(self):
        check_max_side(self.max_side, max(self.stride, self.minimum))

    def __call__(self, height: int, width: int) -> tuple[int, int]:
        largest = self.max_side // self.stride * self.stride
        side = max(height, width)
        scale = min(largest, side) / side / self.stride
        smallest = -(-self.minimum // self.stride) * self.stride
        rows, columns = (round(side * scale) * self.stride for side in (height, width))
        return max(rows, smallest), max(columns, smallest)


def refuse_fork() -> None:
    """Refuses to use TensorFlow in a process that was forked from one that used it.

    Its threads are not in the child, which would wait for them for ever. LiteRT has no such need.

    Raises:
        InputError: if this is not the first process that came here.
    """
    if os.getpid() != _first_process():
        raise InputError(
            "Expected a process of its own. Received: one forked after TensorFlow was used, in "
            'which it would hang. Start processes with multiprocessing.get_context("spawn"); a '
            "matcher can be handed to them. Or load it only after the fork."
        )


@functools.cache
def _first_process() -> int:
    return os.getpid()


def _bound_memory() -> None:
    # Of every size of image oneDNN keeps how to compute each layer, by default a thousand times;
    # this many are more than one size of a network has. It reads this when first used.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")


class KerasBackend:
    """A network of `tfdense.models`.

    Args:
        model: the network.
        max_side: see `TargetSize`.
        refine: whether it runs its level at full resolution, if it has one.

    Attributes:
        has_features: whether the network matches in two parts, `features` and `match_features`.
    """

    def __init__(self, model: keras.Model, max_side: int, refine: bool = True):
        refuse_fork()
        _bound_memory()
        refines = getattr(model, "refinement_passes", 0)
        options = {"refine": False} if refines and not refine else {}
        self._coarse = KerasBackend(model, max_side, False) if refines and refine else None
        self.mixture = model.mixture
        self.working_size = TargetSize(max_side, model.stride, model.minimum_size)

        # One trace for all sizes. Those of single sizes differ by some 1e-3 px, so that an answer
        # would depend on what was matched before; and each would be kept.
        @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8)] * 2)
        def match(source, target):
            images = {"source": source, "target": target}
            with forward_only():
                images = {role: tf.cast(x, tf.float32) for role, x in images.items()}
                outputs = model(images, **options)
            return {name: outputs[name] for name in _OUTPUTS}

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
        def features(images):
            with forward_only():
                return model.features(tf.cast(images, tf.float32))

        def match_features(source, target):
            with forward_only():
                outputs = model.match_features(source, target, **options)
            return {name: outputs[name] for name in _OUTPUTS}

        # Else it warns, once there are several matchers, that each was traced.
        match._omit_frequent_tracing_warning = features._omit_frequent_tracing_warning = True
        self._match = match
        self._features = features
        self.has_features = hasattr(model, "features")
        self._untraced = match_features

    @property
    def coarse(self) -> Backend:
        """The same without the level at full resolution."""
        return self._coarse or self

    def run(self, source, target):
        refuse_fork()
        answer = self._match(tf.constant(source[None]), tf.constant(target[None]))
        outputs = {name: answer[name][0].numpy() for name in _OUTPUTS}
        check_answer(outputs, target.shape[:2])
        return outputs

    def features(self, images: np.ndarray):
        """Computes what `match_features` needs of each image, whichever it is matched with.

        Args:
            images: uint8 [count, height, width, 3], of a working size.

        Returns:
            A structure of tensors [count, ...].
        """
        refuse_fork()
        return self._features(tf.constant(images))

    def match_features(self, sources, targets) -> dict[str, np.ndarray]:
        """Matches images by their features; answers as `run`, but [count, height, width, ...].

        Args:
            sources, targets: of `features`.
        """
        outputs = self._match_features(sources, targets)
        return {name: values.numpy() for name, values in outputs.items()}

    @functools.cached_property
    def _match_features(self) -> Callable:
        # One trace for all sizes needs to know what features look like.
        features = self._features.get_concrete_function().structured_outputs
        specifications = tf.nest.map_structure(
            lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), features
        )
        traced = tf.function(self._untraced, input_signature=[specifications] * 2)
        traced._omit_frequent_tracing_warning = True
        return traced


class SavedModelBackend:
    """A SavedModel that `tfdense.exporting` wrote."""

    def __init__(self, folder: Path, max_side: int):
        refuse_fork()
        _bound_memory()
        self._model = SavedModel(folder)
        try:
            _check_signature(self._model.signatures["match"])
            self.mixture, self.working_size = described(self._model.description, max_side)
        except ValueError as error:
            raise InputError(f"The SavedModel {folder} is broken: {error}") from None
        self._match = self._model.function("match", _ROLES, _OUTPUTS)

    def run(self, source, target):
        refuse_fork()
        answer = self._match(source[None], target[None])
        outputs = {name: values[0] for name, values in zip(_OUTPUTS, answer, strict=True)}
        check_answer(outputs, target.shape[:2])
        return outputs


def _check_signature(signature: Signature) -> None:
    """Refuses a signature other than that which `tfdense.exporting` gives the name "match".

    Raises:
        ValueError: which says what it has.
    """
    inputs, outputs = signature.inputs, signature.outputs
    images = [(spec.dtype, *spec.shape[1:]) for spec in inputs.values()]
    if {*inputs} != {*_ROLES} or images != [(np.uint8, None, None, 3)] * 2:
        taken = ", ".join(f"{name} {x.dtype} {list(x.shape)}" for name, x in inputs.items())
        raise ValueError(
            "expected its signature match to take source and target, uint8 images of any size. "
            f"Received: {printable(taken)}"
        )
    if missing := sorted({*_OUTPUTS} - {*outputs}):
        raise ValueError(f"its signature match answers no {' and no '.join(missing)}")


def described(description: dict, max_side: int) -> tuple[Mixture, TargetSize]:
    """Returns what a backend needs besides its network, of what an exported model says of itself.

    Raises:
        ValueError: if it says nothing of its mixture.
    """
    return _mixture(description), TargetSize(
        max_side, description["stride"], description["minimum_size"]
    )


class LiteBackend:
    """A .tflite file that `tfdense.exporting` wrote. It has sizes of its own."""

    def __init__(self, path: Path):
        from tfdense.lite import LiteMatcher

        self._matcher = LiteMatcher(path)
        try:
            self.mixture = _mixture(self._matcher.metadata)
        except ValueError as error:
            raise InputError(f"{path} is broken: {error}") from None
        self.working_size = self._matcher.size_for

    def run(self, source, target):
        return self._matcher.run(source, target)


class MaskedBackend:
    """A backend whose images have a fourth channel, below 128 where a pixel does not count.

    So a mask follows its image through all that a mode does with it.
    """

    def __init__(self, backend: Backend):
        self._backend = backend
        self.mixture = backend.mixture
        self.working_size = backend.working_size

    @property
    def coarse(self) -> Backend:
        """The same of the backend without its level at full resolution."""
        coarse = getattr(self._backend, "coarse", self._backend)
        return self if coarse is self._backend else MaskedBackend(coarse)

    def run(self, source, target):
        outputs = self._backend.run(source[..., :3].copy(), target[..., :3].copy())
        grid = pixel_positions(target.shape[:2])
        places = (grid + outputs["flow"]).astype(np.float32)
        counts = cv2.remap(
            source[..., 3], places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        masked = np.minimum(counts, target[..., 3]) < 128
        return {
            **outputs,
            "log_variance": np.where(
                masked[..., None], UNKNOWN_LOG_VARIANCE, outputs["log_variance"]
            ),
        }


def _mixture(metadata: dict) -> Mixture:
    try:
        parameters = dict(metadata["mixture"])
        kind = getattr(mixtures, parameters.pop("name"))
        if not issubclass(kind, Mixture):
            raise TypeError
        return kind(**parameters)
    except (KeyError, TypeError, AttributeError):
        raise ValueError("the description of its mixture is none") from None
