"""Which operations of a .tflite file a GPU delegate would leave to the CPU, and why.

Each such operation cuts the network in two: what comes before it goes to the CPU and back. One in
the middle may cost more than all others gain.

The rules are what LiteRT's delegates state themselves when they refuse an operation, and what the
older of TensorFlow Lite, which many phones still have, does not take.
"""

import collections
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tfdense.tflite_files import Operation, Tensor

_LARGEST_RANK = 4
_REFLECT = 0

# What delegates have at all; any other operation stays on the CPU.
_TAKEN = """
ABS ADD ADD_N ARG_MAX AVERAGE_POOL_2D BATCH_MATMUL CAST CEIL CONCATENATION CONV_2D COS
DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV ELU EQUAL EXP FLOOR FLOOR_DIV FLOOR_MOD
FULLY_CONNECTED GATHER GELU GREATER GREATER_EQUAL HARD_SWISH LEAKY_RELU LESS LESS_EQUAL LOG
LOGICAL_AND LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD
PADV2 POW PRELU QUANTIZE REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RESHAPE RESIZE_BILINEAR
RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT SELECT_V2 SIGN SIN SLICE SOFTMAX SPACE_TO_DEPTH
SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TILE TOPK_V2 TRANSPOSE
TRANSPOSE_CONV UNPACK
"""


class Rule(NamedTuple):
    """A reason to leave an operation to the CPU.

    Attributes:
        reason: what is wrong with the operation.
        breaks: whether an operation has it.
        names: of the operations that it is about; none means all.
    """

    reason: str
    breaks: Callable[[Operation], bool]
    names: Sequence[str] = ()


class Left(NamedTuple):
    """Operations that would be left to the CPU for one reason.

    Attributes:
        name: of the operation.
        reason: of a rule.
        count: how many there are.
    """

    name: str
    reason: str
    count: int


RULES = (
    Rule("no delegate has this operation", lambda operation: operation.name not in _TAKEN.split()),
    Rule("a tensor has more than 4 axes", lambda operation: _any(operation, _has_many_axes)),
    Rule("a tensor is of int64", lambda operation: _any(operation, lambda x: x.dtype == "INT64")),
    Rule(
        "its output is of type bool",
        lambda operation: any(x.dtype == "BOOL" for x in operation.outputs),
    ),
    Rule("a constant is infinite or zero in float16", lambda operation: _any(operation, _is_lost)),
    Rule(
        "it takes the same tensor twice",
        lambda operation: operation.inputs[0] is operation.inputs[1],
        ("ADD", "SUB"),
    ),
    Rule(
        "its indices have not exactly one axis",
        lambda operation: len(operation.inputs[1].shape) != 1,
        ("GATHER",),
    ),
    Rule(
        "it drops an axis (shrink_axis_mask)",
        lambda operation: operation.options.shrinkAxisMask != 0,
        ("STRIDED_SLICE",),
    ),
    Rule(
        "it adds an axis (new_axis_mask)",
        lambda operation: operation.options.newAxisMask != 0,
        ("STRIDED_SLICE",),
    ),
    Rule(
        "what it pads has not four axes",
        lambda operation: len(operation.inputs[0].shape) != _LARGEST_RANK,
        ("PAD", "PADV2"),
    ),
    Rule(
        "its matrices are not equally many, which delegates compute wrongly",
        lambda operation: operation.inputs[0].shape[:-2] != operation.inputs[1].shape[:-2],
        ("BATCH_MATMUL",),
    ),
    Rule(
        "it repeats the border itself (SYMMETRIC)",
        lambda operation: operation.options.mode != _REFLECT,
        ("MIRROR_PAD",),
    ),
)


def left_to_cpu(operations: Iterable[Operation]) -> list[Left]:
    """Lists what a GPU delegate would leave to the CPU, the most frequent first.

    Args:
        operations: of a file, see `tfdense.tflite_files.read_operations`.

    Returns:
        Each operation counts once, for the first rule of `RULES` that it breaks.
    """
    counts = collections.Counter(
        (operation.name, reason)
        for operation in operations
        if (reason := reason_to_leave(operation)) is not None
    )
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Left(name, reason, count) for (name, reason), count in ordered]


def reason_to_leave(operation: Operation) -> str | None:
    """Returns the first reason of `RULES` to leave an operation to the CPU, None if all is well."""
    for rule in RULES:
        if (not rule.names or operation.name in rule.names) and rule.breaks(operation):
            return rule.reason
    return None


def _any(operation: Operation, test: Callable[[Tensor], bool]) -> bool:
    return any(map(test, (*operation.inputs, *operation.outputs)))


def _has_many_axes(tensor: Tensor) -> bool:
    return len(tensor.shape) > _LARGEST_RANK


def _is_lost(tensor: Tensor) -> bool:
    """Whether a constant overflows float16, or is not zero but nothing of it is left there."""
    if tensor.dtype != "FLOAT32" or tensor.values is None:
        return False
    with np.errstate(over="ignore"):
        half = tensor.values.astype(np.float16)
    return not np.isfinite(half).all() or (tensor.values.any() and not half.any())
