"""Writing trained networks for servers and devices, each file verified before it is in place."""

from tfdense.exporting.saved_model import export_saved_model
from tfdense.exporting.tflite import export_tflite
from tfdense.exporting.verification import ExportReport, VerificationError

__all__ = ["ExportReport", "VerificationError", "export_saved_model", "export_tflite"]
