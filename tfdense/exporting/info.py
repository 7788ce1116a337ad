"""``tfdense info``: says what a .tflite file holds, what it costs, what a GPU would not run.

Needs numpy and ai-edge-litert, no TensorFlow.
"""

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path

from ai_edge_litert.interpreter import OpResolverType

from tfdense.errors import printable
from tfdense.exporting.cost import arena_size, count_flops, count_parameters
from tfdense.exporting.gpu_delegate import Left, left_to_cpu
from tfdense.tflite_files import count_operations, open_file, read_operations, signature_names

_STATED = ("preset", "version", "weights_sha256", "licence", "precision", "radius")


@dataclasses.dataclass(frozen=True)
class FileInfo:
    """What is known of a .tflite file that tfdense wrote.

    Attributes:
        path: of the file.
        size: in bytes.
        metadata: what the exporter wrote, see `tfdense.exporting.metadata`.
        operations: the number of each, by name. As all below, at the first of its sizes.
        flops: of convolutions and matrix products, for one pair of images.
        parameters: the values in kernels and biases.
        arena: what LiteRT computes in without a delegate, in bytes.
        left: what a GPU delegate would leave to the CPU.
    """

    path: Path
    size: int
    metadata: Mapping
    operations: Mapping[str, int]
    flops: int
    parameters: int
    arena: int
    left: list[Left]

    def __str__(self) -> str:
        stated = {key: self.metadata.get(key) or "not stated" for key in _STATED}
        counts = ", ".join(f"{name} {count}" for name, count in self.operations.items())
        total = sum(self.operations.values())
        left = sum(each.count for each in self.left)
        sizes = list(signature_names(self.metadata))
        of_first = "{}x{}".format(*sizes[0]) if len(sizes) > 1 else "that size"
        at = f" at {of_first}" if len(sizes) > 1 else ""
        rows = [
            ("network", f"{stated['preset']}, exported by tfdense {stated['version']}"),
            ("weights", f"SHA-256 {stated['weights_sha256']}"),
            ("licence", f"{stated['licence']} (of the weights)"),
            ("precision", f"{stated['precision']} (of the weights)"),
            ("size", f"{', '.join(f'{h}x{w}' for h, w in sizes)} px, height x width"),
            ("R", f"{stated['radius']} px of the confidence, at {of_first}"),
            *self.metadata.get("conventions", {}).items(),
            ("parameters", f"{self.parameters / 1e6:.2f} million in kernels and biases"),
            (
                "FLOPs",
                f"{self.flops / 1e9:.2f} billion a pair{at} in convolutions and matrix products",
            ),
            ("arena", f"{self.arena / 1e6:.1f} MB without a delegate, at {of_first}"),
            ("operations", f"{total}{at}: {counts}"),
            ("GPU", f"{total - left} operations{at} suit a delegate, {left} do not"),
            *(("", f"{each.count} {each.name}: {each.reason}") for each in self.left),
        ]
        lines = [f"{printable(str(self.path))}: {self.size / 1e6:.2f} MB"]
        return "\n".join([*lines, *(f"  {name:13}{text}" for name, text in rows)])


def read_info(path: str | Path) -> FileInfo:
    """Examines a file that ``tfdense export tflite`` wrote.

    Raises:
        InputError: if there is no such file, it is broken or was not written by tfdense.
    """
    path = Path(path)
    file = open_file(
        path,
        # A delegate computes in memory of its own, whose size it does not tell.
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    # Of several sizes, that of the first; the others are the same network.
    operations = read_operations(file.content, graph=0)
    return FileInfo(
        path=path,
        size=len(file.content),
        metadata=file.metadata,
        operations=count_operations(operations),
        flops=count_flops(operations),
        parameters=count_parameters(operations),
        arena=arena_size(file.interpreter, file.content),
        left=left_to_cpu(operations),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `run` reads."""
    parser.add_argument("file", metavar="FILE", type=Path, help="what tfdense export tflite wrote")


def run(arguments: argparse.Namespace) -> int:
    """Prints what is known of a file.

    Returns:
        0.
    """
    print(read_info(arguments.file))
    return 0
