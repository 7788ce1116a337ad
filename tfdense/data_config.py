"""The configuration of the training data: photos, and how pairs are made of them."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field
from pydantic.dataclasses import dataclass

frozen = dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid", allow_inf_nan=False))

Location = Annotated[str, "location"]
"""A path of a file or folder, relative to the working directory if it is not absolute."""

SOURCES = ("megadepth", "sequences", "flow", "homographies", "matches")
"""What training pairs may be of beside warped photos, the names of groups of `DataConfig`."""

_Fraction = Annotated[float, Field(ge=0, le=1)]
_NotNegative = Annotated[float, Field(ge=0)]
_Positive = Annotated[float, Field(gt=0)]


def _ordered(bounds: tuple) -> tuple:
    if bounds[0] > bounds[1]:
        raise ValueError(f"should be (smallest, largest), is {bounds}")
    return bounds


_Ordered = pydantic.AfterValidator(_ordered)
_Range = Annotated[tuple[_NotNegative, _NotNegative], _Ordered]
_Fractions = Annotated[tuple[_Fraction, _Fraction], _Ordered]
_Shares = Annotated[tuple[_Positive, Annotated[float, Field(gt=0, le=1)]], _Ordered]
_Positives = Annotated[tuple[_Positive, _Positive], _Ordered]
_Angle = Annotated[float, Field(ge=1, lt=150)]
_Ratio = Annotated[float, Field(ge=0.05, le=20)]
_Ratios = Annotated[tuple[_Ratio, _Ratio], _Ordered]
# Of a field on nodes that are 1/32 of the size apart.
_Smoothness = Annotated[float, Field(ge=1 / 32, le=1)]
_Logarithm = Annotated[float, Field(ge=0, le=4)]
_Counts = Annotated[tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]], _Ordered]


@frozen
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
        least_strength: of a pair, as share of the strength reached; each has one between that and
            all of it.
    """

    homography: _NotNegative = 0.4
    affine: _NotNegative = 0.2
    thin_plate_spline: _NotNegative = 0.2
    composition: _NotNegative = 0.2
    corner_displacement: Annotated[float, Field(ge=0, lt=1)] = 2 / 3
    rotation: _NotNegative = 15.0
    stretch: _Positives = (0.75, 1.25)
    stretch_direction: _NotNegative = 30.0
    translation: _NotNegative = 0.25
    control_point_deviation: _NotNegative = 0.2
    composition_strength: _Fraction = 0.5
    view: _Shares = (0.55, 0.85)
    mirror: _Fraction = 0.5
    curriculum_steps: int = Field(0, ge=0)
    curriculum_start: _Fraction = 0.2
    least_strength: _Fraction = 1.0

    @pydantic.model_validator(mode="after")
    def _some_kind(self):
        if not self.homography + self.affine + self.thin_plate_spline + self.composition:
            raise ValueError("at least one kind of warp should have a positive weight")
        return self


@frozen
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
    smoothness: Annotated[tuple[_Smoothness, _Smoothness], _Ordered] = (0.1, 0.14)
    strength: _Range = (1.0, 1.4)


@frozen
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

    folder: Location | None = None
    probability: _Fraction = 0.8
    count: _Counts = (1, 3)
    size: _Shares = (0.15, 0.5)
    rotation: _NotNegative = 30.0
    log_scale: _Logarithm = 0.3
    nudge: _NotNegative = 8.0
    nudge_probability: _Fraction = 0.5


@frozen
class WorldsConfig:
    """Pairs of two views of a world with depth in place of a warp, see `tfdense.data.worlds`.

    The cameras look at the middle of the scene from a distance of about 1, the unit of length.
    Objects are the cut-outs of `ObjectConfig`, as often, as many and as large as it says.

    Attributes:
        share: of the pairs of photos that show a world.
        photos: how many photos a world is made of.
        field_of_view: smallest and largest, in degrees, before any zoom.
        surfaces: smallest and largest number of planes: a wall far behind, often the ground, and
            panels. Objects come in addition, and something at infinity.
        ground: how often the second plane is the ground.
        tilt: largest angle by which panels turn away from the viewer, in degrees.
        depth: smallest and largest distance of panels; the wall is as far as the latter at least.
        relief: share of the planes that are not flat.
        relief_height: smallest and largest height of a relief, as share of its distance.
        baseline: smallest and largest angle between the lines of sight, in degrees about the middle
            of the scene; its logarithm is uniform.
        approach: smallest and largest ratio of the cameras' distances from there.
        pan: a camera misses the middle by up to this share of the field of view.
        rotation: largest turn about the line of sight, in degrees. Both are smaller where the
            baseline is: by the root of its share of the largest.
        zoom: smallest and largest ratio of the focal lengths; its logarithm is uniform.
        zoom_probability: how often there is any zoom.
        moving: share of the objects that have a rigid motion of their own.
        shift: such an object moves up to this share of its distance along each axis.
        turn: and turns by up to this angle, in degrees, about any axis.
    """

    share: _Fraction = 0.0
    photos: int = Field(4, ge=1)
    field_of_view: Annotated[tuple[_Angle, _Angle], _Ordered] = (40.0, 75.0)
    surfaces: _Counts = (1, 4)
    ground: _Fraction = 0.6
    tilt: Annotated[float, Field(ge=0, lt=90)] = 60.0
    depth: _Positives = (0.6, 1.6)
    relief: _Fraction = 0.3
    relief_height: Annotated[tuple[_NotNegative, Annotated[float, Field(le=0.2)]], _Ordered] = (
        0.02,
        0.12,
    )
    baseline: Annotated[tuple[_Positive, Annotated[float, Field(le=90)]], _Ordered] = (0.5, 60.0)
    approach: _Ratios = (0.7, 1.4)
    pan: _Fraction = 0.15
    rotation: _NotNegative = 15.0
    zoom: _Ratios = (0.3, 3.0)
    zoom_probability: _Fraction = 0.3
    moving: _Fraction = 0.5
    shift: _Fraction = 0.15
    turn: _NotNegative = 30.0


