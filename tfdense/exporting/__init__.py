"""Writing trained networks for servers and devices, each file verified before it is in place."""

import importlib

_MODULES = {
    "export_onnx": "onnx",
    "export_saved_model": "saved_model",
    "export_tflite": "tflite",
    "ExportReport": "verification",
    "VerificationError": "verification",
}
__all__ = list(_MODULES)


def __getattr__(name: str):
    # Loaded on use: TensorFlow takes seconds to import.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
