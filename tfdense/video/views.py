"""What is drawn of each frame of a film."""

import math

import cv2
import numpy as np

from tfdense import visualize
from tfdense.canvas import box_for, fit, framed, panel, row, stack
from tfdense.video.streaming import StreamedMatch
from tfdense.video.tracking import TrackedPoints

_PANEL_AREA = 400 * 300
_OUTLINE = (250, 200, 0)
_VISIBLE, _HIDDEN = (60, 220, 60), (230, 60, 60)


def view(
    streamed: StreamedMatch,
    threshold: float,
    outlined: bool = False,
    tracked: TrackedPoints | None = None,
) -> np.ndarray:
    """Draws a frame, its flow, the frame pulled to what it is compared with, and the confidence.

    Args:
        streamed: the match.
        threshold: the least confidence of what is shown as matched.
        outlined: whether to draw the border of what it is compared with, as it is in the frame.
        tracked: points to mark in the frame.

    Returns:
        uint8 [height, width, 3], of one size for all frames of a film.
    """
    match = streamed.match
    frame = match.source
    if outlined and streamed.homography is not None:
        frame = _with_outline(frame, match.target.shape, streamed.homography)
    frame_box, box = box_for(frame, _PANEL_AREA), box_for(match.target, _PANEL_AREA)
    title = f"Frame {streamed.index}"
    title += ": another shot" if streamed.cut else ": lost" if streamed.lost else ""
    shown, scale, offset = fit(frame, frame_box)
    if tracked is not None:
        shown = _with_points(shown, tracked, scale, offset)
    confident = match.confidence >= threshold
    # By powers of two, so that the colours seldom change.
    longest = 2.0 ** math.ceil(math.log2(visualize.longest_flow(match.flow, confident)))
    warped = visualize.mask_by_confidence(match.warp(), match.confidence, threshold)
    flow = visualize.flow_color(match.flow, longest)
    confidence = visualize.confidence_color(match.confidence)
    return framed(
        stack(
            [
                row(
                    [
                        panel(shown, frame_box, title),
                        panel(flow, box, f"Flow, full colour at {longest:.0f} px"),
                    ]
                ),
                row(
                    [
                        panel(warped, box, f"Warped frame, {confident.mean():.0%} matched"),
                        panel(confidence, box, f"Confidence: P(error < {match.radius:.3g} px)"),
                    ]
                ),
            ]
        )
    )


def stabilised(streamed: StreamedMatch) -> np.ndarray:
    """Returns the frame warped by its homography to what it is compared with; black where lost."""
    match = streamed.match
    size = match.target.shape[1::-1]
    if streamed.homography is None:
        return np.zeros_like(match.target)
    return cv2.warpPerspective(match.source, streamed.homography, size)


def _with_outline(frame: np.ndarray, shape: tuple, homography: np.ndarray) -> np.ndarray:
    height, width = shape[:2]
    corners = np.float64([[[0, 0]], [[width - 1, 0]], [[width - 1, height - 1]], [[0, height - 1]]])
    places = cv2.perspectiveTransform(corners, np.linalg.inv(homography))
    # Of a corner far out of the frame the drawing would overflow.
    places = np.clip(np.nan_to_num(places), -(2**14), 2**14)
    thickness = max(2, round(max(frame.shape) / 250))
    lines = [np.rint(places).astype(np.int32)]
    return cv2.polylines(frame.copy(), lines, True, _OUTLINE, thickness, cv2.LINE_AA)


def _with_points(picture, tracked: TrackedPoints, scale, offset) -> np.ndarray:
    picture = picture.copy()
    places = np.clip((tracked.positions + 0.5) * scale - 0.5 + offset, -(2**14), 2**14)
    for place, visible in zip(np.rint(places).astype(int).tolist(), tracked.visible, strict=True):
        color = _VISIBLE if visible else _HIDDEN
        cv2.circle(picture, place, 4, (0, 0, 0), -1 if visible else 1, cv2.LINE_AA)
        cv2.circle(picture, place, 3, color, -1 if visible else 1, cv2.LINE_AA)
    return picture
