"""The configuration of an experiment: frozen dataclasses, read from YAML.

Every key has a default here; a YAML file names only what it changes. Unknown keys and values of
the wrong type are refused with a message that names them.
"""

import dataclasses
import difflib
import json
import os
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

import pydantic
import yaml
from pydantic import Field

from tfdense.data_config import DataConfig, Location, frozen
from tfdense.errors import InputError, check_file, printable, shown
from tfdense.files import write_text


@frozen
class ModelConfig:
    """Which network, and what its constructor is given.

    Attributes:
        preset: a key of ``tfdense.models.PRESETS``.
        options: keyword arguments of the network that differ from the preset's.
    """

    preset: str = "pdcnet-lite"
    options: dict[str, Any] = Field(default_factory=dict)


def _increasing(steps: tuple) -> tuple:
    if list(steps) != sorted(set(steps)):
        raise ValueError(f"should increase, is {steps}")
    return steps


# In a file, aliases written out.
_MOST_ENTRIES = 10_000

_Increasing = pydantic.AfterValidator(_increasing)
_Positive = Annotated[float, Field(gt=0)]


@frozen
class PhotometricConfig:
    """The terms of the objective without ground truth, see `tfdense.photometric`.

    Attributes:
        absolute, ssim, census: weights of the measures of how two pixels differ; their weighted
            mean is in 0..1. SSIM and above all census bear changes of light.
        confidence: beta, up to which such a difference is trusted in full: at 0.5 nearly all, from
            which to start; 0.2 tells more once the flow is good; 0 lets the confidence collapse.
        smoothness, magnitude: factors of the flow's gradient and of its length, in pixels.
        edge_awareness: how much less the gradient counts at edges of the image; 0 is plain L1.
    """

    absolute: float = Field(0.5, ge=0)
    ssim: float = Field(0.5, ge=0)
    census: float = Field(0.0, ge=0)
    confidence: float = Field(0.5, ge=0)
    smoothness: float = Field(0.002, ge=0)
    magnitude: float = Field(1e-3, ge=0)
    edge_awareness: float = Field(10.0, ge=0)

    @pydantic.model_validator(mode="after")
    def _some_measure(self):
        if not self.absolute + self.ssim + self.census:
            raise ValueError("at least one of absolute, ssim and census should be positive")
        return self


@frozen
class LossConfig:
    """What is minimised, over the levels of the network.

    Attributes:
        objective: ``likelihood`` of the true flow under the mixture, or ``photometric``, which
            needs no ground truth. `level_weights` are of either, `photometric` is of the latter,
            the others are of the former.
        matching_weight: of the likelihood of the true cell, where a network matches whole images.
        level_weights: one for each level, coarse to fine; None takes the network's own.
        resolution: ``level`` compares with the ground truth resized to each level's grid,
            ``full`` resizes the estimate to the ground truth.
        reduction: ``mean`` over the valid pixels of a level, or ``sum`` (the original's).
        unmatched_weight: of a pixel without a match relative to one with: its match is held to be
            anywhere, so that the confidence becomes low. 0 leaves such pixels out (the original).
        extrapolation_weight: of the flow's error where the true match is known, but hidden or out
            of view, in 1/px.
    """

    objective: Literal["likelihood", "photometric"] = "likelihood"
    matching_weight: float = Field(1.0, ge=0)
    level_weights: tuple[float, ...] | None = (0.3, 0.5, 1.0)
    resolution: Literal["level", "full"] = "level"
    reduction: Literal["mean", "sum"] = "mean"
    unmatched_weight: float = Field(1.0, ge=0)
    extrapolation_weight: float = Field(0.05, ge=0)
    photometric: PhotometricConfig = PhotometricConfig()


Strategy = Literal["single", "mirrored", "multiworker"]
"""Over what a training is spread, see `tfdense.training.strategies`."""

SHIPPED = "shipped"
"""What stands in `TrainConfig.initial_weights` for the weights that come with tfdense."""


