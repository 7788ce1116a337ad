"""Tells Keras where tfdense's own objects are, without importing either.

``keras.models.load_model`` finds only objects that were registered. Registering them would take the
3 seconds that Keras and TensorFlow take to import; so `announce` registers a stand-in for each,
which imports the object when a file asks for it, and does even that only once Keras is imported.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys

# By module; the registered name of each is "tfdense>" and its own.
OBJECTS = {
    "tfdense.addons": ("CorrelationCost",),
    "tfdense.layers.attention": ("ContextLayer", "FlowPropagation"),
    "tfdense.layers.convolution": ("ConvolutionBlock",),
    "tfdense.layers.decoders": ("FlowDecoder", "RefinementNetwork", "Upsampling"),
    "tfdense.layers.full_resolution": ("FullResolution", "_Head"),
    "tfdense.layers.gocor": ("GlobalGOCor", "LocalGOCor"),
    "tfdense.layers.heads": ("MixtureHead",),
    "tfdense.layers.matching": (
        "GlobalMatching",
        "JoinedDescriptors",
        "UnitMeanSquare",
        "WarpedCorrelation",
    ),
    "tfdense.layers.operations": (
        "AllPairsCorrelation",
        "ForwardBackwardError",
        "LocalCorrelation",
        "Warp",
    ),
    "tfdense.layers.place_descriptors": ("EnlargeTo", "NormalisedGrey"),
    "tfdense.layers.pwc": ("ContextNetwork", "DenseDecoder", "FeaturePyramid"),
    "tfdense.layers.uncertainty": (
        "CorrelationUncertainty",
        "MixtureDecoder",
        "UncertaintyDecoder",
    ),
    "tfdense.layers.unet": ("UNet",),
    "tfdense.layers.variational": ("VariationalStage",),
    "tfdense.layers.vgg": ("VGG16Pyramid",),
    "tfdense.losses": ("MixtureNLL",),
    "tfdense.metrics": ("AEPE", "AUSE", "PCK", "CalibrationError"),
    "tfdense.mixture": ("GaussianUniformMixture", "LaplaceMixture"),
    "tfdense.models.pdcnet": ("GlobalLevel", "LocalLevel", "PDCNet"),
    "tfdense.models.pdcnet_lite": ("LevelDecoder", "PDCNetLite"),
    "tfdense.models.pwc_unet": ("PWCUNet",),
    "tfdense.photometric": ("PhotometricLoss",),
    "tfdense.training.optimizer": ("CoupledAdam",),
}

# What others registered, and is found here in files that were saved with theirs.
ALIASES = {"Addons>CorrelationCost": ("tfdense.addons", "CorrelationCost")}


class _StandIn:
    """What Keras finds in an object's place until the object's module is imported."""

    def __init__(self, module: str, name: str):
        self._module = module
        self._name = name

    def from_config(self, config):
        return getattr(importlib.import_module(self._module), self._name).from_config(config)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds Keras as it would be found anyway, and registers the stand-ins once it is imported."""

    def find_spec(self, name, path=None, target=None):
        if name != "keras":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                sys.meta_path.remove(self)
                execute(module)
                _register()

            spec.loader.exec_module = exec_module
        return spec


def announce() -> None:
    """Makes `keras.models.load_model` find the objects, whether Keras is imported yet or later."""
    if "keras" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _Finder())


def _register() -> None:
    registered = sys.modules["keras"].saving.get_custom_objects()
    for module, names in OBJECTS.items():
        for name in names:
            # An object that was imported registered itself.
            registered.setdefault(f"tfdense>{name}", _StandIn(module, name))
    for alias, home in ALIASES.items():
        registered.setdefault(alias, _StandIn(*home))
