"""Running a SavedModel that `tfdense.exporting` wrote.

It runs in a session of its own: what `tf.saved_model.load` loads stays in memory for ever, 335 MiB
each time, and takes half as long again to load.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from tfdense.descriptions import check_description, parse_description
from tfdense.errors import InputError, printable
from tfdense.files import utf8_path
from tfdense.graph_effects import effects


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """An input or output of a signature.

    Attributes:
        dtype: of NumPy; object for strings of bytes.
        shape: None for a dimension of any size.
        optional: whether a server lets this input be left out.
        description: what it is.
    """

    dtype: np.dtype
    shape: tuple[int | None, ...]
    optional: bool = False
    description: str = ""


@dataclasses.dataclass(frozen=True)
class Signature:
    """One of the functions of a SavedModel, by the names of its inputs and outputs."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


class SavedModel:
    """A SavedModel in memory, which threads may share.

    Args:
        folder: the version's, which holds ``saved_model.pb``.
        threads: that compute one operation, and that run operations beside each other; the first
            model of a process decides for all. None: as TensorFlow chooses.

    Attributes:
        signatures: by name.
        definitions: by name, what TensorFlow stores of each signature (``SignatureDef``).
        description: what ``assets.extra/tfdense.json`` says.

    Raises:
        InputError: if it is none of tfdense, or broken.
    """

    def __init__(self, folder: Path, threads: int | None = None):
        path = folder / "assets.extra" / "tfdense.json"
        if not path.is_file():
            raise InputError(f"{folder} is not a SavedModel that tfdense exported: no {path.name}.")
        count = threads or 0
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=count, inter_op_parallelism_threads=count
        )
        self._functions = {}
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            self.description = check_description(
                parse_description(path.read_bytes()), "stride", "minimum_size"
            )
            with utf8_path(folder) as reachable:
                graph = _restore(self._session, Path(reachable))
            self.definitions = dict(graph.signature_def)
            texts = self.description.get("signatures", {})
            self.signatures = {
                name: _signature(definition, texts.get(name, {}))
                for name, definition in self.definitions.items()
                if not name.startswith("__")
            }
        except (ValueError, OSError, KeyError, DecodeError, tf.errors.OpError) as error:
            reasons = [line for line in str(error).splitlines() if line and line[-1] != ":"]
            raise InputError(f"The SavedModel {folder} is broken: {reasons[0]}") from None

    def __del__(self):
        self.close()

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Calls a signature.

        Args:
            signature: its name.
            inputs: by name.

        Returns:
            All outputs by name.

        Raises:
            tf.errors.InvalidArgumentError: if an image is none that can be decoded, say.
        """
        names = tuple(sorted(inputs))
        outputs = tuple(self.signatures[signature].outputs)
        answer = self.function(signature, names, outputs)(*(inputs[name] for name in names))
        return dict(zip(outputs, answer, strict=True))

    def function(
        self, signature: str, inputs: tuple[str, ...], outputs: tuple[str, ...]
    ) -> Callable[..., list[np.ndarray]]:
        """Returns a signature as a function of the inputs named, which answers these outputs."""
        key = signature, inputs, outputs
        if key not in self._functions:
            definition = self.definitions[signature]
            self._functions[key] = self._session.make_callable(
                [definition.outputs[name].name for name in outputs],
                [definition.inputs[name].name for name in inputs],
            )
        return self._functions[key]

    def close(self) -> None:
        """Frees the memory."""
        if hasattr(self, "_session"):
            self._functions.clear()
            self._session.close()


def _restore(session: tf.compat.v1.Session, folder: Path):
    saved_model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graphs = [graph for graph in saved_model.meta_graphs if "match" in graph.signature_def]
    if not graphs:
        raise ValueError("no signature match in saved_model.pb")
    _refuse_effects(graphs[0])
    with session.graph.as_default():
        saver = tf.compat.v1.train.import_meta_graph(graphs[0], clear_devices=True)
        saver.restore(session, str(folder / "variables" / "variables"))
    return graphs[0]


def _refuse_effects(graph) -> None:
    """Refuses what would read or write files, or call Python, when it is restored or run."""
    outputs = [
        tensor.name
        for definition in graph.signature_def.values()
        for tensor in definition.outputs.values()
    ]
    saver = graph.saver_def
    restored = effects(graph.graph_def, [saver.restore_op_name], ["RestoreV2"])
    if found := effects(graph.graph_def, outputs) + restored:
        raise ValueError(f"it would do more than compute: {printable(', '.join(found[:5]))}")


def _signature(definition, texts: Mapping[str, Mapping[str, str]]) -> Signature:
    def specs(tensors, kind):
        described = texts.get(kind, {})
        return {
            name: TensorSpec(
                np.dtype(tf.as_dtype(tensor.dtype).as_numpy_dtype),
                tuple(None if d.size < 0 else d.size for d in tensor.tensor_shape.dim),
                description=described.get(name, ""),
            )
            for name, tensor in sorted(tensors.items())
        }

    return Signature(specs(definition.inputs, "inputs"), specs(definition.outputs, "outputs"))
