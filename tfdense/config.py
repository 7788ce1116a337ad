"""The configuration of an experiment: frozen dataclasses, read from YAML.

Every key has a default here; a YAML file names only what it changes. Unknown keys and values of
the wrong type are refused with a message that names them.
"""

import dataclasses
import difflib
import json
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import Field
from pydantic.dataclasses import dataclass

from tfdense.errors import InputError
from tfdense.files import replacing

_frozen = dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid", allow_inf_nan=False))


@_frozen
class ModelConfig:
    """Which network, and what its constructor is given.

    Attributes:
        preset: a key of ``tfdense.models.PRESETS``.
        options: keyword arguments of the network that differ from the preset's.
    """

    preset: str = "pdcnet-lite"
    options: dict[str, Any] = Field(default_factory=dict)


_Fraction = Annotated[float, Field(ge=0, le=1)]
_NotNegative = Annotated[float, Field(ge=0)]
_Positive = Annotated[float, Field(gt=0)]


def _ordered(bounds: tuple) -> tuple:
    if bounds[0] > bounds[1]:
        raise ValueError(f"should be (smallest, largest), is {bounds}")
    return bounds


def _increasing(steps: tuple) -> tuple:
    if list(steps) != sorted(set(steps)):
        raise ValueError(f"should increase, is {steps}")
    return steps


_Ordered = pydantic.AfterValidator(_ordered)
_Increasing = pydantic.AfterValidator(_increasing)
_Range = Annotated[tuple[_NotNegative, _NotNegative], _Ordered]
_Shares = Annotated[tuple[_Positive, Annotated[float, Field(gt=0, le=1)]], _Ordered]
_Counts = Annotated[tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]], _Ordered]


@_frozen
class WarpConfig:
    """Random warps of the whole photo, the laws of PDC-Net's training pairs.

    Lengths are in normalised coordinates, in which the image spans [-1, 1].

    Attributes:
        homography, affine, thin_plate_spline, composition: how often each kind is drawn, as
            weights. A composition is a homography of an affine warp of a spline.
        corner_displacement: each corner's coordinates move uniformly up to this far.
        rotation: largest angle of the affine warp, in degrees.
        stretch: smallest and largest factor of the affine warp along its two axes.
        stretch_direction: largest angle of those axes, in degrees.
        translation: largest shift of the affine warp.
        control_point_deviation: standard deviation of the spline's 3x3 control points.
        composition_strength: factor on each part of a composition.
        view: smallest and largest share of the photo's short side that the source shows.
        mirror: how often the photo is mirrored first.
        curriculum_steps: the warps grow linearly to full strength over so many training steps;
            0 starts at full strength.
        curriculum_start: the strength of the first step of a curriculum.
    """

    homography: _NotNegative = 0.4
    affine: _NotNegative = 0.2
    thin_plate_spline: _NotNegative = 0.2
    composition: _NotNegative = 0.2
    corner_displacement: Annotated[float, Field(ge=0, lt=1)] = 2 / 3
    rotation: _NotNegative = 15.0
    stretch: tuple[_Positive, _Positive] = (0.75, 1.25)
    stretch_direction: _NotNegative = 30.0
    translation: _NotNegative = 0.25
    control_point_deviation: _NotNegative = 0.2
    composition_strength: _Fraction = 0.5
    view: _Shares = (0.55, 0.85)
    mirror: _Fraction = 0.5
    curriculum_steps: int = Field(0, ge=0)
    curriculum_start: _Fraction = 0.2

    @pydantic.model_validator(mode="after")
    def _some_kind(self):
        if not self.homography + self.affine + self.thin_plate_spline + self.composition:
            raise ValueError("at least one kind of warp should have a positive weight")
        return self


@_frozen
class PerturbationConfig:
    """Local elastic perturbations of the target (PDC-Net, section 3.4).

    Attributes:
        probability: how often a pair gets them.
        count: smallest and largest number of perturbed places.
        radius: standard deviation of the bump that limits each place, in pixels.
        smoothness: standard deviation of the blur of the elastic field, as share of the size.
        strength: factor on the blurred noise, as multiple of the size.
    """

    probability: _Fraction = 1.0
    count: _Counts = (5, 15)
    radius: _Range = (3.0, 10.0)
    smoothness: _Shares = (0.1, 0.14)
    strength: _Range = (1.0, 1.4)


