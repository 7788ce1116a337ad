import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tfdense import cli
from tfdense.exporting.cost import arena_size, count_flops, count_parameters
from tfdense.exporting.flatbuffer import add_metadata, halve_kernels, merge
from tfdense.exporting.info import read_info
from tfdense.exporting.tflite import convert, export_tflite
from tfdense.tflite_files import read_operations


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


KERNEL = random(3, 3, 4, 6)
PRODUCTS = {
    "convolution": (
        lambda x: tf.nn.conv2d(x, KERNEL, 2, "SAME") + random(6),
        (4 * 3 * 6) * (3 * 3 * 4),
        3 * 3 * 4 * 6 + 6,
    ),
    "for each channel": (
        lambda x: tf.nn.depthwise_conv2d(x, random(5, 3, 4, 1), [1, 1, 1, 1], "SAME"),
        (8 * 6 * 4) * (5 * 3),
        # The converter adds a bias of zeros.
        5 * 3 * 4 + 4,
    ),
    "transposed": (
        lambda x: tf.nn.conv2d_transpose(x, random(2, 2, 5, 4), [1, 16, 12, 5], 2),
        (8 * 6 * 4) * (2 * 2 * 5),
        2 * 2 * 5 * 4,
    ),
    "matrix": (
        lambda x: tf.matmul(tf.reshape(x, [48, 4]), random(4, 7)),
        48 * 4 * 7,
        4 * 7,
    ),
    "all pairs": (
        lambda x: tf.matmul(*[tf.reshape(y, [1, 48, 4]) for y in (x, x + 1.0)], transpose_b=True),
        48 * 48 * 4,
        0,
    ),
    "shared": (
        lambda x: tf.concat([tf.nn.conv2d(y, KERNEL, 1, "SAME") for y in (x, tf.exp(x))], -1),
        2 * (8 * 6 * 6) * (3 * 3 * 4),
        3 * 3 * 4 * 6 + 6,
    ),
}


def converted(function, shape=(1, 8, 6, 4)):
    return convert(lambda x: {"y": function(x)}, {"x": tf.TensorSpec(shape, tf.float32)})


@pytest.mark.parametrize("case", PRODUCTS)
def test_products_and_parameters(case):
    function, multiplications, parameters = PRODUCTS[case]
    content = converted(function)
    for version in (content, halve_kernels(content)):
        operations = read_operations(version)
        assert count_flops(operations) == 2 * multiplications
        assert count_parameters(operations) == parameters


def test_arena():
    """The input, which stays, and two tensors at a time; constants lie in the file."""

    def function(x):
        for _ in range(3):
            x = tf.exp(-tf.nn.avg_pool2d(x, 3, 1, "SAME"))
        return x + random(1, 100, 100, 4)

    content = converted(function, (1, 100, 100, 4))
    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    tensor = 100 * 100 * 4 * 4
    assert 3 * tensor <= arena_size(interpreter, content) <= 3.1 * tensor


def test_info_of_an_export(run_folder, tmp_path, capsys):
    path = tmp_path / "model.tflite"
    report = export_tflite(run_folder, path, (32, 48), "float16")
    capsys.readouterr()
    assert cli.main(["info", str(path)]) == 0
    printed = capsys.readouterr().out
    info = read_info(path)
    assert printed == f"{info}\n"
    assert info.operations == report.operations and info.size == report.size
    for text in (
        f"model.tflite: {report.size / 1e6:.2f} MB",
        "network      pdcnet-lite, exported by tfdense ",
        f"SHA-256 {info.metadata['weights_sha256']}",
        "precision    float16",
        "size         32x48 px, height x width",
        "R            1.0 px",
        "licence      not stated",
        "target to source",
        f"operations   {sum(report.operations.values())}: ",
        f"parameters   {info.parameters / 1e6:.2f} million",
        f"FLOPs        {info.flops / 1e9:.2f} billion",
        f"arena        {info.arena / 1e6:.1f} MB",
    ):
        assert text in printed, text


def test_of_several_sizes_each_figure_is_that_of_the_first(tmp_path):
    shapes = ((8, 6, 4), (16, 12, 4))
    contents = [converted(lambda x: tf.nn.conv2d(x, KERNEL, 1, "SAME"), (1, *x)) for x in shapes]
    content = merge(contents, ["match_8x6", "match_16x12"])
    path = tmp_path / "model.tflite"
    metadata = {"preset": "mine", "size": [8, 6], "sizes": [[8, 6], [16, 12]]}
    path.write_bytes(add_metadata(content, metadata))
    info, (alone, _) = read_info(path), map(read_operations, contents)
    assert info.flops == count_flops(alone) and sum(info.operations.values()) == len(alone)
    printed = str(info)
    for text in (
        "size         8x6, 16x12 px, height x width",
        "billion a pair at 8x6 in",
        "without a delegate, at 8x6",
        f"operations   {len(alone)} at 8x6: ",
        f"GPU          {len(alone)} operations at 8x6 suit a delegate, 0 do not",
    ):
        assert text in printed, text


def test_what_a_gpu_leaves(tmp_path, capsys):
    """Of a file from before some of the metadata was written."""
    content = converted(lambda x: tf.nn.log_softmax(tf.exp(x[:, 2])))
    path = tmp_path / "old.tflite"
    path.write_bytes(add_metadata(content, {"preset": "mine", "size": [8, 6], "version": "0.0"}))
    assert cli.main(["info", str(path)]) == 0
    *_, summary, first, second = capsys.readouterr().out.splitlines()
    assert summary == "  GPU          1 operations suit a delegate, 2 do not"
    assert first.strip() == "1 LOG_SOFTMAX: no delegate has this operation"
    assert second.strip() == "1 STRIDED_SLICE: it drops an axis (shrink_axis_mask)"


def test_errors_take_one_line(tmp_path, capsys):
    for path in (tmp_path, tmp_path / "absent", __file__):
        assert cli.main(["info", str(path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("tfdense: error: ") and ".tflite file" in line


def test_needs_neither_tensorflow_nor_opencv(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(add_metadata(converted(tf.exp), {"preset": "mine", "size": [8, 6]}))
    program = (
        "import sys; from tfdense.cli import main; main(['info', sys.argv[1]])\n"
        "print(sorted({'tensorflow', 'keras', 'cv2', 'yaml', 'pydantic'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "EXP 1" in done.stdout and done.stdout.splitlines()[-1] == "[]"