@frozen
class TrainConfig:
    """How the weights are fitted.

    Attributes:
        optimizer: ``adamw``, or ``adam`` with the decay added to the gradient (coupled L2, of all
            weights alike).
        schedule: of the learning rate. ``cosine`` rises linearly over `warmup_steps`, then falls to
            `final_learning_rate` at `steps`; ``steps`` has neither, but halves the rate after each
            of the steps in `halve_at`.
        backbone_learning_rate: of the feature pyramids at the start, under ``adam``; None takes
            `learning_rate`.
        gradient_clip_norm: of all gradients together; None does not clip.
        initial_weights: a ``.weights.h5`` file of the same network to start from, such as that of
            an earlier stage, or ``shipped``: those that come with tfdense, together with the
            options of the network that they were trained with.
        frozen: parts of the network that are not trained, by what their names, as ``summary()``
            shows them, begin with.
        ema_momentum: of the exponential moving average of the weights; 0 turns it off. With it,
            validation and the saved weights are the average's.
        precision: ``mixed_bfloat16`` and ``mixed_float16`` compute in 16 bits and keep 32-bit
            weights; the mixture and the losses are float32 always.
        stop_after_left_out: so many steps in a row without a finite loss and gradient, which are
            left out, end the training.
        validation_pairs: how many pairs of held-out photos each validation takes.
        strategy: ``single`` trains on one device; ``mirrored`` shares each batch among the GPUs of
            the machine; ``multiworker`` among the machines that the variable ``TF_CONFIG`` names,
            where each gets the same configuration and, for the run, a folder that all reach. None
            takes the last where ``TF_CONFIG`` is set, else the second where there are GPUs.
    """

    steps: int = Field(20000, ge=1)
    batch_size: int = Field(8, ge=1)
    optimizer: Literal["adamw", "adam"] = "adamw"
    schedule: Literal["cosine", "steps"] = "cosine"
    learning_rate: float = Field(1e-3, gt=0)
    backbone_learning_rate: _Positive | None = None
    final_learning_rate: float = Field(1e-6, ge=0)
    warmup_steps: int = Field(200, ge=0)
    halve_at: Annotated[tuple[Annotated[int, Field(ge=1)], ...], _Increasing] = ()
    weight_decay: float = Field(1e-4, ge=0)
    gradient_clip_norm: _Positive | None = 1.0
    initial_weights: Location | None = None
    frozen: tuple[str, ...] = ()
    ema_momentum: float = Field(0.0, ge=0, lt=1)
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    log_every: int = Field(20, ge=1)
    validate_every: int = Field(500, ge=1)
    checkpoint_every: int = Field(500, ge=1)
    stop_after_left_out: int = Field(20, ge=1)
    validation_pairs: int = Field(32, ge=1)
    strategy: Strategy | None = None

    @pydantic.model_validator(mode="after")
    def _what_needs_what(self):
        if self.schedule == "steps" and not self.halve_at:
            raise ValueError("the schedule steps should come with the steps in halve_at")
        if self.backbone_learning_rate is not None and self.optimizer != "adam":
            raise ValueError("a backbone_learning_rate should come with the optimizer adam")
        return self


