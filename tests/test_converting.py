"""The authors' checkpoints, and those of users' own trainings: names, layouts, the command."""

import argparse

import numpy as np
import pytest
import torch_writer

from tfdense import converting, models
from tfdense.config import Config, ModelConfig, save_config
from tfdense.errors import InputError
from tfdense.models.pdcnet import PDCNet


class Shapes(dict):
    """The names and shapes of the authors' parameters."""

    def convolution(self, name, outputs, inputs, side=3, bias=True):
        self[f"{name}.weight"] = (outputs, inputs, side, side)
        if bias:
            self[f"{name}.bias"] = (outputs,)

    def block(self, name, outputs, inputs, side=3, bias=True):
        self.convolution(f"{name}.0", outputs, inputs, side, bias)
        for part in ("weight", "bias", "running_mean", "running_var"):
            self[f"{name}.1.{part}"] = (outputs,)
        self[f"{name}.1.num_batches_tracked"] = ()


def authors_shapes(plus):
    shapes = Shapes()
    for level, inputs in {4: 258, 3: 87, 2: 87, 1: 89}.items():
        decoder = f"decoder{level}"
        for k, sizes in enumerate([(128, inputs), (128, 128), (96, 128), (64, 96), (32, 64)]):
            shapes.block(f"{decoder}.conv_{k}", *sizes)
        shapes.block(f"{decoder}.conv0_skip", 96, 128, side=1, bias=False)
        shapes.block(f"{decoder}.conv2_skip", 32, 96, side=1, bias=False)
        shapes.convolution(f"{decoder}.{'final' if level == 4 else 'predict_flow'}", 2, 32)
        module = f"corr_uncertainty_decoder{level}"
        for k, sizes in enumerate([(32, 1), (32, 32), (16, 32)]):
            shapes.block(f"{module}.conv_{k}", *sizes)
        shapes.convolution(f"{module}.predict_uncertainty", 6, 16)
        module = f"uncertainty_decoder{level}"
        shapes.block(f"{module}.conv_0", 32, 38 if level == 4 else 44)
        shapes.block(f"{module}.conv_1", 16, 32)
        shapes.convolution(f"{module}.predict_uncertainty_final", 3, 16)
    for prefix in ("dc_conv", "l_dc_conv"):
        channels = (34, 128, 128, 128, 96, 64, 32)
        for k in range(1, 7):
            shapes.block(f"{prefix}{k}", channels[k], channels[k - 1])
        shapes.convolution(f"{prefix}7", 2, 32)
    for name, inputs in {"deconv4": 2, "deconv2": 2, "upfeat2": 32}.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (inputs, 2, 4, 4), (2,)
    for module, first in (("corr.corr_module", ("target_fg", "target_bg")), ("local_corr", ())):
        for name in first:
            shapes[f"{module}.filter_initializer.{name}"] = (512,)
        for name in ("log_step_length", "filter_reg"):
            shapes[f"{module}.filter_optimizer.{name}"] = (1,)
        for name in ("label_map_predictor", "spatial_weight_predictor", "target_mask_predictor.0"):
            shapes[f"{module}.filter_optimizer.{name}.weight"] = (1, 10, 1, 1)
    shapes["corr.corr_module.filter_optimizer.reg_layer.weight1"] = (16, 1, 3, 3)
    shapes["corr.corr_module.filter_optimizer.reg_layer.weight2"] = (16, 16, 3, 3)
    shapes["local_corr.filter_initializer.scaling"] = (1,)
    for pyramid in ("pyramid", "pyramid_256") if plus else ("pyramid",):
        inputs = 3
        for level, block in enumerate([[64], [64], [128] * 2, [256] * 3, [512] * 3]):
            for k, outputs in enumerate(block):
                shapes.convolution(f"{pyramid}.level_{level}.{2 * k}", outputs, inputs)
                inputs = outputs
    return shapes


@pytest.fixture(scope="module")
def state_dicts():
    """Random parameters by preset, in the authors' layout."""
    generator = np.random.default_rng(0)
    return {
        preset: {
            name: np.asarray(generator.normal(size=shape), np.float32)
            for name, shape in authors_shapes(preset == "pdcnet-plus").items()
        }
        for preset in ("pdcnet", "pdcnet-plus")
    }


@pytest.fixture(scope="module")
def network():
    return PDCNet()


@pytest.fixture
def write(tmp_path):
    """Writes a checkpoint with these parameters, and what else a training keeps."""

    def save(parameters, **more):
        path = tmp_path / "checkpoint.pth.tar"
        tensors, elements = torch_writer.with_tensors(parameters)
        torch_writer.archive(path, {"state_dict": tensors, **more}, elements)
        return path

    return save


