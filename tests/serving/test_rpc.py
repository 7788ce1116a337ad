"""gRPC as TensorFlow Serving's own client speaks it."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from known_server import image, png
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from tfdense.exporting.warm_up import prediction_log
from tfdense.serving.limits import Limits
from tfdense.serving.protocols.messages import MESSAGES, from_message, to_message
from tfdense.serving.refusal import Refusal


def predict_request(signature="match", name="known", **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


@pytest.fixture
def channel(serving):
    server = serving(limits=Limits(pixels=1000))
    with grpc.insecure_channel(server.grpc) as channel:
        yield channel


def test_predict_and_metadata(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = predict_request(source=image(8)[None], target=image()[None])
    response = stub.Predict(request, timeout=20)
    assert response.model_spec.name == "known" and response.model_spec.version.value == 1
    flow = tf.make_ndarray(response.outputs["flow"])
    assert flow.shape == (1, 16, 24, 2) and flow[0, 0, 0, 0] == 8
    assert {*response.outputs} == {"flow", "confidence", "log_variance", "logits"}

    encoded = {"source": [png(image(2))], "target": [png(image())]}
    request = predict_request("match_points", **encoded, target_points=np.float32([[[1, 2]]]))
    request.output_filter.append("source_points")
    request.model_spec.version.value = 1
    response = stub.Predict(request, timeout=20)
    assert [*response.outputs] == ["source_points"]
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["source_points"]), [[[3, 4]]])

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "known"
    metadata = stub.GetModelMetadata(request, timeout=20).metadata["signature_def"]
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert metadata.Unpack(signatures)
    assert signatures.signature_def["match_points"].method_name == "tensorflow/serving/predict"

    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "known"
    status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=20)
    (version,) = status.model_version_status
    assert version.State.Name(version.state) == "AVAILABLE"


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (predict_request(name="other"), "NOT_FOUND", "the model known"),
        (predict_request("no"), "NOT_FOUND", "a signature of"),
        (predict_request(source=image()[None]), "INVALID_ARGUMENT", "target is missing"),
        (predict_request(source=[2.5], target=[2]), "INVALID_ARGUMENT", "of the shape|fractions"),
        (predict_request(other=1), "INVALID_ARGUMENT", "Expected the inputs"),
        (
            predict_request(source=image()[None], target=image(1, 40, 40)[None]),
            "INVALID_ARGUMENT",
            "million pixels",
        ),
    ],
)
def test_wrong_requests_are_refused(channel, request_, code, message):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    with pytest.raises(grpc.RpcError, match=message) as caught:
        stub.Predict(request_, timeout=20)
    assert caught.value.code().name == code


def test_points_that_are_not_finite_are_refused(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    files = {"source": [png(image())], "target": [png(image())]}
    request = predict_request("match_points", **files, target_points=np.float32([[[1, np.nan]]]))
    with pytest.raises(grpc.RpcError, match="target_points as finite numbers") as caught:
        stub.Predict(request, timeout=20)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "method",
    [
        "tensorflow.serving.PredictionService/Predict",
        "tensorflow.serving.ModelService/GetModelStatus",
    ],
)
def test_what_is_no_message_is_refused(channel, method):
    with pytest.raises(grpc.RpcError, match="Expected a message") as caught:
        channel.unary_unary(f"/{method}")(b"\x0a\xff", timeout=20)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_token_and_health(serving):
    server = serving(token="secret")
    with grpc.insecure_channel(server.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_request(source=image()[None], target=image()[None])
        for metadata in ((), (("authorization", "Bearer no"),)):
            with pytest.raises(grpc.RpcError) as caught:
                stub.Predict(request, timeout=20, metadata=metadata)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert stub.Predict(request, timeout=20, metadata=(("authorization", "Bearer secret"),))
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=20) == b"\x08\x01"


@pytest.mark.parametrize(
    "values",
    [
        np.float32([[1.5, -2]]),
        np.uint8(7),
        np.int64([3, 3, 3, 4]),
        np.array([True, False]),
        np.array([[b"a", b"", b"\xff"]], object),
        np.zeros((0, 2), np.int32),
        np.full((2, 3), 9, np.int16),
    ],
    ids=lambda values: str(values.dtype),
)
def test_tensors_are_tensorflows(values):
    ours = to_message(np.asarray(values))
    theirs = TensorProto.FromString(ours.SerializeToString())
    np.testing.assert_array_equal(tf.make_ndarray(theirs), values)
    # TensorFlow shortens what is repeated at the end.
    message = MESSAGES["Tensor"].FromString(tf.make_tensor_proto(values).SerializeToString())
    back = from_message(message, "x")
    assert back.dtype == np.asarray(values).dtype
    np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize(
    "fields",
    [
        {"dtype": 99},
        {"dtype": 1, "tensor_content": b"abc"},
        {"dtype": 3, "int_val": [1, 2]},
        {"dtype": 4, "int_val": [300]},
    ],
)
def test_tensors_that_are_none(fields):
    message = MESSAGES["Tensor"](**fields)
    message.tensor_shape.dim.add(size=1)
    with pytest.raises(Refusal):
        from_message(message, "x")


def test_a_few_bytes_do_not_become_gigabytes():
    message = MESSAGES["Tensor"](dtype=1, float_val=[0])
    for _ in range(3):
        message.tensor_shape.dim.add(size=2**20)
    with pytest.raises(Refusal, match="but 1 values"):
        from_message(message, "x")


def test_warm_up_requests_are_tensorflow_servings():
    log = prediction_log_pb2.PredictionLog.FromString(
        prediction_log("known", "match_encoded", {"source": [b"abc"]})
    )
    request = log.predict_log.request
    assert (request.model_spec.name, request.model_spec.signature_name) == (
        "known",
        "match_encoded",
    )
    assert tf.make_ndarray(request.inputs["source"]).tolist() == [b"abc"]
