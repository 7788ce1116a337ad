"""Parts for networks of your own, as Keras layers: they save, load and train as any other.

What `tfdense.ops` does (`LocalCorrelation`, `AllPairsCorrelation`, `Warp`, `ForwardBackwardError`),
feature pyramids (`efficientnet_lite0_pyramid`, `VGG16Pyramid`, `FeaturePyramid`), matching over the
whole image by a soft arg max (`GlobalMatching`), GOCor (`GlobalGOCor`, `LocalGOCor`), and what
answers with a mixture (`MixtureHead`, `MixtureDecoder`). All take and give channels last, whatever
``keras.config.image_data_format()`` says; ``trainable`` of their parts is saved with them.
"""

import importlib

# Loaded on use: TensorFlow takes seconds to import.
_HOMES = {
    "AllPairsCorrelation": "operations",
    "FeaturePyramid": "pwc",
    "ForwardBackwardError": "operations",
    "GlobalGOCor": "gocor",
    "GlobalMatching": "matching",
    "LocalCorrelation": "operations",
    "LocalGOCor": "gocor",
    "MixtureDecoder": "uncertainty",
    "MixtureHead": "heads",
    "UnitMeanSquare": "matching",
    "VGG16Pyramid": "vgg",
    "Warp": "operations",
    "WarpedCorrelation": "matching",
    "efficientnet_lite0_pyramid": "efficientnet_lite",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f"tfdense.layers.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'tfdense.layers' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
