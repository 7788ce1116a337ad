"""Changing what a .tflite file holds."""

import copy
import json
from collections.abc import Callable, Sequence

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfdense.tflite_files import FILE_IDENTIFIER, METADATA_NAME, seal

_EMPTY_BUFFER = 0
_KERNEL = 1
# And the axis of the kernel's output channels.
_WITH_KERNEL = {
    schema.BuiltinOperator.CONV_2D: 0,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: 3,
    schema.BuiltinOperator.TRANSPOSE_CONV: 0,
    schema.BuiltinOperator.FULLY_CONNECTED: 0,
}
# Of DEQUANTIZE, the first that takes float16, or a scale for each channel.
_VERSION_FOR_FLOAT16, _VERSION_FOR_CHANNELS = 3, 5

# Of a kernel and the axis of its output channels makes the values to be stored.
_Change = Callable[[np.ndarray, int], np.ndarray]


def add_metadata(content: bytes, description: dict) -> bytes:
    """Adds a description, as the buffer TFDENSE_METADATA, and to that the file's checksum."""
    model = _read(content)
    entry = schema.MetadataT()
    buffer = schema.BufferT()
    description = {**description, "file_crc32": "00000000"}
    buffer.data = np.frombuffer(json.dumps(description).encode(), np.uint8)
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata.append(entry)
    return seal(_write(model))


def merge(contents: Sequence[bytes], names: Sequence[str]) -> bytes:
    """Puts files of one signature each into one, in which equal constants are there once.

    Args:
        contents: of the files, of one graph each.
        names: of the signatures. That of the first also keeps the name it had.
    """
    models = [_read(content) for content in contents]
    merged = models[0]
    first = merged.signatureDefs[0]
    codes = {_code_key(code): i for i, code in enumerate(merged.operatorCodes)}
    buffers = {}
    for i, buffer in enumerate(merged.buffers):
        if buffer.data is not None:
            buffers.setdefault(bytes(buffer.data), i)
    for model in models[1:]:
        (graph,), (signature,) = model.subgraphs, model.signatureDefs
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            operator.opcodeIndex = codes.setdefault(_code_key(code), len(codes))
            if operator.opcodeIndex == len(merged.operatorCodes):
                merged.operatorCodes.append(code)
        for tensor in graph.tensors:
            buffer = model.buffers[tensor.buffer]
            if buffer.data is None:
                tensor.buffer = _EMPTY_BUFFER
                continue
            tensor.buffer = buffers.setdefault(bytes(buffer.data), len(merged.buffers))
            if tensor.buffer == len(merged.buffers):
                merged.buffers.append(buffer)
        signature.subgraphIndex = len(merged.subgraphs)
        merged.subgraphs.append(graph)
        merged.signatureDefs.append(signature)
    alias = copy.copy(first)
    for signature, name in zip(merged.signatureDefs, names, strict=True):
        signature.signatureKey = name
    merged.signatureDefs.append(alias)
    return _write(merged)


def _code_key(code: schema.OperatorCodeT) -> tuple:
    return code.builtinCode, code.deprecatedBuiltinCode, code.customCode, code.version


def round_kernels(content: bytes) -> bytes:
    """Rounds the kernels of all convolutions to float16, but stores them as float32."""
    return _with_kernels(content, lambda values, axis: _halved(values).astype(np.float32))


def round_kernels_to_bytes(content: bytes) -> bytes:
    """Rounds the kernels of all convolutions as `quantize_kernels`, but stores float32."""

    def rounded(values, axis):
        scale = _scale(values, axis)
        return _quantized(values, axis).astype(np.float32) * scale

    return _with_kernels(content, rounded)


def halve_kernels(content: bytes) -> bytes:
    """Stores the kernels of all convolutions as float16, which LiteRT widens when it loads them.

    They are nearly the whole file. All else stays float32, unlike what TensorFlow's converter does:
    in float16, 1e-8 that keeps a divisor from zero is zero itself, 520² that bounds a variance is
    too large, and coordinates of pixels beyond 2048 are rounded to even ones.
    """
    return _with_widened(content, lambda values, axis: _halved(values), _VERSION_FOR_FLOAT16)


def quantize_kernels(content: bytes) -> bytes:
    """Stores the kernels of all convolutions as int8, which LiteRT widens when it loads them.

    The kernel of each output channel has a scale of its own and is symmetric around zero. All else
    stays float32.
    """
    return _with_widened(content, _quantized, _VERSION_FOR_CHANNELS)