@frozen
class DomainConfig:
    """Changes to another domain, see `tfdense.data.domains`; none of them unless asked for.

    A number named like a change is how often an image gets it that `PhotometryConfig.probability`
    has changed at all; what follows is the range from which it is drawn how strong it is.

    Attributes:
        season: foliage in the colours of autumn, drought or winter; `season_strength` 1 leaves
            nothing of its own.
        snow: on `snow_cover` of the ground, roughly.
        shadow: shadow edges; a shadow takes `shadow_darkness` of the light.
        fog: `fog_density` is its optical depth at a mean distance; 1 leaves 37 % of the contrast.
        night: `night_light` is the share of the grey levels that is left where no lamp shines,
            or more where all would be black; lit windows and other small bright things stay.
        glare: highlights and the sun, as bright as `glare_strength` of white.
        infrared: one channel of bands other than the luma's, foliage often bright; `infrared_remap`
            is how far brightness is remapped at random, 1 leaving nothing of its order.
        inversion: negatives.
        curves: a curve for each channel; `curve_deviation` is that of the logarithm of the slope.
        sketch: lines on paper or bright edges, of `sketch_strength` in the image.
        histogram: that of another photo of the batch, on top of all others; `histogram_strength` 1
            takes it over whole. A batch of one pair, pairs without ground truth and validation
            have none.
    """

    season: _Fraction = 0.0
    season_strength: _Fractions = (0.4, 1.0)
    snow: _Fraction = 0.0
    snow_cover: _Fractions = (0.2, 0.8)
    shadow: _Fraction = 0.0
    shadow_darkness: _Fractions = (0.3, 0.7)
    fog: _Fraction = 0.0
    fog_density: _Range = (0.4, 1.5)
    night: _Fraction = 0.0
    night_light: _Fractions = (0.2, 0.5)
    glare: _Fraction = 0.0
    glare_strength: _Fractions = (0.4, 1.0)
    infrared: _Fraction = 0.0
    infrared_remap: _Fractions = (0.0, 0.7)
    inversion: _Fraction = 0.0
    curves: _Fraction = 0.0
    curve_deviation: Annotated[tuple[_Logarithm, _Logarithm], _Ordered] = (0.2, 0.7)
    sketch: _Fraction = 0.0
    sketch_strength: _Fractions = (0.6, 1.0)
    histogram: _Fraction = 0.0
    histogram_strength: _Fractions = (0.5, 1.0)


