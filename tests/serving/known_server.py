"""A server of a model whose answers are known, on a free port of this machine."""

import contextlib
import threading
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from tfdense.errors import InputError
from tfdense.exporting.metadata import SIGNATURES
from tfdense.images import as_image
from tfdense.saved_models import Signature, TensorSpec
from tfdense.serving.batching import Batcher
from tfdense.serving.limits import Limits
from tfdense.serving.metrics import Metrics
from tfdense.serving.refusal import wrong
from tfdense.serving.server import Address, Server
from tfdense.serving.service import Service
from tfdense.serving.versions import Versions

_STRING, _FLOAT = np.dtype(object), np.dtype(np.float32)
_SHAPES = {
    "source_points": (_FLOAT, (None, None, 2)),
    "target_points": (_FLOAT, (None, None, 2)),
    "flow": (_FLOAT, (None, None, None, 2)),
    "confidence": (_FLOAT, (None, None, None)),
    "log_variance": (_FLOAT, (None, None, None, 2)),
    "logits": (_FLOAT, (None, None, None, 2)),
    "target_size": (np.dtype(np.int32), (None, 2)),
}


def _signature(name):
    def spec(key, text):
        if key in _SHAPES:
            return TensorSpec(*_SHAPES[key], description=text)
        mask = key.endswith("_mask")
        if name == "match_masked":
            shape = (None, None, None) if mask else (None, None, None, 3)
            return TensorSpec(np.dtype(np.uint8), shape, mask, text)
        return TensorSpec(_STRING, (None,), mask, text)

    name = name if name.endswith("_masked") else f"{name}_masked"  # as `ServedModel` says
    return Signature(
        *(
            {key: spec(key, text) for key, text in SIGNATURES[name][kind].items()}
            for kind in ("inputs", "outputs")
        )
    )


class KnownModel:
    """Answers with flows that say what was asked: the source's first pixel and the version."""

    def __init__(self, version=1):
        self.signatures = {name: _signature(name) for name in SIGNATURES}
        self.signatures["serving_default"] = self.signatures["match"]
        self.definitions = {
            name: SignatureDef(method_name="tensorflow/serving/predict") for name in self.signatures
        }
        mixture = {"name": "LaplaceMixture", "maximum_variance": 1e4}
        self.description = {"stride": 16, "minimum_size": 32, "mixture": mixture}
        self.version = version
        self.go_on = threading.Event()
        self.go_on.set()
        self.batches = []

    def run(self, signature, inputs):
        self.batches.append(len(inputs["source"]))
        assert self.go_on.wait(20)
        signature = signature.removesuffix("_masked")
        if signature in ("match", "serving_default"):
            return self._dense(inputs["source"], inputs["target"])
        try:
            images = [[as_image(each) for each in inputs[role]] for role in ("source", "target")]
        except InputError as error:  # what it is to `ServedModel` that TensorFlow cannot decode it
            raise wrong(str(error)) from None
        if signature == "match_points":
            shift = np.array([image[0, 0, 0] for image in images[0]], np.float32)
            points = inputs["target_points"] + shift[:, None, None]
            return {"source_points": points, "confidence": np.ones(points.shape[:2], np.float32)}
        answers = [
            self._dense(source[None], target[None]) for source, target in zip(*images, strict=True)
        ]
        sizes = np.array([answer["confidence"].shape[1:] for answer in answers], np.int32)
        outputs = {"target_size": sizes}
        for name in answers[0]:
            rest = answers[0][name].shape[3:]
            filled = np.zeros((len(answers), *sizes.max(axis=0), *rest), np.float32)
            for i, (height, width) in enumerate(sizes):
                filled[i, :height, :width] = answers[i][name][0]
            outputs[name] = filled
        return outputs

    def _dense(self, source, target):
        shape = target.shape[:3]
        flow = np.zeros((*shape, 2), np.float32)
        flow[..., 0] = source[:, :1, :1, 0]
        flow[..., 1] = self.version
        flow[..., -1, 0] += 0.25
        return {
            "flow": flow,
            "confidence": np.full(shape, 0.5, np.float32),
            "log_variance": np.ones((*shape, 2), np.float32),
            "logits": np.zeros((*shape, 2), np.float32),
        }


def image(value=7, height=16, width=24):
    return np.full((height, width, 3), value, np.uint8)


def png(pixels):
    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


@pytest.fixture
def serving(tmp_path):
    """Starts servers; gives what a test needs of each."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(running(tmp_path, **options))


@contextlib.contextmanager
def running(
    folder,
    *,
    name="known",
    load=None,
    limits=None,
    token=None,
    tls=(None, None),
    poll=30.0,
    **batching,
):
    versions_folder = folder / "known"
    (versions_folder / "1").mkdir(parents=True)
    (versions_folder / "1" / "saved_model.pb").write_bytes(b"known")
    models = {}

    def load_known(path):
        if (path / "saved_model.pb").read_bytes() != b"known":
            raise ValueError("it is broken")
        models[int(path.name)] = KnownModel(int(path.name))
        return models[int(path.name)]

    metrics = Metrics()
    versions = Versions(versions_folder, name, load or load_known, poll)
    batcher = Batcher(
        lambda model, signature, inputs: model.run(signature, inputs), metrics=metrics, **batching
    )
    service = Service(versions, batcher, limits or Limits(), metrics)
    ready, addresses = threading.Event(), []

    def started(address):
        addresses.append(address)
        ready.set()

    server = Server(service, Address("127.0.0.1", 0, 0, *tls), token, started)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert ready.wait(20)
    address = addresses[0]
    try:
        yield SimpleNamespace(
            url=f"{'http' if tls[0] is None else 'https'}://127.0.0.1:{address.port}",
            port=address.port,
            grpc=f"127.0.0.1:{address.grpc_port}",
            models=models,
            versions=versions,
            batcher=batcher,
            folder=versions_folder,
            service=service,
            server=server,
            thread=thread,
        )
    finally:
        for model in models.values():
            model.go_on.set()
        server.should_exit = True
        thread.join(20)
        service.close()
        assert not thread.is_alive()


def until(condition):
    for _ in range(4000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it never came to be")