@_frozen
class ObjectConfig:
    """Objects that move on their own (PDC-Net: count 1; PDC-Net+: count 4, rotation 90).

    Attributes:
        folder: cut-outs with an alpha channel; None cuts polygons and blobs from other photos.
        probability: how often a pair gets any.
        count: smallest and largest number of objects in such a pair.
        size: smallest and largest longer side, as share of the image size.
        rotation: largest angle, in degrees, about the image's centre.
        log_scale: largest absolute logarithm of the change of size.
        nudge: an object either moves up to so many pixels along x and y, or to any place.
        nudge_probability: how often it is the former.
    """

    folder: str | None = None
    probability: _Fraction = 0.8
    count: _Counts = (1, 3)
    size: _Shares = (0.15, 0.5)
    rotation: _NotNegative = 30.0
    log_scale: _NotNegative = 0.3
    nudge: _NotNegative = 8.0
    nudge_probability: _Fraction = 0.5


@_frozen
class PhotometryConfig:
    """Changes of colour and sharpness, drawn for each image of a pair on its own.

    Attributes:
        probability: how often an image is changed at all.
        brightness: largest shift, as share of the value range.
        contrast, saturation: largest relative change.
        hue: largest turn of the colour circle, in degrees.
        gamma: largest absolute logarithm of the exponent.
        shading: largest relative change of brightness by a smooth gradient over the image.
        grey, blur, noise, jpeg: how often the image gets each.
        blur_deviation: smallest and largest standard deviation of the blur, in pixels.
        noise_deviation: largest standard deviation of the noise, in grey levels of 0..255.
        jpeg_quality: lowest and highest quality of the compression.
    """

    probability: _Fraction = 0.9
    brightness: _NotNegative = 0.15
    contrast: _Fraction = 0.4
    saturation: _Fraction = 0.5
    hue: _NotNegative = 20.0
    gamma: _NotNegative = 0.35
    shading: _Fraction = 0.25
    grey: _Fraction = 0.1
    blur: _Fraction = 0.2
    noise: _Fraction = 0.3
    jpeg: _Fraction = 0.2
    blur_deviation: _Range = (0.3, 1.5)
    noise_deviation: _NotNegative = 10.0
    jpeg_quality: Annotated[
        tuple[Annotated[int, Field(ge=1, le=100)], Annotated[int, Field(ge=1, le=100)]], _Ordered
    ] = (30, 90)


@_frozen
class MegaDepthConfig:
    """Pairs of real photos among the training pairs, see `tfdense.data.megadepth`.

    Attributes:
        folder: that the paths in the scene files start from; None leaves MegaDepth out.
        scenes: folder of the scene files, below `folder` if not absolute.
        scene_list: text file with the names of the scenes to take, one a line; None takes all.
        share: of the training pairs that are of MegaDepth.
        overlap: of the images of a pair, more than the first and at most the second.
        pairs_per_scene: at most so many a scene in each epoch, drawn anew.
        ground_truth: ``sparse``, the matches of the reconstruction (the authors'), or ``depth``, of
            all pixels whose depths agree.
    """

    folder: str | None = None
    scenes: str = "scene_info"
    scene_list: str | None = None
    share: _Fraction = 0.5
    overlap: Annotated[tuple[_Fraction, _Fraction], _Ordered] = (0.3, 1.0)
    pairs_per_scene: int = Field(300, ge=1)
    ground_truth: Literal["sparse", "depth"] = "sparse"


@_frozen
class DataConfig:
    """Where training pairs come from and how they are made.

    Attributes:
        photos: folder of training photos, searched recursively; None takes the bundled ones.
            They are reduced to a short side of 1.5 `size` and kept in memory up to 1 GiB (about
            1800 photos at size 256); those beyond are decoded for every pair, so a larger folder
            is better reduced beforehand.
        validation_photos: folder of held-out photos. None takes the bundled ones if `photos` is
            None too, else holds out `validation_share` of `photos`.
        validation_share: share of `photos` that is held out, chosen by the files' names.
        validation_photometry: whether validation pairs get changes of colour too.
        size: height and width of the images of a pair, in pixels.
        mask: which flows of synthetic pairs are held to be ground truth: of ``visible`` matches; of
            ``uncovered`` ones, which may lie outside the source but not behind an object
            (PDC-Net+); ``all`` (PDC-Net).
    """

    photos: str | None = None
    validation_photos: str | None = None
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    validation_photometry: bool = False
    size: int = Field(256, ge=32)
    mask: Literal["visible", "uncovered", "all"] = "visible"
    warp: WarpConfig = WarpConfig()
    perturbation: PerturbationConfig = PerturbationConfig()
    objects: ObjectConfig = ObjectConfig()
    photometry: PhotometryConfig = PhotometryConfig()
    megadepth: MegaDepthConfig = MegaDepthConfig()


