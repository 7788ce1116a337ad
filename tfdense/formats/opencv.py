"""Single matches as OpenCV's classes, for what is written for its detectors and matchers."""

import cv2


def as_opencv(
    matches, radius: float
) -> tuple[list[cv2.KeyPoint], list[cv2.KeyPoint], list[cv2.DMatch]]:
    """Returns single matches as OpenCV has them.

    Args:
        matches: see `tfdense.results.match.Match.matches`.
        radius: of the confidence, in px; the key points' size is twice as large.

    Returns:
        The source's key points, the target's and the matches between them: source as `queryIdx`,
        target as `trainIdx`, and 1 - confidence as `distance`, so that the best is the nearest.
    """
    source, target = (
        [cv2.KeyPoint(x, y, 2 * radius) for x, y in points.tolist()]
        for points in (matches.source, matches.target)
    )
    distances = (1 - matches.confidence).tolist()
    return source, target, [cv2.DMatch(i, i, away) for i, away in enumerate(distances)]
