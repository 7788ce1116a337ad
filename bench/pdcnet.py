"""Measures time and memory of PDC-Net on this CPU, beside the rate of its matrix products.

python bench/pdcnet.py
python bench/pdcnet.py --sizes 256x256 512x512 1024x1024

Each size runs in a process of its own, so that the peak of its memory is its own. Seconds are CPU
seconds of all threads, which other programs disturb less. Weights and images are random: neither
changes the time.
"""

import argparse
import multiprocessing
import os
import resource
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_PARTS = ("pyramid", "GOCor", "decoders")


def count_operations(function) -> float:
    """Counts the floating-point operations of a traced function's convolutions and products.

    The tiles of the local correlation multiply with 256 positions, of which 81 are asked for: only
    those count.
    """
    total = 0
    for operation in function.get_concrete_function().graph.get_operations():
        shapes = [tensor.shape for tensor in operation.inputs]
        if operation.type == "Conv2D":
            total += 2 * shapes[1].num_elements() * operation.outputs[0].shape[:3].num_elements()
        elif operation.type == "Conv2DBackpropInput":
            total += 2 * shapes[1].num_elements() * shapes[2][:3].num_elements()
        elif operation.type in ("BatchMatMulV2", "MatMul"):
            products = operation.outputs[0].shape.num_elements() * shapes[0][-1]
            share = 81 / 256 if "local_gocor" in operation.name else 1.0
            total += 2 * products * share
    return total


def seconds(function, repeats: int) -> tuple[float, float]:
    """Returns the median CPU and wall time of a function, after one call that is not counted."""
    import numpy as np

    function()
    times = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    return tuple(np.median(times, axis=0))


def measure(height: int, width: int, repeats: int, connection) -> None:
    """Runs the network at one size, then its parts on their own."""
    import numpy as np
    import tensorflow as tf

    from tfdense.models.pdcnet import PDCNet

    def random(*shape):
        return tf.constant(np.random.default_rng(0).normal(size=(1, *shape)), tf.float32)

    def traced(function):
        return tf.function(function, autograph=False, input_signature=[])

    network = PDCNet()
    source, target = (127.0 + 50.0 * random(height, width, 3) for _ in range(2))
    match = traced(lambda: network({"source": source, "target": target})["flow"])
    results = {"operations": count_operations(match)}
    results["network"] = seconds(match, repeats)
    results["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    grids = {3: (32, 32), 2: (height // 8, width // 8), 1: (height // 4, width // 4)}
    images = {8: random(height, width, 3), 16: random(256, 256, 3)}
    features = {n: random(*grid, 128 if n == 1 else 256) for n, grid in grids.items()}
    features[4] = random(16, 16, 512)
    inputs = {
        n: (*(random(*grid, 81),) * 2, random(*grid, 2), random(*grid, 4))
        for n, grid in grids.items()
    }
    inputs[4] = (random(16, 16, 256),) * 2
    upsampled = [random(*grids[1], 2)]

    def pyramid():
        return [network.pyramid(image, stride=s) for s, image in images.items() for _ in range(2)]

    def optimise():
        local = [network.local_gocor(features[n], features[n]) for n in grids]
        return network.global_gocor(features[4], features[4]), local

    def decode():
        levels = [getattr(network, f"level{n}")(*inputs[n]) for n in (4, 3, 2)]
        return levels, network.level1(*inputs[1], upsampled)

    for name, part in zip(_PARTS, (pyramid, optimise, decode), strict=True):
        results[name] = seconds(traced(part), repeats)

    x = random(2048, 2048)
    product = traced(lambda: tf.matmul(x, x))
    results["rate"] = count_operations(product) / seconds(product, 5 * repeats)[0]
    connection.send(results)


def report(size: str, results: dict) -> None:
    """Prints what was measured at one size."""
    cpu, wall = results["network"]
    ideal = results["operations"] / results["rate"]
    print(f"{size}: {cpu:.2f} CPU s ({wall:.2f} s), peak {results['memory'] / 2**30:.2f} GiB")
    parts = ", ".join(f"{name} {results[name][0] / cpu:.0%}" for name in _PARTS)
    print(f"    {parts}")
    print(
        f"    {results['operations'] / 1e9:.0f} GFLOP take {ideal:.2f} s at the "
        f"{results['rate'] / 1e9:.0f} GFLOP/s of a matrix product: {cpu / ideal:.2f} times that"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["512x512", "480x640"], metavar="HxW")
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many is printed")
    arguments = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    for size in arguments.sizes:
        height, width = map(int, size.split("x"))
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=measure, args=(height, width, arguments.repeats, sender))
        process.start()
        sender.close()
        try:
            report(size, receiver.recv())
        except EOFError:
            raise SystemExit(f"{size}: the process ended without a result.") from None
        finally:
            process.join()


if __name__ == "__main__":
    main()