@frozen
class Config:
    """One experiment.

    Attributes:
        name: of the run; its files go to ``runs/NAME``.
        seed: of the weights' initialisation and of every random choice in the data.
    """

    name: str = "default"
    seed: int = Field(0, ge=0, lt=2**32)
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()

    @pydantic.model_validator(mode="after")
    def _something_to_learn(self):
        sequences, matches = self.data.sequences, self.data.matches
        if matches.folder and matches.share and self.loss.resolution == "level":
            raise ValueError(
                "loss.resolution should be full with data.matches.folder: single matches are lost "
                "on the coarse grids of the levels"
            )
        if sequences.folder and sequences.share == 1 and self.loss.objective == "likelihood":
            raise ValueError(
                "data.sequences.share should be below 1 or loss.objective photometric: sequences "
                "have no ground truth, which the likelihood needs"
            )
        return self


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Reads a configuration.

    Args:
        path: a YAML file, or None for the defaults.
        overrides: assignments such as ``train.steps=100``; the value is YAML.

    Raises:
        InputError: if the file is missing or not YAML, a key is unknown or a value does not fit.
    """
    values: dict = {}
    if path is not None:
        path = Path(path)
        check_file(path, "configuration file")
        values = _parse_yaml(path.read_bytes(), str(path)) or {}
        if not isinstance(values, dict):
            raise InputError(f"{path}: expected keys and values. Received: {shown(values)}")
        _drop_empty_groups(values, Config)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise InputError(
                f"Expected an override such as train.steps=100. Received: {printable(override)}"
            )
        # What is not UTF-8 is no YAML, but the name of a file.
        value = _parse_yaml(text, override) if _is_utf8(text) else text
        _assign(values, key.strip(), value)
    return _validate(values, "the command line" if path is None else str(path))


def locate(group):
    """Returns a configuration, or a group of one, whose paths hold in any working directory."""
    changes = {}
    for field in dataclasses.fields(group):
        value = getattr(group, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = locate(value)
        elif value not in (None, SHIPPED) and field.type == Location | None:
            changes[field.name] = os.path.abspath(value)
    return dataclasses.replace(group, **changes)


def dump_config(config: Config) -> str:
    """Returns the configuration as YAML, every key included."""
    plain = json.loads(json.dumps(dataclasses.asdict(config)))
    return yaml.safe_dump(plain, sort_keys=False)


def save_config(path: str | Path, config: Config) -> None:
    """Writes the configuration as YAML, every key included."""
    write_text(path, dump_config(config))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parse_yaml(text: str | bytes, where: str):
    try:
        value = yaml.safe_load(text)
        if _entries(value, {}) > _MOST_ENTRIES:
            raise yaml.YAMLError(f"its aliases stand for more than {_MOST_ENTRIES} entries")
        return value
    except RecursionError:
        reason = "it is nested too deep"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        reason = f"{error.problem or error.context}{place}"
    except Exception as error:  # PyYAML lets through what the making of a value raises
        reason = " ".join(str(error).split()) or type(error).__name__
    raise InputError(f"{printable(where)} is not valid YAML: {reason}")


def _entries(value, known: dict[int, int]) -> int:
    """Counts what a value holds, as often as it is there: few aliases can stand for gigabytes."""
    if not isinstance(value, (dict, list, tuple, set)):
        return 1
    if id(value) not in known:
        known[id(value)] = _MOST_ENTRIES + 1  # of what holds itself
        parts = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_entries(part, known) for part in parts)
    return known[id(value)]


def _drop_empty_groups(values: dict, group: Any) -> None:
    """Removes groups with nothing under them, which YAML reads as null."""
    for field in dataclasses.fields(group):
        is_dataclass = dataclasses.is_dataclass(field.type)
        value = values.get(field.name)
        if is_dataclass and isinstance(value, dict):
            _drop_empty_groups(value, field.type)
        elif value is None and (is_dataclass or get_origin(field.type) is dict):
            values.pop(field.name, None)


def _assign(values: dict, key: str, value) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise InputError(
                f"Cannot set {printable(key)}: {printable(parent)} is a value, not a group of keys."
            )
    values[last] = value


def _validate(values: dict, where: str) -> Config:
    try:
        return pydantic.TypeAdapter(Config).validate_python(values)
    except pydantic.ValidationError as error:
        problems = "; ".join(_describe(problem) for problem in error.errors())
        raise InputError(printable(f"Configuration from {where}: {problems}")) from None


def _describe(problem: dict) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] == "unexpected_keyword_argument":
        close = difflib.get_close_matches(location[-1], _keys(location[:-1]), n=1)
        return f"unknown key {key}" + (f" (did you mean {close[0]}?)" if close else "")
    expected = problem["msg"].removeprefix("Input ").removeprefix("Value error, ")
    if not location:  # of groups that do not go together
        return expected
    if isinstance(problem["input"], dict):  # values of a group that do not go together
        return f"{key} {expected}"
    return f"{key} {expected}, received {shown(problem['input'])}"


def _keys(parents: list[str]) -> list[str]:
    """Names the keys of the group at `parents`."""
    group: Any = Config
    for parent in parents:
        fields = {field.name: field.type for field in dataclasses.fields(group)}
        group = fields.get(parent)
        if isinstance(group, types.UnionType) or not dataclasses.is_dataclass(group):
            return []
    return [field.name for field in dataclasses.fields(group)]
