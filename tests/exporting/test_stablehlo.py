"""TensorFlow functions as programs that JAX runs: the same numbers, nothing of TensorFlow."""

import gzip

import numpy as np
import pytest
import tensorflow as tf

from tfdense import bundle
from tfdense.errors import InputError
from tfdense.exporting import stablehlo
from tfdense.exporting.training_bundle import write_program

pytest.importorskip("jax")

X = np.array([[1.0, -2.0, 0.5], [3.0, 0.25, -1.0]], np.float32)


@pytest.fixture
def variables():
    return {
        "unused": tf.Variable(7.0),
        "weights": tf.Variable(X.T),
        "count": tf.Variable(2**40, dtype=tf.int64),
        "constant": tf.Variable([0.5, 1.5]),
    }


@pytest.fixture
def run(tmp_path):
    """Runs a program on named arrays in JAX."""

    def run(program, arrays):
        entry = write_program(tmp_path, "program", program)
        content = gzip.decompress((tmp_path / entry["file"]).read_bytes())
        function = bundle.load_program(content, entry["inputs"], entry["outputs"])
        return function(arrays)

    return run


def test_variables_come_in_and_changed_ones_go_out(variables, run):
    weights, count, constant = (variables[name] for name in ("weights", "count", "constant"))

    def step(arguments):
        product = tf.matmul(arguments["x"], weights) + constant
        weights.assign_sub(tf.transpose(arguments["x"]) * tf.cast(arguments["rate"], tf.float32))
        count.assign_add(3)
        return {"product": product, "sum": tf.reduce_sum(product)}

    arguments = {"x": tf.TensorSpec([2, 3], tf.float32), "rate": tf.TensorSpec([], tf.uint8)}
    program = stablehlo.lower(step, arguments, variables)
    assert set(program.inputs) == {"x", "rate", "weights", "count", "constant"}
    assert list(program.outputs) == ["product", "sum", *list(program.outputs)[2:]]
    assert set(program.outputs) == {"product", "sum", "weights", "count"}

    arrays = {"x": X, "rate": np.uint8(2)} | {k: v.numpy() for k, v in variables.items()}
    answer = run(program, arrays)
    expected = step({"x": tf.constant(X), "rate": tf.constant(2, tf.uint8)})
    expected |= {"weights": weights, "count": count}
    assert answer.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(np.asarray(answer[name]), value.numpy(), rtol=1e-6)
        assert answer[name].dtype == value.dtype.as_numpy_dtype
    assert int(answer["count"]) == 2**40 + 3


def test_a_function_without_variables(run):
    specs = {"x": tf.TensorSpec([2, 3], tf.float32)}
    program = stablehlo.lower(lambda a: {"y": tf.sort(a["x"], axis=1)}, specs, {})
    np.testing.assert_array_equal(run(program, {"x": X})["y"], np.sort(X, axis=1))


def test_products_of_float32_stay_exact():
    """Else a GPU rounds the factors to ten bits; what is computed in bfloat16 is another matter."""
    specs = {"x": tf.TensorSpec([4, 4], tf.float32)}
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    program = stablehlo.lower(lambda a: {"y": a["x"] @ a["x"]}, specs, {})
    assert tf.config.experimental.tensor_float_32_execution_enabled() == before
    assert "precision = [HIGHEST, HIGHEST]" in text(program)


def text(program) -> str:
    from jax.interpreters import mlir
    from jaxlib._jax import mlir as conversion

    with mlir.make_ir_context():
        return str(conversion.deserialize_portable_artifact(program.content))


def test_what_is_no_argument_and_no_variable_named_is_refused(variables):
    hidden = tf.Variable(1.0)
    specs = {"x": tf.TensorSpec([], tf.float32)}
    with pytest.raises(ValueError, match="depends on more than its variables"):
        stablehlo.lower(lambda a: {"y": a["x"] + hidden}, specs, variables)


def test_what_only_tensorflow_can_is_refused():
    specs = {"x": tf.TensorSpec([8, 8, 3], tf.uint8)}
    with pytest.raises(ValueError, match="EncodeJpeg"):
        stablehlo.lower(lambda a: {"y": tf.io.encode_jpeg(a["x"])}, specs, {})


def test_without_jax_one_line_says_what_to_install(monkeypatch):
    monkeypatch.delattr(stablehlo, "jax")
    with pytest.raises(InputError, match=r"pip install 'tfdense\[jax\]'"):
        stablehlo.versions()
