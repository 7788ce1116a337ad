"""Pictures of flows, confidences and matches: pure functions on NumPy arrays, drawn by OpenCV.

Images and pictures are RGB, uint8 [height, width, 3]. What is drawn for people to look at is
scaled to a standard size first, so that text and lines look the same for any image.
"""

import cv2
import numpy as np

from tfdense.canvas import (
    GAP,
    INK,
    blank,
    box_for,
    fit,
    framed,
    panel,
    row,
    stack,
    text_line,
    titled,
)

_MASKED = (70, 70, 70)
_MARK = (220, 30, 30)
_LEGEND_WIDTH = 200
# Of an image in an overview, in a picture of its own and in a training picture, in px².
_PANEL_AREA = 400 * 400
_PICTURE_AREA = 800 * 800
_TRAINING_AREA = 180 * 180
# The error, in px, that the training picture shows in its brightest colour.
_LARGEST_ERROR = 10.0


def flow_color(flow: np.ndarray, longest: float | None = None) -> np.ndarray:
    """Colours a flow: the hue tells the direction, the saturation the length.

    White is no motion; right is red, left is cyan. Flow that is not finite is grey.

    Args:
        flow: [height, width, 2], in px.
        longest: the length of full saturation, in px; None takes `longest_flow`.
    """
    known = np.isfinite(flow).all(axis=-1)
    flow = np.where(known[..., None], flow, 0).astype(np.float32)
    length, angle = cv2.cartToPolar(flow[..., 0], flow[..., 1], angleInDegrees=True)
    saturation = np.minimum(length / (longest_flow(flow) if longest is None else longest), 1)
    hsv = np.dstack([angle, saturation, np.ones_like(length)])
    color = np.round(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)
    color[~known] = _MASKED
    return color


def longest_flow(flow: np.ndarray, trusted: np.ndarray | None = None) -> float:
    """Returns the length that all but one percent of a flow stay below, at least 1 px.

    Args:
        flow: [..., 2], in px.
        trusted: which of it counts, boolean [...]; None, or none at all, counts everything.
    """
    lengths = np.linalg.norm(flow, axis=-1)
    if trusted is not None and trusted.any():
        lengths = lengths[trusted]
    lengths = lengths[np.isfinite(lengths)]
    return max(1.0, float(np.percentile(lengths, 99))) if lengths.size else 1.0


def confidence_color(confidence: np.ndarray) -> np.ndarray:
    """Colours a confidence [height, width]: dark blue is 0, yellow is 1 (viridis)."""
    return _mapped(confidence, cv2.COLORMAP_VIRIDIS)


def error_color(error: np.ndarray, largest: float) -> np.ndarray:
    """Colours an error [height, width]: 0 is black, `largest` or more is yellow, NaN is grey."""
    color = _mapped(error / largest, cv2.COLORMAP_INFERNO)
    color[np.isnan(error)] = _MASKED
    return color


def mask_by_confidence(image: np.ndarray, confidence: np.ndarray, threshold: float) -> np.ndarray:
    """Fades an image to dark grey where the confidence is below the threshold."""
    faded = cv2.addWeighted(image, 0.15, np.full_like(image, _MASKED), 0.85, 0)
    return np.where((confidence >= threshold)[..., None], image, faded)


def draw_matches(
    source: np.ndarray,
    target: np.ndarray,
    source_points: np.ndarray,
    target_points: np.ndarray,
    box: tuple[int, int],
) -> np.ndarray:
    """Draws two images side by side, and a line for each match.

    The colour tells the place in the target: lines of one region share it and should stay
    together.

    Args:
        source, target: the images; each is scaled to fit its box.
        source_points, target_points: (x, y) in px of their images, [count, 2].
        box: (width, height) of each image.
    """
    left, left_scale, left_offset = fit(source, box)
    right, right_scale, right_offset = fit(target, box)
    picture = row([left, right])
    right_offset = right_offset + np.array([box[0] + GAP, 0])
    starts = np.round((source_points + 0.5) * left_scale - 0.5 + left_offset).astype(int)
    ends = np.round((target_points + 0.5) * right_scale - 0.5 + right_offset).astype(int)
    across, down = (target_points / target.shape[1::-1]).T
    hsv = np.dstack([330 * across, 1 - 0.5 * down, np.ones_like(down)]).astype(np.float32)
    colors = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0] * 255 if len(starts) else hsv[0]
    drawn = list(zip(starts.tolist(), ends.tolist(), colors.tolist(), strict=True))
    lines = picture.copy()
    for start, end, color in drawn:
        cv2.line(lines, start, end, color, 1, cv2.LINE_AA)
    picture = cv2.addWeighted(lines, 0.5, picture, 0.5, 0)
    for start, end, color in drawn:
        for place in (start, end):
            cv2.circle(picture, place, 4, INK, -1, cv2.LINE_AA)
            cv2.circle(picture, place, 3, color, -1, cv2.LINE_AA)
    return picture


