"""Reading the authors' PyTorch checkpoints, and others of their networks, into those of Keras.

`CHECKPOINT_NAMES` is the whole correspondence: the names of the variables here are rewritten, rule
by rule, to the names in the authors' files.
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfdense.config import Config, ModelConfig, dump_config, load_config
from tfdense.errors import InputError, listed
from tfdense.files import check_outputs, replacing_in
from tfdense.startup import import_tensorflow
from tfdense.torch_files import read_state_dict

if TYPE_CHECKING:
    import keras

CHECKPOINT_NAMES: tuple[tuple[str, str], ...] = (
    # Layers.
    (r"^global_gocor/(foreground|background)$", r"global_gocor/filter_initializer.target_\1"),
    (r"target_foreground$", "target_fg"),
    (r"target_background$", "target_bg"),
    (r"^local_gocor/scaling$", "local_gocor/filter_initializer.scaling"),
    (r"^global_gocor/source_kernel$", "global_gocor/filter_optimizer.reg_layer.weight1"),
    (r"^global_gocor/target_kernel$", "global_gocor/filter_optimizer.reg_layer.weight2"),
    (r"gocor/filter_regularization$", "gocor/filter_optimizer.filter_reg"),
    (r"gocor/log_step_length$", "gocor/filter_optimizer.log_step_length"),
    (r"gocor/label_map$", "gocor/filter_optimizer.label_map_predictor.weight"),
    (r"gocor/spatial_weight$", "gocor/filter_optimizer.spatial_weight_predictor.weight"),
    (r"gocor/target_mask$", "gocor/filter_optimizer.target_mask_predictor.0.weight"),
    (r"^global_gocor/", "corr.corr_module/"),
    (r"^local_gocor/", "local_corr/"),
    (r"^level(\d)/mixture/correlation_uncertainty/", r"corr_uncertainty_decoder\1/"),
    (r"^level(\d)/mixture/uncertainty_decoder/", r"uncertainty_decoder\1/"),
    (r"^(uncertainty_decoder\d)/predict_uncertainty/", r"\1/predict_uncertainty_final/"),
    (r"^level(\d)/(decoder|refinement)/", r"\2\1/"),
    (r"^decoder4/predict_flow/", "decoder4/final/"),
    (r"/skip_(\d)/", r"/conv\1_skip/"),
    (r"^refinement(\d)/predict_flow/", r"refinement\1/conv_7/"),
    (r"^refinement3/conv_", "dc_conv"),
    (r"^refinement1/conv_", "l_dc_conv"),
    (r"^(pyramid|pyramid_256)/level_(\d)_0/", r"\1/level_\2/0/"),
    (r"^(pyramid|pyramid_256)/level_(\d)_1/", r"\1/level_\2/2/"),
    (r"^(pyramid|pyramid_256)/level_(\d)_2/", r"\1/level_\2/4/"),
    # Variables: a block is a convolution, 0, and a normalisation, 1, except the last of a network.
    (r"(conv_\d|conv\d_skip|dc_conv[1-6])/(kernel|bias)$", r"\1/0/\2"),
    (r"/(gamma|beta|moving_mean|moving_variance)$", r"/1/\1"),
    (r"/(kernel|gamma)$", "/weight"),
    (r"/beta$", "/bias"),
    (r"/moving_mean$", "/running_mean"),
    (r"/moving_variance$", "/running_var"),
    (r"/", "."),
)


def checkpoint_name(path: str) -> str:
    """Returns what a variable of PDC-Net is called in the authors' checkpoints.

    Args:
        path: of the Keras variable within the model, such as ``level4/decoder/conv_0/kernel``.
    """
    for pattern, replacement in CHECKPOINT_NAMES:
        path = re.sub(pattern, replacement, path)
    return path


def from_checkpoint_layout(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Turns a parameter to the layout of Keras.

    Args:
        array: as in the checkpoint: kernels are [out, in, height, width], those of transposed
            convolutions [in, out, height, width], functions of distance [1, bins, 1, 1].
        shape: of the Keras variable: kernels are [height, width, in, out], those of transposed
            convolutions [height, width, out, in], functions of distance [bins].
    """
    if array.ndim == 4 and len(shape) == 4:
        return array.transpose(2, 3, 1, 0)
    if array.ndim == 4 and array.shape == (1, *shape, 1, 1):
        return array.reshape(shape)
    return array


