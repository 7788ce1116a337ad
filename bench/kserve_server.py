"""Serves a SavedModel by KServe, to compare `tfdense serve` with: kserve_server.py DIR --port N

Needs an environment of its own with tfdense and kserve 0.21. Measure it with

    python bench/serving.py --url http://127.0.0.1:N --name model --forms "pixels, bytes"
"""

import argparse

import tensorflow as tf
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Matching(Model):
    """The signature `match`, by the open inference protocol."""

    def load(self, folder: str) -> None:
        self._match = tf.saved_model.load(folder).signatures["match"]
        self.ready = True

    def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        images = {x.name: tf.constant(x.as_numpy()) for x in payload.inputs}
        found = self._match(**images)
        outputs = []
        for name in ("flow", "confidence"):
            values = found[name].numpy()
            output = InferOutput(name, list(values.shape), "FP32")
            output.set_data_from_numpy(values, binary_data=True)
            outputs.append(output)
        return InferResponse(payload.id or "", self.name, outputs, use_binary_outputs=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", help="of one version")
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()
    model = Matching("model")
    model.load(arguments.folder)
    ModelServer(http_port=arguments.port, enable_grpc=False).start([model])
