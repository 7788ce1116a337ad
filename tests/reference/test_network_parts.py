"""The parts of PDC-Net against what the original's compute."""

import numpy as np
import pytest
import tensorflow as tf

from tfdense.geometry import map_to_flow, resize_area
from tfdense.layers.convolution import leaky_relu
from tfdense.layers.decoders import Upsampling
from tfdense.layers.gocor import GlobalGOCor, LocalGOCor, initialize_local, optimize_local
from tfdense.layers.vgg import normalize
from tfdense.losses import pyramid_likelihood
from tfdense.mixture import LaplaceMixture
from tfdense.models.pdcnet import working_size
from tfdense.ops import tiling

pytestmark = pytest.mark.reference


def assign_gocor(layer, vectors, prefix):
    """Gives a GOCor module the parameters of a file of vectors."""
    names = {
        "foreground": "filter_initializer.target_fg",
        "background": "filter_initializer.target_bg",
        "scaling": "filter_initializer.scaling",
        "source_kernel": "filter_optimizer.reg_layer.weight1",
        "target_kernel": "filter_optimizer.reg_layer.weight2",
        "filter_regularization": "filter_optimizer.filter_reg",
        "log_step_length": "filter_optimizer.log_step_length",
        "label_map": "filter_optimizer.label_map_predictor.weight",
        "spatial_weight": "filter_optimizer.spatial_weight_predictor.weight",
        "target_mask": "filter_optimizer.target_mask_predictor.0.weight",
    }
    for variable in layer.variables:
        value = vectors[prefix + names[variable.name]]
        if variable.name.endswith("_kernel"):
            # Undoes the fixture's change to channels-last, [out, height, width, in].
            value = value.transpose(1, 2, 3, 0)
        variable.assign(value.reshape(variable.shape))


