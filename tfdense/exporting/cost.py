"""What running a .tflite file costs: floating-point operations, parameters, memory."""

import math
from collections.abc import Iterable

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from tfdense.tflite_files import Operation

_KERNEL = 1
_WITH_KERNEL = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


def count_flops(operations: Iterable[Operation]) -> int:
    """Counts the floating-point operations of convolutions and matrix products.

    A multiplication and the addition of its result count as two; biases count as none.
    """
    return 2 * sum(map(_multiplications, operations))


def count_parameters(operations: Iterable[Operation]) -> int:
    """Counts the values in kernels and biases, those that operations share once."""
    sizes = {}
    for operation in operations:
        if operation.name in _WITH_KERNEL:
            candidates = operation.inputs[_KERNEL:]
        elif operation.name == "DEQUANTIZE":
            candidates = operation.inputs
        else:
            continue
        for tensor in candidates:
            if tensor.values is not None:
                sizes[tensor.values.__array_interface__["data"][0]] = tensor.size
    return sum(sizes.values())


def arena_size(interpreter: Interpreter, content) -> int:
    """Allocates what LiteRT computes in, and returns its size in bytes.

    Args:
        interpreter: of the file, without delegates, which would have memory of their own.
        content: of the file, as bytes or a buffer.
    """
    interpreter.allocate_tensors()
    model = schema.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    constant = {
        i
        for i in range(graph.TensorsLength())
        if model.Buffers(graph.Tensors(i).Buffer()).DataLength()
    }
    end, size = 0, 0
    for begins, ends in sorted(
        _place(interpreter, details["index"])
        for details in interpreter.get_tensor_details()
        if details["index"] not in constant
    ):
        # One after another in time, tensors share their place.
        size += max(0, ends - max(begins, end))
        end = max(end, ends)
    return size


def _place(interpreter: Interpreter, index: int) -> tuple[int, int]:
    view = interpreter.tensor(index)()
    address = view.__array_interface__["data"][0]
    return address, address + view.nbytes


def _multiplications(operation: Operation) -> int:
    match operation.name:
        case "CONV_2D" | "FULLY_CONNECTED":
            # The kernel has the output channels first.
            return operation.outputs[0].size * math.prod(operation.inputs[_KERNEL].shape[1:])
        case "DEPTHWISE_CONV_2D":
            return operation.outputs[0].size * math.prod(operation.inputs[_KERNEL].shape[:-1])
        case "TRANSPOSE_CONV":
            _, kernel, image, *_ = operation.inputs
            return image.size * math.prod(kernel.shape[:-1])
        case "BATCH_MATMUL":
            first = operation.inputs[0]
            return operation.outputs[0].size * first.shape[-2 if operation.options.adjX else -1]
    return 0