def flow_picture(flow: np.ndarray, confidence: np.ndarray, threshold: float) -> np.ndarray:
    """Draws a flow in colours, with a legend.

    Args:
        flow: [height, width, 2], in px.
        confidence: [height, width].
        threshold: the colours are scaled to flow of at least this confidence.
    """
    longest = longest_flow(flow, confidence >= threshold)
    image = flow_color(_shrunk(flow, _PICTURE_AREA), longest)
    drawn = panel(image, box_for(image, _PICTURE_AREA), "Flow from target to source")
    return framed(row([drawn, _flow_legend(longest)]))


def confidence_picture(confidence: np.ndarray, radius: float, threshold: float) -> np.ndarray:
    """Draws a confidence [height, width] in colours, with a legend.

    Args:
        radius: R of the confidence, in px.
        threshold: is marked in the legend.
    """
    image = confidence_color(_shrunk(confidence, _PICTURE_AREA))
    drawn = panel(image, box_for(image, _PICTURE_AREA), _confidence_title(radius))
    return framed(row([drawn, _confidence_legend(threshold)]))


def matches_picture(
    source: np.ndarray, target: np.ndarray, source_points: np.ndarray, target_points: np.ndarray
) -> np.ndarray:
    """Draws source and target side by side with a line for each match [count, 2]."""
    box = box_for(target, _PICTURE_AREA)
    drawn = draw_matches(source, target, source_points, target_points, box)
    return framed(titled(drawn, _matches_title(len(source_points))))


def overview(
    source: np.ndarray,
    target: np.ndarray,
    warped: np.ndarray,
    flow: np.ndarray,
    confidence: np.ndarray,
    source_points: np.ndarray,
    target_points: np.ndarray,
    radius: float,
    threshold: float,
) -> np.ndarray:
    """Draws images, warped source, confidence, flow and matches in one picture with a legend.

    Args:
        warped: the source pulled to the target; it is shown where the confidence suffices.
        flow: [height, width, 2], in px.
        confidence: [height, width].
        source_points, target_points: (x, y) of the matches to draw, [count, 2].
        radius: R of the confidence, in px.
        threshold: the least confidence of what is shown as matched.
    """
    box = box_for(target, _PANEL_AREA)
    trusted = confidence >= threshold
    share, longest = trusted.mean(), longest_flow(flow, trusted)
    warped, flow, confidence = (_shrunk(x, _PANEL_AREA) for x in (warped, flow, confidence))
    masked = mask_by_confidence(warped, confidence, threshold)
    upper = [
        panel(source, box, f"Source {source.shape[1]} x {source.shape[0]}"),
        panel(target, box, f"Target {target.shape[1]} x {target.shape[0]}"),
        panel(masked, box, f"Warped source, {share:.0%} matched"),
    ]
    lower = [
        panel(confidence_color(confidence), box, _confidence_title(radius)),
        panel(flow_color(flow, longest), box, "Flow from target to source"),
        stack(
            [
                _confidence_legend(threshold),
                _flow_legend(longest),
                text_line("dark grey: below the threshold", _LEGEND_WIDTH),
            ]
        ),
    ]
    half = (3 * box[0] + GAP) // 2, round(1.5 * box[1])
    drawn = draw_matches(source, target, source_points, target_points, half)
    matches = titled(drawn, _matches_title(len(source_points)))
    return framed(stack([row(upper), row(lower), matches]))