def _halved(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16)


def _quantized(values: np.ndarray, axis: int) -> np.ndarray:
    return np.rint(values / _scale(values, axis)).astype(np.int8)


def _scale(values: np.ndarray, axis: int) -> np.ndarray:
    """Returns what one step of int8 is in each output channel, of the kernel's rank."""
    others = tuple(i for i in range(values.ndim) if i != axis)
    largest = np.abs(values).max(axis=others, keepdims=True)
    return np.where(largest > 0, largest / 127, 1).astype(np.float32)


def _with_kernels(content: bytes, function: _Change) -> bytes:
    model = _read(content)
    _replace_kernels(model, function)
    return _write(model)


def _with_widened(content: bytes, function: _Change, version: int) -> bytes:
    """Stores kernels in a smaller type, and puts what widens them before the first operation."""
    model = _read(content)
    scales = {}
    if version == _VERSION_FOR_CHANNELS:
        scales = _channel_scales(model)
    _replace_kernels(model, function)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = version
    model.operatorCodes.append(code)
    for number, graph in enumerate(model.subgraphs):
        widening = []
        for index in _kernels(model, graph):
            wide = graph.tensors[index]
            narrow = copy.copy(wide)
            narrow.name = wide.name + b"/narrow"
            narrow.type = schema.TensorType.FLOAT16
            if scales:
                narrow.type = schema.TensorType.INT8
                narrow.quantization = scales[number, index]
            wide.buffer = _EMPTY_BUFFER
            operator = schema.OperatorT()
            operator.opcodeIndex = len(model.operatorCodes) - 1
            operator.inputs, operator.outputs = [len(graph.tensors)], [index]
            graph.tensors.append(narrow)
            widening.append(operator)
        graph.operators = widening + graph.operators
    return _write(model)


def _channel_scales(model: schema.ModelT) -> dict[tuple[int, int], schema.QuantizationParametersT]:
    """Returns how the kernels are quantized, by the number of the graph and of the tensor."""
    scales = {}
    for number, graph in enumerate(model.subgraphs):
        for index, axis in _kernels(model, graph).items():
            parameters = schema.QuantizationParametersT()
            parameters.scale = _scale(_values(model, graph.tensors[index]), axis).ravel()
            parameters.zeroPoint = np.zeros(len(parameters.scale), np.int64)
            parameters.quantizedDimension = axis
            scales[number, index] = parameters
    return scales


def _values(model: schema.ModelT, tensor: schema.TensorT) -> np.ndarray:
    return model.buffers[tensor.buffer].data.view(np.float32).reshape(tensor.shape)


def _kernels(model: schema.ModelT, graph: schema.SubGraphT) -> dict[int, int]:
    """Returns the constant kernels among a graph's tensors, and the axis of their outputs."""
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    kernels = {
        int(operator.inputs[_KERNEL]): _WITH_KERNEL[codes[operator.opcodeIndex]]
        for operator in graph.operators
        if codes[operator.opcodeIndex] in _WITH_KERNEL
    }
    constant = (i for i in kernels if model.buffers[graph.tensors[i].buffer].data is not None)
    return {i: kernels[i] for i in sorted(constant)}


def _replace_kernels(model: schema.ModelT, function: _Change) -> None:
    """Gives the kernels other values; a constant that shares the buffer of one keeps its own."""
    changed = {}
    for graph in model.subgraphs:
        for index, axis in _kernels(model, graph).items():
            tensor = graph.tensors[index]
            if tensor.buffer not in changed:
                buffer = schema.BufferT()
                buffer.data = function(_values(model, tensor), axis).ravel().view(np.uint8)
                changed[tensor.buffer] = len(model.buffers)
                model.buffers.append(buffer)
            tensor.buffer = changed[tensor.buffer]
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    for index in changed.keys() - used:
        model.buffers[index].data = None


def _read(content: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def _write(model: schema.ModelT) -> bytes:
    builder = _AlignedBuilder(0)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


class _AlignedBuilder(flatbuffers.Builder):
    """Places bytes at multiples of 16, as the schema demands of buffers but Python forgets."""

    def CreateNumpyVector(self, x):
        if x.dtype != np.uint8:
            return super().CreateNumpyVector(x)
        self.StartVector(1, x.size, 16)
        self.head -= x.size
        self.Bytes[self.head : self.head + x.size] = x.tobytes()
        return self.EndVector()
