"""What matching two images gives: a flow, how far to trust it, and what both are good for."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from tfdense.checks import (
    camera_matrix,
    check_distance,
    check_flag,
    check_folder_name,
    check_names,
    check_number,
    check_threshold,
    key_points,
    lens_distortion,
)
from tfdense.errors import InputError, shown
from tfdense.masking import is_masked
from tfdense.optional import needed_for
from tfdense.pixels import pixel_positions
from tfdense.resampling import sample
from tfdense.results.keypoints import KeypointMatches, match_keypoints
from tfdense.results.spreading import DEFAULT_THRESHOLD, best_spread
from tfdense.two_view.types import Homography, Matches, Pose

if TYPE_CHECKING:
    from tfdense.two_view.uncalibrated import SelfCalibration

# Neighbouring pixels have much the same error: more matches say hardly more of the geometry.
_FITTED_MATCHES = 5000


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Match:
    """The dense match of two images: for every pixel of the target its place in the source.

    Pixel (0, 0) is the centre of the upper left pixel. The target's pixel (x, y) shows what the
    source shows at ``(x, y) + flow[y, x]``. One unit is one pixel of the source, in x and in y.

    Attributes:
        flow: (dx, dy) in px, float32 [height, width, 2] at the target's size. It points into the
            source's own pixels, also if the images differ in size.
        confidence: P_R, the probability that the true place lies within `radius` px of the
            estimated one in x and in y, float32 [height, width].
        log_variance: of the mixture's components, float32 [height, width, components], in log px²;
            of a match in tiles float16, as its logits.
            Where the source's sides are scaled differently for the network, it is that of the
            geometric mean of both axes.
        logits: of the components' weights, float32 [height, width, components].
        radius: R of the confidence, in px of the source.
        source, target: the images, uint8 [height, width, 3].
        reverse: the match of the source's pixels in the target, if it was asked for.
        source_mask, target_mask: which pixels count, bool [height, width]; None if all do. Where
            the target is masked, or the place of its match, the confidence is 0.
    """

    flow: np.ndarray
    confidence: np.ndarray
    log_variance: np.ndarray
    logits: np.ndarray
    radius: float
    source: np.ndarray
    target: np.ndarray
    reverse: Match | None = None
    source_mask: np.ndarray | None = None
    target_mask: np.ndarray | None = None

    def __getitem__(self, name: str) -> np.ndarray:
        """Returns an attribute as what a dictionary would hold: ``match["flow"]``.

        Raises:
            KeyError: if it is none of those that iterating gives.
        """
        if not isinstance(name, str) or name not in list(self):
            raise KeyError(f"Expected any of {', '.join(self)}. Received: {shown(name)}")
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        """Yields the names that ``match[name]`` takes."""
        yield from (field.name for field in dataclasses.fields(self))
        yield "variance"

    @property
    def variance(self) -> np.ndarray:
        """The mixture's variance of one coordinate, in px², float32 [height, width]."""
        weights = np.exp(self.logits - self.logits.max(axis=-1, keepdims=True))
        variances = np.exp(self.log_variance, dtype=np.float32)
        return (weights * variances).sum(axis=-1) / weights.sum(axis=-1)

    def positions(self) -> np.ndarray:
        """Returns the place (x, y) in the source of each target pixel, [height, width, 2]."""
        return self.flow + pixel_positions(self.target.shape[:2], np.float32)

    def cycle_error(self) -> np.ndarray:
        """Returns by how much the way to the source and back misses each target pixel.

        It needs a match made with ``both_ways=True``. A wrong match seldom finds back.

        Returns:
            In px of the target, float32 [height, width]; infinite where the match lies outside of
            the source.

        Raises:
            InputError: if there is no match of the other direction.
        """
        positions = self.positions()
        returned = _remap(self._reverse().positions(), positions)
        start = pixel_positions(self.target.shape[:2], np.float32)
        error = np.linalg.norm(returned - start, axis=-1)
        return np.where(_is_inside(positions, self.source), error, np.float32(np.inf))

    def warp(self) -> np.ndarray:
        """Pulls the source to the target: where the match is right, it looks like the target.

        Returns:
            uint8 [height, width, 3] at the target's size, black where the match lies outside of
            the source or in what is masked, or the target is.
        """
        source = self.source
        if self.source_mask is not None:
            source = np.where(self.source_mask[..., None], source, np.uint8(0))
        warped = _remap(source, self.positions())
        if self.target_mask is not None:
            warped[~self.target_mask] = 0
        return warped

    def __repr__(self) -> str:
        height, width = self.confidence.shape
        return (
            f"<Match of {width}x{height} px, {self.confidence.mean():.0%} right on average "
            f"within {self.radius:.3g} px>"
        )

    def matches(
        self,
        n: int | None = None,
        threshold: float = DEFAULT_THRESHOLD,
        cycle: float | None = None,
        mutual: bool = False,
    ) -> Matches:
        """Selects single matches, one at most for each target pixel.

        Only those count whose confidence reaches the threshold and whose place lies inside of the
        source. With `n`, the target is cut into square cells of such a size that at least `n` of
        them hold a match; of the most confident match of each cell, the best `n` are taken.

        Args:
            n: how many at most; None returns all.
            threshold: the least confidence.
            cycle: the largest `cycle_error`, in px of the target; None does not check it.
            mutual: whether the pixel of the source next to the place must itself have its place
                next to the target's pixel. This is stricter than most uses need.

        Raises:
            InputError: if `n` is not positive, the threshold not in 0..1, cycle no number, mutual
                neither True nor False, or a check needs the match of the other direction and there
                is none.
        """
        if n is not None and not (isinstance(n, numbers.Integral) and n >= 1):
            raise InputError(f"Expected the number of matches to be positive. Received: {shown(n)}")
        positions = self.positions()
        accepted = self._accepted(threshold, cycle) & _is_inside(positions, self.source)
        if check_flag("mutual", mutual):
            accepted[accepted] = self._is_mutual(positions[accepted], np.argwhere(accepted))
        rows, columns = best_spread(np.where(accepted, self.confidence, -1), n)
        return Matches(
            positions[rows, columns],
            np.stack([columns, rows], axis=-1).astype(np.float32),
            self.confidence[rows, columns],
        )

    def keypoints(
        self,
        source,
        target,
        threshold: float = DEFAULT_THRESHOLD,
        distance: float | None = None,
        cycle: float | None = None,
    ) -> KeypointMatches:
        """Matches key points that a detector found in each image.

        The flow at the pixel of a target's key point takes it to a place in the source; it is
        matched with the source's key point next to that place. Several may share one of the source.

        Args:
            source, target: the key points' (x, y), in px, [count, 2] each.
            threshold: the least confidence at the target's pixel.
            distance: the largest from the place to the source's key point, in px of the source;
                None takes three times the radius of the confidence, the authors' 3 px of what the
                network sees.
            cycle: the largest `cycle_error` at the target's pixel; None does not check it.

        Returns:
            Which of the target's key points are matched with which of the source's.

        Raises:
            InputError: if the key points are no such arrays, the distance is not positive, or the
                check needs the match of the other direction and there is none.
        """
        distance = check_distance(distance, 3 * self.radius)
        source, target = key_points("source", source), key_points("target", target)
        if self.source_mask is not None and len(source):
            limit = np.array(self.source_mask.shape[::-1]) - 1
            columns, rows = np.clip(np.rint(source), 0, limit).astype(int).T
            # What is masked is next to no place.
            source = np.where(self.source_mask[rows, columns, None], source, np.inf)
        accepted = self._accepted(threshold, cycle)
        return match_keypoints(self.flow, self.confidence, accepted, source, target, distance)

    def to_opencv(self, n: int | None = None, threshold: float = DEFAULT_THRESHOLD, **checks):
        """Selects single matches, as `matches` does, in OpenCV's classes.

        Returns:
            `cv2.KeyPoint` of the source, of the target, and the `cv2.DMatch` between them, lists
            of one length each; see `tfdense.formats.opencv.as_opencv`.
        """
        from tfdense.formats.opencv import as_opencv

        return as_opencv(self.matches(n, threshold, **checks), self.radius)

    def homography(
        self, threshold: float = DEFAULT_THRESHOLD, distance: float | None = None
    ) -> Homography | None:
        """Finds the homography from the source to the target that most matches agree with.

        It is the geometry of a plane, of a distant scene, and of a camera that only turns. The
        more confident a match, the more it weighs.

        Args:
            threshold: the least confidence of a match.
            distance: the largest of an inlier, in px of the source; None takes the radius of the
                confidence.

        Returns:
            The homography and the matches that agree with it. None if fewer than four matches are
            confident, or no homography fits four of them.

        Raises:
            InputError: if the distance is not positive.
        """
        # The places in the target are exact, those in the source were found: errors are there.
        matches = self._spread_matches(threshold).swap()
        distance = check_distance(distance, self.radius)
        homography = _two_view("A homography").fit_homography(matches, distance)
        return None if homography is None else homography.swap()

    def pose(
        self,
        K_source,
        K_target,
        threshold: float = DEFAULT_THRESHOLD,
        distance: float | None = None,
        distortion_source=None,
        distortion_target=None,
    ) -> Pose | None:
        """Finds how the camera moved between the images, from the essential matrix.

        The more confident a match, the more it weighs. The scene must have depth and the camera
        must have changed its place.

        Args:
            K_source, K_target: the cameras' intrinsic matrices, of the images' own pixels, [3, 3].
            threshold: the least confidence of a match.
            distance: the largest of an inlier from its epipolar line, in px; None takes the radius
                of the confidence.
            distortion_source, distortion_target: the lenses' coefficients in OpenCV's order
                (k1, k2, p1, p2[, k3[, k4, k5, k6[, s1, s2, s3, s4[, tx, ty]]]]); None is a lens
                without distortion.

        Returns:
            The pose and the matches that agree with it. None if fewer than five matches are
            confident, no pose fits five of them, or those that it fits lie on one line.

        Raises:
            InputError: if a matrix is not that of a camera, the distance is not positive, or there
                are not as many coefficients.
        """
        cameras = camera_matrix("K_source", K_source), camera_matrix("K_target", K_target)
        distortions = (
            lens_distortion("distortion_source", distortion_source),
            lens_distortion("distortion_target", distortion_target),
        )
        distance = check_distance(distance, self.radius)
        matches = self._spread_matches(threshold)
        return _two_view("A pose").fit_pose(matches, *cameras, distance, distortions)

    def self_calibrate(
        self, threshold: float = DEFAULT_THRESHOLD, distance: float | None = None
    ) -> SelfCalibration | None:
        """Finds how the camera moved between the images, and its focal length.

        Both images must be by one camera with square pixels, hardly any distortion and its
        principal point in the middle; see `tfdense.two_view.uncalibrated` for what cannot tell
        the focal length.

        Args:
            threshold, distance: as of `pose`.

        Returns:
            The intrinsic matrices and the pose. None if fewer than eight matches are confident, no
            pose fits them, or those that it fits lie on one line.

        Raises:
            InputError: if the distance is not positive.
        """
        with needed_for("A pose"):
            from tfdense.two_view.uncalibrated import fit_shared_focal

        sizes = tuple(image.shape[1::-1] for image in (self.source, self.target))
        distance = check_distance(distance, self.radius)
        return fit_shared_focal(self._spread_matches(threshold), sizes, distance)

    def _accepted(self, threshold: float, cycle: float | None) -> np.ndarray:
        """Where the confidence, and the cycle if it is checked, say that there is a match."""
        threshold = check_threshold(threshold)
        if cycle is not None:
            cycle = check_number("cycle to be a distance in px, or None", cycle)
        # What is masked has a confidence of 0 and is no match even if the threshold is 0.
        accepted = (self.confidence >= threshold) & ~is_masked(
            self.flow, self.source_mask, self.target_mask
        )
        return accepted if cycle is None else accepted & (self.cycle_error() <= cycle)

    def _is_mutual(self, places: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """Whether places (x, y) in the source lead back to the target's pixels (row, column)."""
        columns, rows = np.rint(places).astype(int).T
        back = self._reverse().positions()[rows, columns]
        return (np.rint(back) == pixels[:, ::-1]).all(axis=-1)

    def _reverse(self) -> Match:
        if self.reverse is None:
            raise InputError("Expected a match made with both_ways=True. Received: one way only.")
        return self.reverse

    def _spread_matches(self, threshold: float) -> Matches:
        """Returns enough for a geometry, at random: the best often lie together."""
        matches = self.matches(threshold=threshold)
        count = len(matches.confidence)
        chosen = np.random.default_rng(0).permutation(count)[:_FITTED_MATCHES]
        return matches.select(np.sort(chosen))

    def save(
        self,
        folder: str | Path,
        threshold: float = DEFAULT_THRESHOLD,
        cycle: float | None = None,
        formats: Iterable[str] = (),
        names: tuple[str, str] = ("source", "target"),
    ) -> list[Path]:
        """Writes the flow, the confidence and pictures of them.

        - ``match.npz``: the arrays flow, confidence and radius; of a match made with
          ``both_ways=True`` also cycle_error.
        - ``flow.flo``: the flow in Middlebury's format.
        - ``warp.png``: the source pulled to the target, at the target's size.
        - ``flow.png``, ``confidence.png``: in colours, with a legend.
        - ``matches.png``: lines between the best matches.
        - ``overview.png``: all of it in one picture.

        Each file is replaced in one step, after all were written; other files in the folder stay.

        Args:
            folder: is made if it does not exist.
            threshold: the least confidence of what the pictures show as matched.
            cycle: the largest `cycle_error` of that, beyond which the pictures show a confidence
                of 0; None does not check it.
            formats: further forms to write, of `tfdense.formats.FORMATS`.
            names: of the images, for the forms that hold them.

        Returns:
            The paths of the files.

        Raises:
            OutputError: if the files cannot be written.
            InputError: if the check needs the match of the other direction and there is none,
                there is no such form, or an argument is of another kind.
        """
        folder = check_folder_name(folder)
        threshold = check_threshold(threshold)
        formats = check_names("a list of formats", formats)
        names = check_names("the names of both images", names, 2)
        with needed_for("Drawing pictures"):
            from tfdense.results.saving import save_match
        return save_match(self, folder, threshold, cycle, formats, names)


# What follows imports OpenCV where it is used, since devices may lack it.


def _two_view(use: str) -> ModuleType:
    with needed_for(use):
        from tfdense.two_view import estimation as two_view
    return two_view


def _remap(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Samples an image at places (x, y), the faster way if there is OpenCV."""
    try:
        import cv2
    except ModuleNotFoundError:
        return sample(image, places)
    return cv2.remap(image, places, None, cv2.INTER_LINEAR)


def _is_inside(positions: np.ndarray, image: np.ndarray) -> np.ndarray:
    limit = np.array(image.shape[1::-1], np.float32) - 1
    return ((positions >= 0) & (positions <= limit)).all(axis=-1)
