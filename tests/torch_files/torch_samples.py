"""Makes the files beside it with PyTorch itself; the tests read them without.

    pip install torch==2.13.0 numpy
    python tests/torch_files/torch_samples.py

`parameters` says what they hold, in NumPy; the tests compare with that.
"""

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
TYPES = (
    *("float64", "float32", "float16", "complex64", "complex128"),
    *("int64", "int32", "int16", "int8", "uint8", "bool"),
)


def parameters() -> dict[str, np.ndarray]:
    """Returns the arrays by name; `main` stores the same as tensors of PyTorch."""
    arrays = {name: (np.arange(24) % 7).reshape(2, 3, 4).astype(name) for name in TYPES}
    base = np.arange(60, dtype=np.float32).reshape(3, 4, 5) / 8
    return arrays | {
        "bfloat16": base,
        "layer.weight": base,
        "layer.transposed": base.transpose(2, 0, 1),
        "layer.cut": base[1:, ::2, 3],
        "layer.expanded": np.broadcast_to(base[1, 2, 3], (4, 7)),
        "layer.scalar": base[2, 3, 4],
        "layer.empty": base[:0],
        "layer.parameter": base[0],
        "layer.with_attributes": base[1],
        "layer.numpy": base[2],
    }


def main() -> None:
    import torch

    arrays = parameters()
    tensors = {name: torch.from_numpy(arrays[name]) for name in TYPES}
    base = torch.from_numpy(arrays["layer.weight"])
    with_attributes = torch.nn.Parameter(base[1])
    with_attributes.learning_rate_factor = 10.0
    tensors |= {
        "bfloat16": base.to(torch.bfloat16),
        "layer.weight": base,
        "layer.transposed": base.permute(2, 0, 1),
        "layer.cut": base[1:, ::2, 3],
        "layer.expanded": base[1, 2, 3].expand(4, 7),
        "layer.scalar": base[2, 3, 4],
        "layer.empty": base[:0],
        "layer.parameter": torch.nn.Parameter(base[0]),
        "layer.with_attributes": with_attributes,
        "layer.numpy": arrays["layer.numpy"],
    }
    network = torch.nn.Linear(2, 2)
    training = {
        "net": tensors,
        "epoch": 3,
        "settings": Settings(),
        "stats": {"loss": [Statistic(), np.float64(0.5)], ("a", 1): {1, 2}},
        "optimizer": torch.optim.Adam(network.parameters()).state_dict(),
        "constructor": Settings,
        "metric": max,
    }
    torch.save(training, FOLDER / "archive.pth")
    torch.save(training, FOLDER / "sequence.pth", _use_new_zipfile_serialization=False)
    unsigned = {
        f"module.uint{bits}": torch.arange(5).to(getattr(torch, f"uint{bits}"))
        for bits in (16, 32, 64)
    }
    torch.serialization.set_crc32_options(False)
    torch.save(unsigned, FOLDER / "unsigned.pth", pickle_protocol=4)


class Settings:
    """As trainers have them: an object of a module that only they know."""

    def __init__(self):
        self.values = {"batch_size": 6}


class Statistic:
    """Keeps its numbers in slots."""

    __slots__ = ("history",)

    def __init__(self):
        self.history = [1.5, 2.5]


if __name__ == "__main__":
    import sys

    # Under a name that no reader can import.
    trainer = sys.modules["trainer"] = type(sys)("trainer")
    for class_ in (Settings, Statistic):
        class_.__module__ = "trainer"
        setattr(trainer, class_.__name__, class_)
    main()