def training_picture(
    source: np.ndarray,
    target: np.ndarray,
    flow: np.ndarray,
    confidence: np.ndarray,
    true_flow: np.ndarray,
    mask: np.ndarray,
) -> np.ndarray:
    """Draws what a network makes of a few pairs whose flow is known, one pair in a row.

    Args:
        source, target: [batch, height, width, 3], values in 0..255.
        flow, true_flow: [batch, height, width, 2], in px. Both are coloured on the same scale.
        confidence: [batch, height, width].
        mask: 1 where the true flow is known, [batch, height, width].
    """
    error = f"Error to {_LARGEST_ERROR:g} px"
    titles = ("Source", "Target", "Warped source", "Flow", "True flow", "Confidence", error)
    box = box_for(mask[0], _TRAINING_AREA)
    rows = []
    for pair in zip(source, target, flow, confidence, true_flow, mask, strict=True):
        images = _training_images(*(np.asarray(array) for array in pair))
        rows.append(row([fit(image, box)[0] for image in images]))
    header = row([text_line(title, box[0]) for title in titles])
    rows[0] = np.concatenate([header, rows[0]])
    return framed(stack(rows))


def _training_images(source, target, flow, confidence, true_flow, mask) -> list[np.ndarray]:
    source, target = (np.clip(np.round(x), 0, 255).astype(np.uint8) for x in (source, target))
    grid = np.dstack(np.meshgrid(*(np.arange(side) for side in mask.shape[::-1])))
    warped = cv2.remap(source, (flow + grid).astype(np.float32), None, cv2.INTER_LINEAR)
    known = mask[..., None] > 0
    longest = longest_flow(true_flow, mask > 0)
    error = np.where(mask > 0, np.linalg.norm(flow - true_flow, axis=-1), np.nan)
    return [
        source,
        target,
        warped,
        flow_color(flow, longest),
        np.where(known, flow_color(true_flow, longest), np.uint8(_MASKED)),
        confidence_color(confidence),
        error_color(error, _LARGEST_ERROR),
    ]


def _mapped(values: np.ndarray, colormap: int) -> np.ndarray:
    """Colours values in 0..1; what lies beyond is clipped, NaN is 0."""
    values = np.round(np.clip(np.nan_to_num(values), 0, 1) * 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(values, colormap), cv2.COLOR_BGR2RGB)


def _shrunk(values: np.ndarray, area: float) -> np.ndarray:
    """Averages to about that many pixels what has more: colouring them all would be in vain."""
    scale = (area / (values.shape[0] * values.shape[1])) ** 0.5
    if scale >= 1:
        return values
    size = [max(1, round(side * scale)) for side in values.shape[1::-1]]
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA)


def _confidence_legend(threshold: float) -> np.ndarray:
    """A bar from 0 to 1 with a mark at the threshold."""
    width, height = 160, 18
    bar = blank(_LEGEND_WIDTH, height + 10)
    bar[5 : 5 + height, :width] = confidence_color(np.linspace(0, 1, width)[None])
    x = round(min(max(threshold, 0), 1) * (width - 1))
    cv2.rectangle(bar, (x - 1, 0), (x + 1, height + 9), _MARK, -1)
    scale = blank(_LEGEND_WIDTH, 20)
    for value, x in (("0", 0), ("0.5", 68), ("1", 151)):
        scale[:, x : x + 30] = text_line(value, 30)[:20]
    note = text_line(f"red: threshold {threshold:g}", _LEGEND_WIDTH)
    return titled(np.concatenate([bar, scale, note]), "Confidence")


def _flow_legend(longest: float) -> np.ndarray:
    """A wheel of colours; its edge is the longest flow."""
    radius = 40
    wheel = blank(_LEGEND_WIDTH, 2 * radius + 6)
    offset = np.arange(-radius, radius + 1, dtype=np.float32)
    flow = np.dstack(np.meshgrid(offset, offset))
    inside = np.linalg.norm(flow, axis=-1) <= radius
    wheel[: 2 * radius + 1, : 2 * radius + 1][inside] = flow_color(flow, radius)[inside]
    cv2.circle(wheel, (radius, radius), radius, INK, 1, cv2.LINE_AA)
    note = text_line(f"edge of the wheel: {_number(longest)} px", _LEGEND_WIDTH)
    return titled(np.concatenate([wheel, note]), "Flow")


def _confidence_title(radius: float) -> str:
    return f"Confidence: P(error < {_number(radius)} px)"


def _matches_title(count: int) -> str:
    return f"{count} matches, source to target" if count else "No match reaches the threshold"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
