"""What a TensorFlow graph would do beside computing: a SavedModel is a program.

Its operations can read and write any file, or call Python. Those of matching compute, and read the
variables.
"""

from collections.abc import Iterable, Iterator

from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.python.framework import op_def_registry

# Of those that have a state: variables, control flow, lists, random numbers, assertions.
_HARMLESS = frozenset(
    {"VarHandleOp", "ReadVariableOp", "AssignVariableOp", "VariableShape", "VarIsInitializedOp"}
    | {"StatefulPartitionedCall", "PartitionedCall", "While", "If", "Case", "Assert", "Print"}
    | {"StatelessWhile", "StatelessIf", "StatelessCase", "Placeholder", "ResourceGather"}
    | {"TensorListFromTensor", "Where", "RandomUniform", "RandomStandardNormal", "NoOp"}
)
# Of those that have none, but read files.
_READING = frozenset({"ReadFile", "MatchingFiles", "Restore", "RestoreSlice", "RestoreV2"})


def effects(graph: GraphDef, outputs: Iterable[str], allowed: Iterable[str] = ()) -> list[str]:
    """Lists the operations behind some outputs that do more than compute.

    Args:
        graph: with the functions that it calls.
        outputs: names of tensors or operations, which are to be computed.
        allowed: operations that may be among them all the same.

    Returns:
        Their names, sorted; also of those that TensorFlow does not have.
    """
    found = {node.op for node in _behind(graph, outputs)} - set(allowed)
    functions = {function.signature.name for function in graph.library.function}
    return sorted(op for op in found - functions if _has_effect(op))


def _has_effect(op: str) -> bool:
    if op in _HARMLESS:
        return False
    definition = op_def_registry.get(op)
    return definition is None or definition.is_stateful or op in _READING


def _behind(graph: GraphDef, outputs: Iterable[str]) -> Iterator[NodeDef]:
    nodes = {node.name: node for node in graph.node}
    functions = {function.signature.name: function for function in graph.library.function}
    waiting, seen = [_node_name(name) for name in outputs], set()
    called: list[str] = []
    while waiting:
        name = waiting.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        yield nodes[name]
        waiting += map(_node_name, nodes[name].input)
        called += _called(nodes[name])
    seen = set()
    while called:
        name = called.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in functions[name].node_def:
            yield node
            called += _called(node)


def _called(node: NodeDef) -> Iterator[str]:
    """Yields the functions that a node may call."""
    yield node.op
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)


def _node_name(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]
