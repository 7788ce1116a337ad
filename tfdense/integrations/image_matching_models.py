"""tfdense as a matcher of image-matching-models, whose package is `imm`.

from tfdense.integrations.image_matching_models import TfdenseMatcher

result = TfdenseMatcher(max_num_keypoints=2048)(image0, image1)
result["matched_kpts0"], result["matched_kpts1"], result["matched_confidences"]
"""

from tfdense.integrations.tool_boxes import DenseMatching

try:
    from imm.base_matcher import BaseMatcher
except ImportError as error:
    raise ImportError(
        f"tfdense.integrations.image_matching_models needs image-matching-models: {error}"
    ) from None


class TfdenseMatcher(DenseMatching, BaseMatcher):
    """An `imm.BaseMatcher`, see `tfdense.integrations.tool_boxes.DenseMatching`."""

    def forward(self, img0, img1) -> dict:
        """Returns what every matcher does, and "matched_confidences", float32 [count]."""
        result = super().forward(img0, img1)
        result["matched_confidences"], self._confidence = self._confidence, None
        return result

    def _forward(self, img0, img1) -> tuple:
        """Returns matched key points, then nothing for detectors' points."""
        # The tool box knows no confidence.
        found = self.find(img0, img1)
        self._confidence = found.confidence
        return found.keypoints0, found.keypoints1, None, None, None, None