def assign_weights(model: "keras.Model", parameters: Mapping[str, np.ndarray]) -> None:
    """Copies a state dict into a network.

    Args:
        model: a `tfdense.models.pdcnet.PDCNet`.
        parameters: arrays by the authors' names; ``num_batches_tracked`` is ignored.

    Raises:
        InputError: if a parameter is missing, unknown or of another shape, before any is changed.
    """
    variables = {
        checkpoint_name(variable.path.removeprefix(f"{model.name}/")): variable
        for variable in model.variables
    }
    given = {name for name in parameters if not name.endswith(".num_batches_tracked")}
    problems = []
    if missing := sorted(variables.keys() - given):
        problems.append(f"it lacks {listed(missing)}")
    if unknown := sorted(given - variables.keys()):
        problems.append(f"it has the unknown {listed(unknown)}")
    if problems:
        raise InputError(f"Not a checkpoint of {model.name}: {'; '.join(problems)}.")
    values = {}
    for name, variable in variables.items():
        if np.iscomplexobj(parameters[name]):
            raise InputError(f"Not a checkpoint of {model.name}: {name} is complex.")
        values[name] = from_checkpoint_layout(np.asarray(parameters[name]), tuple(variable.shape))
        if values[name].shape != tuple(variable.shape):
            raise InputError(
                f"Not a checkpoint of {model.name}: {name} has shape "
                f"{np.shape(parameters[name])}, which does not fit {tuple(variable.shape)}."
            )
    for name, variable in variables.items():
        variable.assign(values[name])


def preset_of(parameters: Mapping[str, np.ndarray]) -> str:
    """Tells PDC-Net+, which has a second pyramid, from PDC-Net."""
    second = any(name.startswith("pyramid_256.") for name in parameters)
    return "pdcnet-plus" if second else "pdcnet"


def convert(checkpoint: str | Path, output: str | Path, preset: str | None = None) -> str:
    """Writes a PyTorch checkpoint as Keras weights, with their configuration beside them.

    Args:
        checkpoint: see `tfdense.torch_files.read_state_dict`.
        output: ``NAME.weights.h5``. ``config.yaml`` is written beside it, so that
            `tfdense.models.load` knows the network.
        preset: ``pdcnet`` or ``pdcnet-plus``; None recognises it.

    Returns:
        The preset.

    Raises:
        InputError: if the file cannot be read or does not fit the preset, or the folder belongs to
            another network, or the checkpoint would be replaced.
        OutputError: if the files cannot be written.
    """
    from tfdense import models

    output = Path(output)
    if not output.name.endswith(".weights.h5"):
        raise InputError(f"Expected an output named NAME.weights.h5. Received: {output}")
    check_outputs([output, output.with_name("config.yaml")], [checkpoint])
    parameters = read_state_dict(checkpoint)
    preset = preset or preset_of(parameters)
    config = ModelConfig(preset=preset)
    config_file = output.with_name("config.yaml")
    if config_file.exists() and load_config(config_file).model != config:
        raise InputError(f"{config_file} describes another network: choose another folder.")
    model = models.build(config, backbone_weights=False)
    assign_weights(model, parameters)
    with replacing_in(output.parent) as folder:
        model.save_weights(folder / output.name)
        if not config_file.exists():
            content = dump_config(Config(name=preset, model=config))
            (folder / config_file.name).write_text(content)
    return preset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``tfdense convert``."""
    parser.add_argument("checkpoint", help="the PyTorch file, of the authors or of own training")
    parser.add_argument("-o", "--output", required=True, help="NAME.weights.h5 to write")
    parser.add_argument(
        "--preset", choices=("pdcnet", "pdcnet-plus"), help="recognised if not given"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs ``tfdense convert``."""
    import_tensorflow()
    preset = convert(arguments.checkpoint, arguments.output, arguments.preset)
    print(f"Wrote {arguments.output}: the weights of {preset}.")
    return 0