@frozen
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
        domains: changes that go further, made before these; none by default.
    """

    probability: _Fraction = 0.9
    brightness: _NotNegative = 0.15
    contrast: _Fraction = 0.4
    saturation: _Fraction = 0.5
    hue: _NotNegative = 20.0
    gamma: _Logarithm = 0.35
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
    domains: DomainConfig = DomainConfig()


@frozen
class MegaDepthConfig:
    """Pairs of real photos among the training pairs, see `tfdense.data.megadepth`.

    Attributes:
        folder: that the paths in the scene files start from; None leaves MegaDepth out.
        scenes: folder of the scene files, below `folder` if not absolute.
        scene_list: text file with the names of the scenes to train on, one a line; None takes all
            but those of `validation_scene_list`.
        validation_scene_list: likewise, of the scenes to validate on: then all validation pairs are
            of these. None validates on photos.
        share: of the training pairs that are of MegaDepth.
        overlap: of the images of a pair, more than the first and at most the second.
        pairs_per_scene: at most so many a scene in each epoch, drawn anew.
        validation_pairs_per_scene: at most so many a scene to validate on.
        ground_truth: ``sparse``, the matches of the reconstruction (the authors'), or ``depth``, of
            all pixels whose depths agree.
    """

    folder: Location | None = None
    scenes: str = "scene_info"
    scene_list: Location | None = None
    validation_scene_list: Location | None = None
    share: _Fraction = 0.5
    overlap: _Fractions = (0.3, 1.0)
    pairs_per_scene: int = Field(300, ge=1)
    validation_pairs_per_scene: int = Field(25, ge=1)
    ground_truth: Literal["sparse", "depth"] = "sparse"

    @pydantic.model_validator(mode="after")
    def _scenes_are_somewhere(self):
        if self.validation_scene_list is not None and self.folder is None:
            raise ValueError("a validation_scene_list should come with a folder")
        return self


@frozen
class SequencesConfig:
    """Pairs of frames of videos among the training pairs, see `tfdense.data.sequences`.

    They have no ground truth: only ``loss.objective: photometric`` learns from them.

    Attributes:
        folder: of a sequence, or of sub-folders with one each; None leaves sequences out. Frames
            are kept in memory as photos are.
        share: of the training pairs that are frames.
        gap: largest distance of the frames of a pair in their sequence.
    """

    folder: Location | None = None
    share: _Fraction = 0.5
    gap: int = Field(1, ge=1)


@frozen
class FlowConfig:
    """Pairs with a dense true flow among the training pairs, see `tfdense.data.truth`.

    Attributes:
        folder: of the data set; None leaves it out.
        layout: how it is arranged, by the name that ``tfdense evaluate -h`` lists; ``auto`` finds
            out, and takes all that it finds.
        share: of the training pairs that are of it.
        view: smallest and largest share of the images' short side that a pair shows, at the same
            place in both.
        mirror: how often a pair is mirrored.
    """

    folder: Location | None = None
    layout: str = "auto"
    share: _Fraction = 0.5
    view: _Shares = (0.6, 1.0)
    mirror: _Fraction = 0.5


@frozen
class HomographiesConfig:
    """Pairs with a true homography among the training pairs, see `tfdense.data.truth`.

    Attributes:
        folder, layout, share: as in `FlowConfig`. Images are shown whole.
    """

    folder: Location | None = None
    layout: str = "auto"
    share: _Fraction = 0.5


@frozen
class MatchesConfig:
    """Pairs with some true matches among the training pairs, see `tfdense.data.truth`.

    They take part in a loss at full resolution only (``loss.resolution: full``).

    Attributes:
        folder, layout, share: as in `FlowConfig`. Images are shown whole.
    """

    folder: Location | None = None
    layout: str = "auto"
    share: _Fraction = 0.5


@frozen
class DataConfig:
    """Where training pairs come from and how they are made.

    Attributes:
        given: what ``--data`` names: a folder of ``photos``, or of pairs with ground ``truth``,
            whose arrangement says whether it is `flow`, `homographies` or `matches`.
        photos: folder of training photos, searched recursively; None takes the bundled ones.
            They are reduced to a short side of 1.5 `size` and kept in memory up to 1 GiB (about
            1800 photos at size 256); those beyond are decoded for every pair, so a larger folder
            is better reduced beforehand.
        validation_photos: folder of held-out photos. None takes the bundled ones if `photos` is
            None too, else holds out `validation_share` of `photos`.
        validation_share: share of `photos` that is held out, chosen by the files' names. Of pairs
            with ground truth so many scenes are held out, and validation takes these alone.
        validation_photometry: whether validation pairs get changes of colour too.
        size: height and width of the images of a pair, in pixels.
        mask: which flows of synthetic pairs are held to be ground truth: of ``visible`` matches; of
            ``uncovered`` ones, which may lie outside the source but not behind an object
            (PDC-Net+); ``all`` (PDC-Net).
        unrelated: share of the training pairs whose source shows another photo. A batch of one
            pair has none.
    """

    given: Literal["photos", "truth"] = "photos"
    photos: Location | None = None
    validation_photos: Location | None = None
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    validation_photometry: bool = False
    size: int = Field(256, ge=32)
    mask: Literal["visible", "uncovered", "all"] = "visible"
    unrelated: _Fraction = 0.05
    warp: WarpConfig = WarpConfig()
    perturbation: PerturbationConfig = PerturbationConfig()
    objects: ObjectConfig = ObjectConfig()
    worlds: WorldsConfig = WorldsConfig()
    photometry: PhotometryConfig = PhotometryConfig()
    megadepth: MegaDepthConfig = MegaDepthConfig()
    sequences: SequencesConfig = SequencesConfig()
    flow: FlowConfig = FlowConfig()
    homographies: HomographiesConfig = HomographiesConfig()
    matches: MatchesConfig = MatchesConfig()

    @pydantic.model_validator(mode="after")
    def _shares_of_a_whole(self):
        groups = {name: getattr(self, name) for name in SOURCES}
        shares = {name: group.share for name, group in groups.items() if group.folder is not None}
        if sum(shares.values()) > 1 + 1e-6:
            stated = ", ".join(f"{name} {share:g}" for name, share in shares.items())
            raise ValueError(f"the shares should add up to 1 at most, are {stated}")
        return self