@_frozen
class LossConfig:
    """The mixture likelihood over the levels of the network.

    Attributes:
        matching_weight: of the likelihood of the true cell, where a network matches whole images.
        level_weights: one for each level, coarse to fine.
        resolution: ``level`` compares with the ground truth resized to each level's grid,
            ``full`` resizes the estimate to the ground truth.
        reduction: ``mean`` over the valid pixels of a level, or ``sum`` (the original's).
    """

    matching_weight: float = Field(1.0, ge=0)
    level_weights: tuple[float, ...] = (0.3, 0.5, 1.0)
    resolution: Literal["level", "full"] = "level"
    reduction: Literal["mean", "sum"] = "mean"


@_frozen
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
            an earlier stage.
        ema_momentum: of the exponential moving average of the weights; 0 turns it off. With it,
            validation and the saved weights are the average's.
        precision: ``mixed_bfloat16`` and ``mixed_float16`` compute in 16 bits and keep 32-bit
            weights; the mixture and the losses are float32 always.
        validation_pairs: how many pairs of held-out photos each validation takes.
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
    initial_weights: str | None = None
    ema_momentum: float = Field(0.0, ge=0, lt=1)
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    log_every: int = Field(20, ge=1)
    validate_every: int = Field(500, ge=1)
    checkpoint_every: int = Field(500, ge=1)
    validation_pairs: int = Field(32, ge=1)

    @pydantic.model_validator(mode="after")
    def _what_needs_what(self):
        if self.schedule == "steps" and not self.halve_at:
            raise ValueError("the schedule steps should come with the steps in halve_at")
        if self.backbone_learning_rate is not None and self.optimizer != "adam":
            raise ValueError("a backbone_learning_rate should come with the optimizer adam")
        return self


@_frozen
class Config:
    """One experiment.

    Attributes:
        name: of the run; its files go to ``runs/NAME``.
        seed: of the weights' initialisation and of every random choice in the data.
    """

    name: str = "default"
    seed: int = 0
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()


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
        if not path.is_file():
            raise InputError(f"There is no configuration file {path}.")
        values = _parse_yaml(path.read_bytes(), str(path)) or {}
        if not isinstance(values, dict):
            raise InputError(f"{path}: expected keys and values. Received: {values!r}")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise InputError(f"Expected an override such as train.steps=100. Received: {override}")
        _assign(values, key.strip(), _parse_yaml(text, override))
    return _validate(values, "the command line" if path is None else str(path))


def dump_config(config: Config) -> str:
    """Returns the configuration as YAML, every key included."""
    plain = json.loads(json.dumps(dataclasses.asdict(config)))
    return yaml.safe_dump(plain, sort_keys=False)


def save_config(path: str | Path, config: Config) -> None:
    """Writes the configuration as YAML, every key included."""
    with replacing(path) as temporary:
        temporary.write_text(dump_config(config), encoding="utf-8")


def _parse_yaml(text: str | bytes, where: str):
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{where} is not valid YAML: {error}") from None


def _assign(values: dict, key: str, value) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise InputError(f"Cannot set {key}: {parent} is a value, not a group of keys.")
    values[last] = value


def _validate(values: dict, where: str) -> Config:
    try:
        return pydantic.TypeAdapter(Config).validate_python(values)
    except pydantic.ValidationError as error:
        problems = "; ".join(_describe(problem) for problem in error.errors())
        raise InputError(f"Configuration from {where}: {problems}") from None


def _describe(problem: dict) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] == "unexpected_keyword_argument":
        close = difflib.get_close_matches(location[-1], _keys(location[:-1]), n=1)
        return f"unknown key {key}" + (f" (did you mean {close[0]}?)" if close else "")
    expected = problem["msg"].removeprefix("Input ").removeprefix("Value error, ")
    return f"{key} {expected}, received {problem['input']!r}"


def _keys(parents: list[str]) -> list[str]:
    """Names the keys of the group at `parents`."""
    group: Any = Config
    for parent in parents:
        fields = {field.name: field.type for field in dataclasses.fields(group)}
        group = fields.get(parent)
        if isinstance(group, types.UnionType) or not dataclasses.is_dataclass(group):
            return []
    return [field.name for field in dataclasses.fields(group)]
