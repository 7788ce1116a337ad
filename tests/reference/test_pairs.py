"""The whole network against what the original computes for pairs of images."""

import json

import numpy as np
import pytest
import tensorflow as tf

pytestmark = pytest.mark.reference

# The original's own error, float32 against float64, is the measure of every bound.
_TIMES_THE_ORIGINALS_ERROR = 4.0
_RUNS = {
    "piazza_256x320": {},
    "eth3d_384x512": {},
    "synthetic_256x320": {},
    "kitti_odd": {},
    "piazza_256x320_iter33": {"local_iterations": 3},
    "piazza_256x320_plus": {"preset": "pdcnet-plus"},
}
_FAST = ("piazza_256x320", "kitti_odd", "piazza_256x320_plus")
_FEATURE_STRIDES = {4: (8, 1), 3: (8, 2), 2: (16, 2), 1: (16, 4)}
_CORRELATION_STRIDES = {4: 1, 3: 2, 2: 4, 1: 8}


def stored_strides(name, complete):
    """Returns the channel and spatial strides at which the original's tensor was stored.

    Args:
        name: of the tensor.
        complete: whether the file holds the tensors of all levels, not only the flows.
    """
    level = int(name[-1]) if name[-1].isdecimal() else None
    if name.startswith("feat_"):
        return _FEATURE_STRIDES[level]
    if name.startswith("src_warped"):
        return 16, _FEATURE_STRIDES[level][1]
    if name.endswith(("_gocor", "_plain")):
        return 1, _CORRELATION_STRIDES[int(name[4])]
    if name in ("x4", "x3", "x2", "x1"):
        return 1, _CORRELATION_STRIDES[level]
    if name in ("final_log_var", "final_weight", "final_variance"):
        return 1, 4
    if name in ("final_flow", "final_p_r"):
        return 1, 1 if complete else 2
    return 1, 1


def record_calls(layer, name, calls):
    """Keeps the arguments and the results of each call of a layer."""
    original = layer.call

    def call(*args, **kwargs):
        result = original(*args, **kwargs)
        calls.setdefault(name, []).append((args, result))
        return result

    layer.call = call


def leaky_relu(x):
    return np.where(x > 0, x, 0.1 * x)


def run(network, source, target):
    """Returns every tensor that the original's files hold, by their names there."""
    calls = {}
    parts = {"pyramid": network.pyramid, "local_gocor": network.local_gocor}
    if network.pyramid_256 is not None:
        parts["pyramid_256"] = network.pyramid_256
    for level in (network.level4, network.level3, network.level2, network.level1):
        parts[level.name] = level
        parts[f"{level.name}/decoder"] = level.decoder
        parts[f"{level.name}/correlation_uncertainty"] = level.mixture.correlation_uncertainty
        parts[f"{level.name}/uncertainty_decoder"] = level.mixture.decoder
    for level in (network.level3, network.level1):
        parts[f"{level.name}/refinement"] = level.refinement
    for name, part in parts.items():
        record_calls(part, name, calls)
    images = (tf.constant(image[None], tf.float32) for image in (source, target))
    output = network(dict(zip(("source", "target"), images, strict=True)))

    results = [result for _, result in calls["pyramid"] + calls.get("pyramid_256", [])]
    # Of the target first, then of the source.
    coarses, fines = ([x for x in results if (16 in x) == has] for has in (True, False))
    tensors = {}
    for image, coarse, fine in zip("ts", coarses, fines, strict=True):
        tensors |= {f"feat_{image}4": coarse[16], f"feat_{image}3": coarse[8]}
        tensors |= {f"feat_{image}2": fine[8], f"feat_{image}1": fine[4]}
    for number, outputs in zip((4, 3, 2, 1), output["levels"], strict=True):
        (arguments, _) = calls[f"level{number}"][0]
        tensors[f"corr{number}_gocor"] = leaky_relu(arguments[0])
        tensors[f"corr{number}_plain"] = arguments[1] if number == 4 else leaky_relu(arguments[1])
        decoded, decoded_flow = calls[f"level{number}/decoder"][0][1]
        tensors[f"x{number}"] = decoded
        tensors["map4" if number == 4 else f"res_decoder{number}"] = decoded_flow
        tensors[f"corrunc{number}"] = calls[f"level{number}/correlation_uncertainty"][0][1]
        raw = calls[f"level{number}/uncertainty_decoder"][0][1]
        tensors[f"rawlogvar{number}"] = raw[..., :1]
        tensors[f"flow{number}"] = outputs["flow"]
        tensors[f"logvar{number}"] = outputs["log_variance"]
        tensors[f"weight{number}"] = outputs["logits"]
        if number < 4:
            tensors[f"upflow_in{number}"], tensors[f"upunc_in{number}"] = arguments[2:4]
        if number in (3, 1):
            tensors[f"res_refine{number}"] = calls[f"level{number}/refinement"][0][1][1]
    tensors["upfeat_in1"] = calls["level1"][0][0][4][0]
    for number, (arguments, _) in zip((3, 2, 1), calls["local_gocor"], strict=True):
        tensors[f"src_warped{number}"] = arguments[1]
    mixture = output["log_variance"], output["logits"]
    tensors["final_flow"] = output["flow"]
    tensors["final_log_var"], tensors["final_weight"] = mixture
    tensors["final_variance"] = network.mixture.variance(*mixture)[..., None]
    tensors["final_p_r"] = network.mixture.confidence(*mixture)[..., None]
    return {name: np.asarray(tensor) for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in _FAST else pytest.mark.slow) for n in _RUNS]
)
def test_every_tensor_equals_the_originals(name, reference, load_vectors, reference_network):
    images = name.removesuffix("_plus").removesuffix("_iter33")
    pair = np.load(reference / "pairs" / f"{images}_images.npz")
    expected = load_vectors(f"pairs/{name}_ref")
    tolerances = json.loads((reference / "pairs" / "tolerance.json").read_text())[name]

    tensors = run(reference_network(**_RUNS[name]), pair["source"], pair["target"])

    bounds = {"final_flow": 0.01, "final_p_r": 1e-3}
    for key, tensor in expected.items():
        channels, stride = stored_strides(key, complete="feat_t4" in expected)
        ours = tensors[key][:, ::stride, ::stride, ::channels]
        own_error = tolerances[key]["max_abs_fp32_minus_fp64"]
        bound = min(_TIMES_THE_ORIGINALS_ERROR * own_error, bounds.get(key, np.inf))
        np.testing.assert_allclose(ours, tensor, rtol=0, atol=bound, err_msg=key)