@pytest.mark.parametrize(("preset", "count"), [("pdcnet", 481), ("pdcnet-plus", 501)])
def test_the_published_names_are_all_known(state_dicts, preset, count):
    assert len(state_dicts[preset]) == count
    model = PDCNet(separate_pyramids=preset == "pdcnet-plus")
    parameters = state_dicts[preset]
    converting.assign_weights(model, parameters)
    tracked = sum(name.endswith("num_batches_tracked") for name in parameters)
    assert len(model.variables) == count - tracked
    assert converting.preset_of(parameters) == preset

    def check(variable, name, *order):
        expected = parameters[name].transpose(order) if order else parameters[name]
        np.testing.assert_array_equal(variable, expected.reshape(variable.shape), err_msg=name)

    kernel = (2, 3, 1, 0)
    check(model.level4.decoder.conv_0.kernel, "decoder4.conv_0.0.weight", *kernel)
    check(model.level4.decoder.predict_flow.kernel, "decoder4.final.weight", *kernel)
    check(model.level1.decoder.predict_flow.bias, "decoder1.predict_flow.bias")
    check(model.level2.decoder.skip_2.moving_variance, "decoder2.conv2_skip.1.running_var")
    check(model.level1.refinement.blocks[4].gamma, "l_dc_conv5.1.weight")
    check(model.level3.refinement.predict_flow.kernel, "dc_conv7.weight", *kernel)
    check(model.upfeat2.kernel, "upfeat2.weight", *kernel)
    check(
        model.global_gocor.target_kernel,
        "corr.corr_module.filter_optimizer.reg_layer.weight2",
        *kernel,
    )
    check(model.local_gocor.label_map, "local_corr.filter_optimizer.label_map_predictor.weight")
    check(model.pyramid.convolutions[-1].bias, "pyramid.level_4.4.bias")
    if preset == "pdcnet-plus":
        check(model.pyramid_256.convolutions[3].kernel, "pyramid_256.level_2.2.weight", *kernel)


@pytest.mark.parametrize("preset", ["pdcnet", "pdcnet-plus"])
def test_the_command_writes_a_run_that_loads(state_dicts, write, tmp_path, capsys, preset):
    parser = argparse.ArgumentParser()
    converting.add_arguments(parser)
    output = tmp_path / "run" / "authors.weights.h5"
    settings = torch_writer.Call("admin.settings.Settings", (), {"batch_size": 6})
    path = write(state_dicts[preset], epoch=3, settings=settings)
    arguments = [str(path), "-o", str(output)]

    # Twice: a folder of the same network is no conflict.
    assert converting.run(parser.parse_args(arguments)) == 0
    assert converting.run(parser.parse_args(arguments)) == 0

    assert preset in capsys.readouterr().out
    assert sorted(path.name for path in output.parent.iterdir()) == [output.name, "config.yaml"]
    model, config = models.load(output.parent)
    assert config.model == ModelConfig(preset=preset)
    expected = state_dicts[preset]["dc_conv1.0.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.level3.refinement.blocks[0].kernel, expected)


def test_missing_and_unknown_parameters_are_named(state_dicts, network):
    parameters = dict(state_dicts["pdcnet"])
    parameters["decoder5.bias"] = parameters.pop("deconv2.bias")
    former = network.deconv4.bias.numpy()
    with pytest.raises(InputError, match=r"lacks deconv2\.bias; it has the unknown decoder5\.bias"):
        converting.assign_weights(network, parameters)
    np.testing.assert_array_equal(network.deconv4.bias, former)


def test_a_parameter_of_another_shape_is_named(state_dicts, network):
    parameters = state_dicts["pdcnet"] | {"decoder3.conv_0.0.weight": np.zeros((128, 88, 3, 3))}
    with pytest.raises(
        InputError, match=r"decoder3\.conv_0\.0\.weight has shape \(128, 88, 3, 3\)"
    ):
        converting.assign_weights(network, parameters)


def test_a_preset_that_does_not_fit_is_refused(state_dicts, write, tmp_path):
    path = write(state_dicts["pdcnet"])
    output = tmp_path / "plus.weights.h5"
    with pytest.raises(InputError, match=r"lacks pyramid_256\.level_0\.0\.bias.* and 12 more"):
        converting.convert(path, output, "pdcnet-plus")
    assert not output.exists()


def test_the_configuration_of_another_network_is_not_overwritten(state_dicts, write, tmp_path):
    config = tmp_path / "config.yaml"
    save_config(config, Config(model=ModelConfig(preset="pdcnet-lite")))
    former = config.read_bytes()
    with pytest.raises(InputError, match=r"config\.yaml describes another network"):
        converting.convert(write(state_dicts["pdcnet"]), tmp_path / "x.weights.h5")
    assert config.read_bytes() == former
    assert not (tmp_path / "x.weights.h5").exists()


def test_complex_parameters_are_refused(state_dicts, network):
    value = state_dicts["pdcnet"]["deconv2.bias"].astype(np.complex64)
    parameters = state_dicts["pdcnet"] | {"deconv2.bias": value}
    with pytest.raises(InputError, match=r"deconv2\.bias is complex"):
        converting.assign_weights(network, parameters)


def test_the_output_must_be_named_as_weights(state_dicts, write, tmp_path):
    with pytest.raises(InputError, match=r"NAME\.weights\.h5"):
        converting.convert(write(state_dicts["pdcnet"]), tmp_path / "model.h5")
