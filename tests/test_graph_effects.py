"""SavedModels that would do more than compute are refused before they run."""

import pytest
import tensorflow as tf

from tfdense.graph_effects import effects


def _graph(function):
    concrete = tf.function(function).get_concrete_function(tf.TensorSpec([None], tf.string))
    graph = concrete.graph.as_graph_def()
    return graph, [tensor.name for tensor in concrete.outputs]


def _hidden(x):
    inner = tf.function(
        lambda x: tf.cond(tf.size(x) > 1, lambda: tf.io.read_file(x[0]), lambda: x[0])
    )
    return inner(x)


def _first(x):
    with tf.control_dependencies([tf.io.write_file("/tmp/hostile", x[0])]):
        return tf.strings.length(x)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: tf.strings.length(x) + 1, []),
        (lambda x: tf.io.decode_jpeg(x[0]), []),
        (lambda x: tf.map_fn(tf.strings.length, x, tf.int32), []),
        (lambda x: tf.io.read_file(x[0]), ["ReadFile"]),
        (lambda x: tf.numpy_function(len, [x], tf.int64), ["PyFunc"]),
        (lambda x: tf.py_function(len, [x], tf.int64), ["EagerPyFunc"]),
        (lambda x: tf.io.matching_files(x), ["MatchingFiles"]),
        (_first, ["WriteFile"]),
        (_hidden, ["ReadFile"]),
    ],
)
def test_operations_behind_outputs(function, expected):
    assert effects(*_graph(function)) == expected


def test_what_is_not_computed_does_not_count():
    graph, _ = _graph(lambda x: (tf.io.read_file(x[0]), tf.strings.length(x)))
    safe = next(node.name for node in graph.node if node.op == "StringLength")
    assert effects(graph, [safe]) == []
    assert effects(graph, [node.name for node in graph.node], ["ReadFile"]) == []
    graph.node[-1].op = "SomebodysOwn"
    assert effects(graph, [graph.node[-1].name]) == ["SomebodysOwn"]
