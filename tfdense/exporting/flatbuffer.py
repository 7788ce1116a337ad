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
_WITH_KERNEL = (
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.TRANSPOSE_CONV,
    schema.BuiltinOperator.FULLY_CONNECTED,
)
_VERSION_FOR_FLOAT16 = 3


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
    model = _read(content)
    _replace_kernels(model, lambda values: values.astype(np.float16).astype(np.float32))
    return _write(model)


def halve_kernels(content: bytes) -> bytes:
    """Stores the kernels of all convolutions as float16, which LiteRT widens when it loads them.

    They are nearly the whole file. All else stays float32, unlike what TensorFlow's converter does:
    in float16, 1e-8 that keeps a divisor from zero is zero itself, 520² that bounds a variance is
    too large, and coordinates of pixels beyond 2048 are rounded to even ones.
    """
    model = _read(content)
    _replace_kernels(model, lambda values: values.astype(np.float16))
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = _VERSION_FOR_FLOAT16
    model.operatorCodes.append(code)
    for graph in model.subgraphs:
        widening = []
        for index in _kernels(model, graph):
            wide = graph.tensors[index]
            half = copy.copy(wide)
            half.name = wide.name + b"/float16"
            half.type = schema.TensorType.FLOAT16
            wide.buffer = _EMPTY_BUFFER
            operator = schema.OperatorT()
            operator.opcodeIndex = len(model.operatorCodes) - 1
            operator.inputs, operator.outputs = [len(graph.tensors)], [index]
            graph.tensors.append(half)
            widening.append(operator)
        graph.operators = widening + graph.operators
    return _write(model)


def _kernels(model: schema.ModelT, graph: schema.SubGraphT) -> list[int]:
    """Returns which tensors of a graph are constant kernels of convolutions."""
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    inputs = {
        int(operator.inputs[_KERNEL])
        for operator in graph.operators
        if codes[operator.opcodeIndex] in _WITH_KERNEL
    }
    return sorted(i for i in inputs if model.buffers[graph.tensors[i].buffer].data is not None)


def _replace_kernels(model: schema.ModelT, function: Callable[[np.ndarray], np.ndarray]) -> None:
    """Gives the kernels other values; a constant that shares the buffer of one keeps its own."""
    changed = {}
    for graph in model.subgraphs:
        for tensor in (graph.tensors[i] for i in _kernels(model, graph)):
            if tensor.buffer not in changed:
                buffer = schema.BufferT()
                values = model.buffers[tensor.buffer].data.view(np.float32)
                buffer.data = function(values).view(np.uint8)
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
