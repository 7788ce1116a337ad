"""Measures an accelerator with the programs of a bundle, then trains on it for the time left.

python bench/accelerator.py bundle/ --data DIR     writes the bundle; needs TensorFlow and JAX
python bundle/measure.py --minutes 9               measures and trains; numpy and JAX will do

It prints what `bundle/measured.json` holds: pairs/s of training and what of its time making the
pairs takes, milliseconds a pair of matching, and what the correlations reach of the rates that
copying and multiplying large arrays have on the same device, each beside the same arithmetic
written plainly. Programs are compiled at the same time; those that take too long are left out, and
what is compiled stays in the bundle for the next time.
"""

import argparse
import concurrent.futures
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

_COMPILING = 0.6
"""Share of the time in which programs must be ready to be measured."""

_SECONDS, _REPEATS = 1.0, 100
"""A program is repeated for so long, but at most so often."""


def main(arguments: list[str] | None = None) -> int:
    """Writes a bundle where there is none, else measures it; returns the exit status."""
    here = Path(__file__).resolve().parent
    own = here if (here / "manifest.json").is_file() else None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, nargs="?" if own else None, default=own)
    parser.add_argument("--minutes", type=float, default=9.0, help="in all (%(default)s)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="beginnings of the programs")
    writing = parser.add_argument_group("where there is no bundle yet")
    writing.add_argument("--config", type=Path, metavar="FILE", help="of the training (YAML)")
    writing.add_argument("--data", type=Path, metavar="DIR", help="photos")
    writing.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    writing.add_argument(
        "--programs", nargs="+", default=["256x64", "448x24"], metavar="SIZExBATCH"
    )
    writing.add_argument("--precisions", nargs="+", default=["float32", "mixed_bfloat16"])
    writing.add_argument("--match", nargs="+", default=["480x640", "1024x1024"], metavar="HxW")
    writing.add_argument(
        "--networks", nargs="+", default=["pdcnet-lite", "pdcnet"], help="that match (%(default)s)"
    )
    writing.add_argument("--radius", type=int, default=4, help="of the local correlations")
    writing.add_argument("--rates", type=int, default=4096, metavar="N", help="sides of matrices")
    options = parser.parse_args(arguments)
    if not options.bundle.exists():
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from accelerator_bundle import write_bundle

        return write_bundle(options)
    return run(options.bundle, options.minutes, options.only)


def run(folder: Path, minutes: float, only: list[str] | None = None) -> int:
    """Measures the programs of a bundle and trains with the first that trains.

    Args:
        folder: of the bundle.
        minutes: for all together.
        only: beginnings of the names of programs to be measured; None takes all.

    Returns:
        The exit status: 2 if the bundle cannot be used.
    """
    start = time.monotonic()
    train = _import_train(folder)
    try:
        bundle = train.Bundle(folder)
        programs = bundle.manifest["programs"]
        names = [name for name in programs if only is None or name.startswith(tuple(only))]
        measured = measure(train, bundle, names, _COMPILING * 60 * minutes)
        (folder / "measured.json").write_text(json.dumps(measured, indent=1))
        print("\n".join(report(measured)), flush=True)
        first = next(name for name in programs if "batch_size" in programs[name])
        left = minutes - (time.monotonic() - start) / 60
        checkpoints = folder / train.CHECKPOINTS
        step = train.train(bundle, first, checkpoints, minutes=max(left, 0.0))
    except train.BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Where TensorFlow is: tfdense train --from-bundle {folder} -o RUN --steps {step}")
    print("then: tfdense evaluate SET --data DIR --model RUN")
    return 0


def measure(train, bundle, names: list[str], compiling: float) -> dict:
    """Compiles programs and measures them one after the other.

    Args:
        train: the bundle's script as a module.
        bundle: a `Bundle` of it.
        names: of the programs.
        compiling: seconds after which those that are not compiled are left out.

    Returns:
        dict: ``device``, ``jax``, and ``programs``: of each what the manifest says, after how many
        seconds it was ``compiled``, and the ``seconds`` of a run, a median; or the ``problem``.
    """
    import jax

    train.keep_compiled(bundle)
    state = bundle.initial_state()
    data = jax.device_put(bundle.data())
    device = jax.devices()[0].device_kind
    start, results = time.monotonic(), {}

    def prepare(name):
        ready = _prepare(train, bundle, name, state, data)
        return ready, time.monotonic() - start

    workers = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    waiting = {workers.submit(prepare, name): name for name in names}
    late = concurrent.futures.wait(waiting, compiling).not_done
    for future in late:
        future.cancel()
    workers.shutdown(wait=False)
    for future, name in waiting.items():
        result = {k: v for k, v in bundle.manifest["programs"][name].items() if k not in _PARTS}
        results[name] = result
        try:
            if future in late:
                raise TimeoutError(f"not compiled after {compiling:.0f} s")
            ready, result["compiled"] = future.result()
            result["seconds"] = _seconds(ready)
        except train.BundleError:
            raise
        except Exception as error:  # Out of memory: others may fit.
            result["problem"] = str(error).strip().splitlines()[0][:200]
    return {"device": device, "jax": jax.__version__, "programs": results}


_PARTS = ("file", "inputs", "outputs")


def _prepare(train, bundle, name: str, state: dict, data: dict) -> Callable[[], object]:
    """Returns a function that starts a compiled program and returns what it will give."""
    import jax

    entry = bundle.manifest["programs"][name]
    if "batch_size" in entry:
        step = train.Step(bundle, name, state, data)
        return lambda: step(0)
    known = {**train.Bundle.weights(state), **data}
    draw = np.random.default_rng(0)
    arrays = {
        key: known[key] if key in known else _random(draw, **spec)
        for key, spec in entry["inputs"].items()
    }
    program = bundle.program(name)
    arrays = jax.device_put(arrays)
    compiled = jax.jit(program).lower(arrays).compile()
    return lambda: compiled(arrays)


def _random(draw: np.random.Generator, shape: list[int], dtype: str, **_) -> np.ndarray:
    if dtype == "uint8":
        return draw.integers(0, 256, shape, np.uint8)
    if dtype.startswith("int"):
        return np.zeros(shape, dtype)
    # As small as weights are, so that deep networks keep to numbers.
    return (0.02 * draw.standard_normal(shape, np.float32)).astype(dtype)


def _seconds(run: Callable[[], object]) -> float:
    """Returns the median time of a run: of one each, or of ten started together if it is short."""
    import jax

    def timed(count):
        start = time.perf_counter()
        for _ in range(count):
            result = run()
        jax.block_until_ready(result)
        return (time.perf_counter() - start) / count

    timed(1)
    count = 1 if timed(1) > 0.02 else 10
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < _SECONDS and count * len(times) < _REPEATS:
        times.append(timed(count))
    return float(np.median(times))


def report(measured: dict) -> list[str]:
    """Returns the lines to print of what `measure` gives."""
    programs = measured["programs"]
    lines = [f"{measured['device']}, JAX {measured['jax']}"]
    known = {name: entry["seconds"] for name, entry in programs.items() if "seconds" in entry}
    rates = {
        unit: programs[name][unit] / known[name]
        for name, unit in (("rate-copy", "bytes"), ("rate-product", "operations"))
        if name in known
    }
    for name, entry in programs.items():
        if "problem" in entry:
            lines.append(f"{name}: {entry['problem']}")
            continue
        seconds = entry["seconds"]
        line = f"{name}: {1000 * seconds:.4g} ms"
        if "batch_size" in entry:
            line += f", {entry['batch_size'] / seconds:.1f} pairs/s"
            pairs = known.get(f"pairs-{entry['size']}x{entry['batch_size']}")
            line += f", making the pairs {pairs / seconds:.0%} of it" if pairs else ""
        for unit, short in (("bytes", "GB/s"), ("operations", "GFLOP/s")):
            if unit in entry:
                rate = entry[unit] / seconds
                share = f" ({rate / rates[unit]:.0%})" if unit in rates else ""
                line += f", {rate / 1e9:.1f} {short}{share}"
        plain = known.get(f"{name}-plain")
        line += f", plainly {plain / seconds:.2f} times as long" if plain else ""
        lines.append(f"{line}; compiled after {entry['compiled']:.0f} s")
    return lines


def _import_train(folder: Path):
    """Imports the train.py of a bundle, whatever else is called so."""
    spec = importlib.util.spec_from_file_location("bundled_train", folder / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    # Does not wait for programs that are still being compiled.
    os._exit(status)
