"""``python train.py`` and ``tfdense train``."""

import argparse
import json
import os
import signal
import tempfile
from pathlib import Path

import numpy as np

from tfdense import bundle
from tfdense.config import Config, load_config
from tfdense.errors import InputError
from tfdense.files import check_outputs, making, utf8_path
from tfdense.startup import import_tensorflow

_RUNS = Path("runs")
# In the folder of a run.
_FILES = ("config.yaml", "metrics.csv", "best.weights.h5", "last.weights.h5")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of training."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration (YAML)")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="photos, any folder of images, or, where the configuration says data.given: truth, "
        "pairs with ground truth",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="stop after so many steps")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one value, for example --set train.batch_size=4; may be repeated",
    )
    parser.add_argument(
        "--resume", type=Path, metavar="RUN", help="go on with the run in this folder"
    )
    parser.add_argument(
        "--from-bundle",
        type=Path,
        metavar="DIR",
        help="go on with what the train.py of this bundle trained, see tfdense export stablehlo",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="RUN", help="folder of a new run (runs/NAME)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Trains as the options say; returns the exit status."""
    overrides = list(arguments.set)
    if arguments.data is not None:
        overrides += _given(arguments)
    if arguments.steps is not None:
        overrides.append(f"train.steps={arguments.steps}")
    step, state = 0, None
    if arguments.resume is not None:
        folder = arguments.resume
        config = _resumed_config(arguments, overrides)
    elif arguments.from_bundle is not None:
        config, step, state = _bundled(arguments, overrides)
    else:
        config = load_config(arguments.config, overrides)
    if arguments.resume is None:
        folder = arguments.output or new_run_folder(config)
        if _follows(config):  # it writes nothing, and has nothing to go on from
            with tempfile.TemporaryDirectory(prefix="tfdense-") as reachable:
                return _train(config, folder, Path(reachable), step, state)
        if folder.exists():
            raise InputError(f"Expected a new folder for the run. {folder} exists already.")

    outputs = [folder / name for name in _FILES]
    check_outputs(outputs, filter(None, [config.train.initial_weights]))
    with making(folder), utf8_path(folder) as reachable:
        return _train(config, folder, reachable, step, state)


def _follows(config: Config) -> bool:
    """Whether this is a worker that writes no files."""
    if config.train.strategy not in (None, "multiworker"):
        return False
    import_tensorflow()
    from tfdense.training.strategies import worker

    return worker() > 0


def _given(arguments: argparse.Namespace) -> list[str]:
    """Returns what ``--data`` sets: the photos, or the pairs with ground truth."""
    key = "photos"
    path = arguments.config
    if arguments.resume is not None:
        path = arguments.resume / "config.yaml"
    if load_config(path if path and path.is_file() else None, arguments.set).data.given == "truth":
        from tfdense.evaluation.layouts import group_of

        key = f"{group_of(arguments.data)}.folder"
    return [f"data.{key}={json.dumps(str(arguments.data))}"]


def _train(config: Config, folder: Path, reachable: Path, step: int, state) -> int:
    """Trains in a folder, which TensorFlow may reach by another path only."""
    import_tensorflow()
    from tfdense.training.strategies import WorkerLost
    from tfdense.training.trainer import Trainer

    trainer = Trainer(config, reachable)
    if state is not None:
        trainer.adopt(state, step)
    if trainer.step >= config.train.steps and state is None:
        raise InputError(
            f"{folder} is at step {trainer.step} of {config.train.steps}; "
            "give a larger number of --steps to train on."
        )
    start = f"from step {trainer.step} " if trainer.step else ""
    print(f"Training {config.model.preset} {start}in {folder}", flush=True)
    try:
        finished = trainer.train()
    except WorkerLost as error:
        print(f"Stopped at step {trainer.step}. {error} Resume: python train.py --resume {folder}")
        return os.EX_TEMPFAIL
    if not finished:
        print(f"Stopped at step {trainer.step}. Resume: python train.py --resume {folder}")
        # What a shell, and a scheduler that preempts, knows a process by that a signal ended.
        return 128 + (trainer.stopped_by or signal.SIGINT)
    print(f"Trained {trainer.step} steps. Match with: tfdense match A B --model {folder}")
    return 0


def new_run_folder(config: Config) -> Path:
    """Returns ``runs/NAME``, or ``runs/NAME-2`` and so on where that exists already."""
    folder, number = _RUNS / config.name, 1
    while os.path.lexists(folder):
        number += 1
        folder = _RUNS / f"{config.name}-{number}"
    return folder


def _resumed_config(arguments: argparse.Namespace, overrides: list[str]) -> Config:
    folder = arguments.resume
    others = (arguments.config, arguments.from_bundle, arguments.output)
    if any(other is not None for other in others):
        raise InputError(
            "--resume takes the configuration and the folder of the run; leave out --config, "
            "--output and --from-bundle."
        )
    if not (folder / "config.yaml").is_file():
        raise InputError(f"{folder} is not the folder of a run: it has no config.yaml.")
    return load_config(folder / "config.yaml", overrides)


def _bundled(
    arguments: argparse.Namespace, overrides: list[str]
) -> tuple[Config, int, dict[str, np.ndarray]]:
    """Returns the configuration, the step and the state of the checkpoint in a bundle."""
    folder = arguments.from_bundle
    if arguments.config is not None:
        raise InputError("--from-bundle takes the configuration of the bundle; leave out --config.")
    try:
        opened = bundle.Bundle(folder)
        found = opened.checkpoint(folder / bundle.CHECKPOINTS)
        if found is None:
            raise InputError(
                f"{folder} holds no {bundle.CHECKPOINTS}: its train.py makes them, "
                "or copy them there."
            )
        description, state = found
        _, program = opened.training(description["program"])
        opened.read("config.yaml")  # as it was written, or not at all
    except bundle.BundleError as error:
        raise InputError(str(error)) from None
    variant = [
        f"data.size={program['size']}",
        f"train.batch_size={program['batch_size']}",
        f"train.precision={program['precision']}",
    ]
    config = load_config(folder / "config.yaml", [*variant, *overrides])
    return config, description["step"], state
