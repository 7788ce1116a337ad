"""TensorFlow functions as StableHLO programs, which JAX runs on a CPU, a GPU or a TPU.

TensorFlow's compiler turns a function and all the variables that it reads or assigns into one
module without side effects: their values come in, the changed ones go out.
"""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfdense.errors import InputError

with contextlib.suppress(ImportError):
    import jax
    from jax.interpreters import mlir
    from jaxlib._jax import mlir as conversion
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import stablehlo

_ALIAS = "mhlo.input_output_alias"


class Program(NamedTuple):
    """A function in which nothing is left of TensorFlow.

    Attributes:
        content: a portable artifact of StableHLO; its function ``main`` takes and gives flat lists.
        inputs, outputs: what these are, by name, in order.
    """

    content: bytes
    inputs: dict[str, tf.TensorSpec]
    outputs: dict[str, tf.TensorSpec]


def versions() -> dict[str, str]:
    """Returns the versions of what the programs are made with.

    Raises:
        InputError: if JAX is not installed.
    """
    _need_jax()
    return {"tensorflow": tf.__version__, "jax": jax.__version__, "stablehlo": _oldest_reader()}


def lower(
    function: Callable[[dict], dict],
    arguments: dict[str, tf.TensorSpec],
    variables: dict[str, tf.Variable],
) -> Program:
    """Turns a function into a program.

    Args:
        function: of named tensors, to named tensors; it may assign variables.
        arguments: what it takes; all shapes are fixed.
        variables: all that it reads or assigns; only these may it depend on.

    Returns:
        The program; its inputs are the arguments and the variables that it depends on, its outputs
        the results and the variables that it assigns, under their names.

    Raises:
        InputError: if JAX is not installed.
        ValueError: if the function depends on something else, or does what only TensorFlow can.
    """
    _need_jax()
    results = {}

    def flat(*values):
        results.update(function(dict(zip(arguments, values, strict=True))))
        return list(results.values())

    specs = list(arguments.values())
    with _float32_products():
        compiled = tf.function(flat, jit_compile=True, autograph=False)
        concrete = compiled.get_concrete_function(*specs)
        ir_of = compiled.experimental_get_compiler_ir(*specs)
        content = ir_of(stage="hlo_serialized")
    names = {id(variable.handle): name for name, variable in variables.items()}
    captured = [names.get(id(tensor)) for tensor in concrete.captured_inputs]
    if None in captured:
        raise ValueError(f"The function depends on more than its variables: {concrete}")
    inputs = {**arguments, **{name: _spec(variables[name]) for name in captured}}

    with mlir.make_ir_context():
        module = ir.Module.parse(conversion.hlo_to_stablehlo(content))
        changed = [list(inputs)[i] for i in _aliased_inputs(module, len(results))]
        _strip(module)
        text = str(module)
    if "custom_call" in text:
        raise ValueError("The function calls what only TensorFlow or one device has.")
    outputs = {name: _spec(value) for name, value in results.items()}
    outputs |= {name: inputs[name] for name in changed}
    artifact = conversion.serialize_portable_artifact(text, _oldest_reader())
    return Program(artifact, inputs, outputs)


def _spec(value) -> tf.TensorSpec:
    return tf.TensorSpec(value.shape, value.dtype)


def _need_jax() -> None:
    if "jax" not in globals():
        raise InputError("StableHLO needs JAX: pip install 'tfdense[jax]'")


@contextlib.contextmanager
def _float32_products():
    """Lets products of float32 be exact; a GPU would else round their factors to 10 bits."""
    former = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(former)


def _aliased_inputs(module, first: int) -> list[int]:
    """Returns which input each output from `first` on replaces: the variables' new values."""
    if _ALIAS not in module.operation.attributes:
        return []
    aliases = {}
    for entry in map(ir.DictAttr, ir.ArrayAttr(module.operation.attributes[_ALIAS])):
        (output,) = ir.DenseI64ArrayAttr(entry["output_index"])
        number = ir.DictAttr(entry["alias"])["parameter_number"]
        aliases[output] = ir.IntegerAttr(number).value
    return [aliases[output] for output in range(first, first + len(aliases))]


def _strip(module) -> None:
    """Removes what of XLA's own is left in a module: copies, and attributes."""
    copies = []

    def find(operation):
        if operation.name == "mhlo.copy":
            copies.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(find)
    for operation in copies:
        operation.results[0].replace_all_uses_with(operation.operands[0])
        operation.erase()
    for name in list(module.operation.attributes):
        if name.startswith("mhlo."):
            del module.operation.attributes[name]


def _oldest_reader() -> str:
    """Returns the version of StableHLO that is written: what readers of 12 weeks ago know."""
    return stablehlo.get_version_from_compatibility_requirement(
        stablehlo.StablehloCompatibilityRequirement.WEEK_12
    )
