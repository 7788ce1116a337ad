"""The messages of TensorFlow Serving's gRPC interface, and of gRPC's health check.

They are declared here with the fields that are used: the package that declares them all,
tensorflow-serving-api, is bound to one version of TensorFlow, which a client need not have. They
are in a pool of their own, so that both can be loaded.
"""

import math

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tfdense.serving.protocols.tensors import type_name
from tfdense.serving.refusal import wrong

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
HEALTH_SERVICE = "grpc.health.v1.Health"

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "int32": _FIELD.TYPE_INT32,  # enumerations too: they travel alike
    "int64": _FIELD.TYPE_INT64,
    "uint32": _FIELD.TYPE_UINT32,
    "uint64": _FIELD.TYPE_UINT64,
    "bool": _FIELD.TYPE_BOOL,
    "float": _FIELD.TYPE_FLOAT,
    "double": _FIELD.TYPE_DOUBLE,
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
}
# Message: field: (number, type); * is repeated, "map X" a map from strings.
_MESSAGES = {
    "Dim": {"size": (1, "int64")},
    "TensorShape": {"dim": (2, "*Dim"), "unknown_rank": (3, "bool")},
    "Tensor": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "TensorShape"),
        "tensor_content": (4, "bytes"),
        "half_val": (13, "*int32"),
        "float_val": (5, "*float"),
        "double_val": (6, "*double"),
        "int_val": (7, "*int32"),
        "string_val": (8, "*bytes"),
        "int64_val": (10, "*int64"),
        "bool_val": (11, "*bool"),
        "uint32_val": (16, "*uint32"),
        "uint64_val": (17, "*uint64"),
    },
    "Int64Value": {"value": (1, "int64")},
    "Any": {"type_url": (1, "string"), "value": (2, "bytes")},
    "ModelSpec": {
        "name": (1, "string"),
        "version": (2, "Int64Value"),
        "signature_name": (3, "string"),
        "version_label": (4, "string"),
    },
    "PredictRequest": {
        "model_spec": (1, "ModelSpec"),
        "inputs": (2, "map Tensor"),
        "output_filter": (3, "*string"),
    },
    "PredictResponse": {"outputs": (1, "map Tensor"), "model_spec": (2, "ModelSpec")},
    "GetModelMetadataRequest": {"model_spec": (1, "ModelSpec"), "metadata_field": (2, "*string")},
    "GetModelMetadataResponse": {"model_spec": (1, "ModelSpec"), "metadata": (2, "map Any")},
    # The values are messages SignatureDef, which travel as bytes do.
    "SignatureDefMap": {"signature_def": (1, "map bytes")},
    "Status": {"error_code": (1, "int32"), "error_message": (2, "string")},
    "ModelVersionStatus": {
        "version": (1, "int64"),
        "state": (2, "int32"),
        "status": (3, "Status"),
    },
    "GetModelStatusRequest": {"model_spec": (1, "ModelSpec")},
    "GetModelStatusResponse": {"model_version_status": (1, "*ModelVersionStatus")},
    "HealthCheckRequest": {"service": (1, "string")},
    "HealthCheckResponse": {"status": (1, "int32")},
}
# What a type of TensorFlow is in NumPy, and which field holds its values if not tensor_content.
_TYPES = {
    1: (np.dtype("<f4"), "float_val"),
    2: (np.dtype("<f8"), "double_val"),
    3: (np.dtype("<i4"), "int_val"),
    4: (np.dtype(np.uint8), "int_val"),
    5: (np.dtype("<i2"), "int_val"),
    6: (np.dtype(np.int8), "int_val"),
    7: (np.dtype(object), "string_val"),
    9: (np.dtype("<i8"), "int64_val"),
    10: (np.dtype(bool), "bool_val"),
    17: (np.dtype("<u2"), "int_val"),
    22: (np.dtype("<u4"), "uint32_val"),
    23: (np.dtype("<u8"), "uint64_val"),
}
_NUMBERS = {dtype: number for number, (dtype, _) in _TYPES.items()}


def _declare() -> dict[str, type]:
    file = descriptor_pb2.FileDescriptorProto(
        name="tfdense/serving.proto", package="tfdense.serving", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            if kind.startswith("map "):
                entry = message.nested_type.add(name=f"{field.title().replace('_', '')}Entry")
                entry.options.map_entry = True
                _add(entry, "key", 1, "string")
                _add(entry, "value", 2, kind[4:])
                kind = f"*{name}.{entry.name}"
            _add(message, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tfdense.serving.{name}"))
        for name in _MESSAGES
    }


def _add(message, name: str, number: int, kind: str) -> None:
    repeated, kind = kind.startswith("*"), kind.lstrip("*")
    field = message.field.add(name=name, number=number)
    field.label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".tfdense.serving.{kind}"


MESSAGES = _declare()
"""The classes of the messages, by name."""


def to_message(values: np.ndarray):
    """Returns an array as a message Tensor."""
    number = _NUMBERS[np.dtype(values.dtype).newbyteorder("<")]
    message = MESSAGES["Tensor"](dtype=number)
    for side in values.shape:
        message.tensor_shape.dim.add(size=side)
    if values.dtype.kind == "O":
        message.string_val.extend(values.ravel().tolist())
    else:
        message.tensor_content = np.ascontiguousarray(values).tobytes()
    return message


def from_message(message, name: str) -> np.ndarray:
    """Returns a message Tensor as an array.

    Args:
        message: Tensor. Of values in the field of their type the last may be repeated by leaving
            out the rest, as TensorFlow does.
        name: of the tensor, for the message of a refusal.

    Raises:
        Refusal: if it is no whole tensor.
    """
    if message.dtype not in _TYPES:
        raise wrong(f"Expected {name} of another type. Received: DataType {message.dtype}")
    dtype, field = _TYPES[message.dtype]
    shape = [dim.size for dim in message.tensor_shape.dim]
    if message.tensor_shape.unknown_rank or len(shape) > 8 or min(shape, default=0) < 0:
        raise wrong(f"Expected {name} with its shape.")
    count = math.prod(shape)
    if message.tensor_content and dtype.kind != "O":
        if len(message.tensor_content) != count * dtype.itemsize:
            raise wrong(
                f"{name} has the shape {shape} and type {type_name(dtype)}, but "
                f"{len(message.tensor_content)} bytes."
            )
        return np.frombuffer(message.tensor_content, dtype).reshape(shape)
    values = list(getattr(message, field))
    if len(values) > count or (count and not values):
        raise wrong(f"{name} has the shape {shape}, but {len(values)} values.")
    if count > 2**20 and len(values) < count:  # a few bytes must not become gigabytes
        raise wrong(f"{name} has the shape {shape}, but {len(values)} values.")
    values += values[-1:] * (count - len(values))
    try:
        return np.array(values, dtype).reshape(shape)
    except (OverflowError, ValueError):
        raise wrong(f"Expected {name} of type {type_name(dtype)}.") from None
