"""Requests that TensorFlow Serving runs on a model before it takes real ones.

They are a TFRecord of ``PredictionLog`` messages. Their few fields are encoded here, since the
package that declares them, tensorflow-serving-api, is bound to one version of TensorFlow.
"""

from pathlib import Path

import tensorflow as tf

# Field numbers in tensorflow_serving/apis: prediction_log, predict and model.proto.
_PREDICT_LOG = 6
_REQUEST = 1
_MODEL_SPEC, _INPUTS = 1, 2
_NAME, _SIGNATURE_NAME = 1, 3
_KEY, _VALUE = 1, 2


def write_warm_up_requests(path: Path, name: str, requests: dict[str, dict]) -> None:
    """Writes the file ``assets.extra/tf_serving_warmup_requests`` of a SavedModel.

    Args:
        path: of the file.
        name: of the model.
        requests: by signature, its inputs by name.
    """
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests.items():
            writer.write(prediction_log(name, signature, inputs))


def prediction_log(name: str, signature: str, inputs: dict) -> bytes:
    """Encodes a ``tensorflow.serving.PredictionLog`` of one request, as protocol buffer.

    Args:
        name: of the model.
        signature: which of its functions to call.
        inputs: what to call it with: arrays or lists of bytes, by name.
    """
    request = _field(
        _MODEL_SPEC,
        _field(_NAME, name.encode(errors="replace")) + _field(_SIGNATURE_NAME, signature.encode()),
    )
    for key, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString(deterministic=True)
        request += _field(_INPUTS, _field(_KEY, key.encode()) + _field(_VALUE, tensor))
    return _field(_PREDICT_LOG, _field(_REQUEST, request))


def _field(number: int, payload: bytes) -> bytes:
    """Encodes a length-delimited field, the wire type of messages and strings."""
    return bytes([number << 3 | 2]) + _variable_length_integer(len(payload)) + payload


def _variable_length_integer(value: int) -> bytes:
    """Encodes seven bits a byte, the lowest first; the high bit says that more follow."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
