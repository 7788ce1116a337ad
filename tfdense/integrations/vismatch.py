"""tfdense as a matcher of vismatch.

from tfdense.integrations.vismatch import TfdenseMatcher

result = TfdenseMatcher(max_num_keypoints=2048)(image0, image1)
result["matched_kpts0"], result["matched_kpts1"], result["matched_confidences"]
"""

from tfdense.integrations.tool_boxes import DenseMatching

try:
    from vismatch.base_matcher import BaseMatcher
except ImportError as error:
    raise ImportError(f"tfdense.integrations.vismatch needs vismatch: {error}") from None


class TfdenseMatcher(DenseMatching, BaseMatcher):
    """A `vismatch.BaseMatcher`, see `tfdense.integrations.tool_boxes.DenseMatching`."""

    def _forward(self, img0, img1) -> tuple:
        """Returns matched key points, then nothing for detectors' points, then confidences."""
        found = self.find(img0, img1)
        return found.keypoints0, found.keypoints1, None, None, None, None, found.confidence