@pytest.mark.parametrize("iterations", [0, 1, 2, 3, 7])
def test_filters_of_the_local_module(load_vectors, iterations):
    vectors = load_vectors("ops/gocor_local")
    layer = LocalGOCor(iterations)
    target = tf.constant(vectors["ref"])
    layer.build(target.shape)
    assign_gocor(layer, vectors, "param.")

    filters = tiling.tiles(initialize_local(target, layer.scaling[0]))
    filters = optimize_local(filters, tiling.windows(target), layer.parameters(), iterations)

    expected = vectors["filter_init" if iterations == 0 else f"filter_iter{iterations}"]
    result = tiling.untile(filters, *target.shape[1:3])
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_scores_of_the_local_module(load_vectors):
    vectors = load_vectors("ops/gocor_local")
    layer = LocalGOCor(7)
    layer.build(vectors["ref"].shape)
    assign_gocor(layer, vectors, "param.")
    scores, _ = layer(vectors["ref"], vectors["query"])
    np.testing.assert_allclose(scores, vectors["scores"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(leaky_relu(scores), vectors["leaky"], rtol=1e-4, atol=1e-5)


def test_plain_scores_of_the_local_module(load_vectors):
    vectors = load_vectors("ops/local_corr")
    _, plain = LocalGOCor(0)(vectors["target"], vectors["source"])
    np.testing.assert_allclose(plain, vectors["out"], atol=1e-6)


def test_functions_of_distance(load_vectors):
    vectors = load_vectors("ops/gocor_local")
    layer = LocalGOCor()
    layer.build((None, 7, 9, 12))
    assign_gocor(layer, vectors, "param.")
    steps = np.arange(-4, 5)
    label, weight, slope = layer.radial(np.hypot(steps[:, None], steps))
    for ours, name in ((label, "target"), (weight, "v_plus"), (slope, "m")):
        np.testing.assert_allclose(np.ravel(ours), vectors[name], atol=1e-6)


@pytest.mark.parametrize("iterations", [0, 1, 2, 3])
def test_filters_of_the_global_module(load_vectors, iterations):
    vectors = load_vectors("ops/gocor_global")
    layer = GlobalGOCor(iterations)
    layer.build((None, 5, 5, 8))
    assign_gocor(layer, vectors, "param.corr_module.")
    target, source = (vectors[name].reshape(2, 25, 8) for name in ("ref_l2", "query_l2"))
    filters = layer.optimize(layer.initialize(target), target, source, (5, 5))
    expected = vectors["filter_init" if iterations == 0 else f"filter_iter{iterations}"]
    np.testing.assert_allclose(filters, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["gocor_global", "gocor_global_rect"])
def test_scores_of_the_global_module(load_vectors, name):
    vectors = load_vectors(f"ops/{name}")
    layer = GlobalGOCor(3)
    layer.build((None, 5, 5, 8))
    assign_gocor(layer, load_vectors("ops/gocor_global"), "param.corr_module.")
    scores = layer(vectors["ref_l2"], vectors["query_l2"])
    np.testing.assert_allclose(scores, vectors["scores"], rtol=1e-3, atol=1e-4)


def test_decoders(load_vectors, reference_network):
    vectors, network = load_vectors("ops/decoders"), reference_network()

    def check(ours, *names):
        for tensor, name in zip(ours, names, strict=True):
            np.testing.assert_allclose(tensor, vectors[name], rtol=1e-4, atol=1e-4, err_msg=name)

    check(network.level3.decoder(vectors["in87"]), "dec3_x", "dec3_flow")
    check(network.level4.decoder(vectors["in258"]), "dec4_x", "dec4_map")
    features, flow = np.split(vectors["in34"], [32], axis=-1)
    check(network.level3.refinement(features, flow), "refine_x", "refine_res")
    for level, correlation, side in ((network.level3, "corr9", 9), (network.level4, "corr16", 16)):
        module = level.mixture.correlation_uncertainty
        assert module.side == side
        check([module(vectors[correlation])], f"{correlation}_out")
    for level, name in ((network.level3, "u44"), (network.level4, "u38")):
        raw = level.mixture.decoder(vectors[name])
        check([raw[..., :1], raw[..., 1:]], f"{name}_logvar", f"{name}_weight")


def test_upsampling(load_vectors):
    vectors = load_vectors("ops/deconv")
    layer = Upsampling()
    np.testing.assert_allclose(layer(vectors["x"]), vectors["out_bilinear_init"], atol=1e-6)
    # [in, out, height, width], which the fixture has made [in, height, width, out].
    layer.set_weights([vectors["weight"].transpose(1, 2, 3, 0), vectors["bias"]])
    np.testing.assert_allclose(layer(vectors["x"]), vectors["out"], atol=1e-5)


def test_map_of_the_coarsest_level(load_vectors):
    vectors = load_vectors("ops/decoders")
    height, width = vectors["dec4_map"].shape[1:3]
    position = (vectors["dec4_map"] + 1.0) * (np.array([width, height]) - 1.0) / 2.0
    flow = map_to_flow(tf.constant(position, tf.float32))
    np.testing.assert_allclose(flow, vectors["dec4_flow_grid_units"], atol=1e-5)


def test_preprocessing(load_vectors):
    vectors = load_vectors("ops/preprocess")
    target_size = vectors["target"].shape[1:3]
    size = working_size(*target_size)
    assert size == tuple(vectors["source_pre_shape"][2:])
    assert target_size[1] / size[1] == pytest.approx(float(vectors["ratio_x"]))
    assert target_size[0] / size[0] == pytest.approx(float(vectors["ratio_y"]))
    for name in ("source", "target"):
        image = tf.constant(vectors[name], tf.float32)
        fine = normalize(resize_area(image, size))[:, ::4, ::4]
        coarse = normalize(resize_area(image, (256, 256)))[:, ::4, ::4]
        np.testing.assert_allclose(fine, vectors[f"{name}_pre"], atol=1e-5)
        np.testing.assert_allclose(coarse, vectors[f"{name}_256"], atol=1e-5)


def test_preprocessing_in_training(load_vectors):
    vectors = load_vectors("ops/preprocess_training")
    image = tf.constant(vectors["image"], tf.float32)
    np.testing.assert_allclose(normalize(image)[:, ::4, ::4], vectors["out"], atol=1e-5)
    coarse = normalize(resize_area(image, (256, 256)))[:, ::4, ::4]
    np.testing.assert_allclose(coarse, vectors["out_256"], atol=1e-5)


@pytest.mark.parametrize("mask", ["none", "rand", "block", "sparse"])
@pytest.mark.parametrize(
    ("stage", "resolution", "weights"),
    [("stage1", "level", (0.32, 0.08)), ("stage2", "full", (0.08, 0.08))],
)
def test_likelihood_over_levels(load_vectors, stage, resolution, weights, mask):
    vectors = load_vectors("ops/nll_multiscale")
    names = {"flow": "flow", "log_variance": "logvar", "logits": "weight"}
    levels = [{ours: vectors[theirs + level] for ours, theirs in names.items()} for level in "AB"]
    loss = pyramid_likelihood(
        LaplaceMixture(256.0**2),
        levels,
        vectors["gt"],
        np.ones((2, 32, 32)) if mask == "none" else vectors[f"mask_{mask}"],
        weights,
        resolution,
        "sum",
    )
    np.testing.assert_allclose(np.mean(loss), vectors[f"loss_{stage}_{mask}"], rtol=1e-5)
