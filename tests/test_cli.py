"""The command line: what it prints, returns and imports."""

import argparse
import os
import subprocess
import sys
import types

import pytest

import tfdense
from tfdense import cli
from tfdense.errors import InputError


def _python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )


def test_help_and_import_do_without_tensorflow():
    process = _python(
        "import sys, tfdense, tfdense.cli\n"
        "try: tfdense.cli.main(['--help'])\n"
        "finally: print(sorted({'tensorflow', 'keras', 'cv2', 'numpy'} & set(sys.modules)))"
    )
    assert process.returncode == 0
    assert process.stdout.rstrip().endswith("[]")
    for command in ("match", "train", "export", "convert"):
        assert f"\n    {command} " in process.stdout


def test_a_mistake_is_one_line_and_status_2(tmp_path):
    image = tmp_path / "a.ppm"
    image.write_bytes(b"P6 32 32 255\n" + bytes(32 * 32 * 3))
    model = str(tmp_path / "absent")
    arguments = ["match", str(image), str(image), "-o", str(tmp_path / "out"), "--model", model]
    process = _python(f"import sys; from tfdense.cli import main; sys.exit(main({arguments}))")
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr.startswith(f"tfdense: error: There is no model {model}.")
    assert process.stderr.count("\n") == 1


def test_version(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"tfdense {tfdense.__version__}\n"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("match", "Match two images; write flow"),
        ("train", "Train a network on photos."),
        ("export", "Write a SavedModel, a .tflite or .onnx file or a training bundle."),
        ("convert", "Convert the weights of the published PDC-Net networks."),
    ],
)
def test_each_command_has_help(command, expected, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main([command, "--help"])
    assert exit_.value.code == 0
    help_text = capsys.readouterr().out
    assert help_text.startswith(f"usage: tfdense {command} ")
    assert expected in help_text


@pytest.mark.parametrize("arguments", [[], ["matsch"], ["match", "one.jpg"], ["match", "--max"]])
def test_usage_errors(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    assert "usage: tfdense" in capsys.readouterr().err


def _shell(script, **environment):
    """Runs a script of bash in which ``tfdense`` is the command; returns what it printed."""
    command = f"{sys.executable} -c 'import sys, tfdense.cli; sys.exit(tfdense.cli.main())'"
    return subprocess.run(
        ["bash", "-c", f'tfdense() {{ {command} "$@"; }}\n{script}'],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        # As for users: the tests may run with standard output unbuffered.
        env={**os.environ, "PYTHONUNBUFFERED": "", **environment},
    )


def _results(folder):
    """Writes what ``tfdense compare`` reads, of a network with a name of many scripts."""
    folder.mkdir()
    content = (
        '{"dataset": "flow", "data": "x", "max_side": null, "pairs": 1, "mode": "direct",'
        ' "model": "вывод", "methods": {"network": {"mean_over_pairs": {"aepe": 1.5}}}}'
    )
    (folder / "results.json").write_text(content, "utf-8")
    return folder


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_any_encoding_of_standard_output(tmp_path, encoding):
    results = _results(tmp_path / "results")
    process = _shell(f"tfdense compare {results}", PYTHONIOENCODING=encoding)
    assert (process.returncode, process.stderr) == (0, "")
    name = "вывод" if encoding == "utf-8" else "\\u0432\\u044b\\u0432\\u043e\\u0434"
    assert "| flow | AEPE | 1.50 |" in process.stdout
    assert f"| data set | figure | {name} (direct) |" in process.stdout


def test_standard_output_that_takes_nothing(tmp_path):
    results = _results(tmp_path / "results")
    full = _shell(f"tfdense compare {results} > /dev/full")
    assert full.returncode == 2
    message = "tfdense: error: Cannot write to standard output: No space left on device.\n"
    assert full.stderr == message
    for closed in (">&-", "<&- >&- 2>&-"):
        process = _shell(f"tfdense compare {results} {closed}")
        assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
    unread = _shell(f"(sleep 1; tfdense compare {results}; echo $? >&2) | true")
    assert unread.stderr == "141\n"
    assert _shell(f"tfdense compare {tmp_path} 2> /dev/full").returncode == 2


def _with_command(monkeypatch, run):
    module = types.ModuleType("fake_command")
    module.add_arguments = lambda parser: parser.add_argument("--steps", type=int)
    module.run = run
    monkeypatch.setitem(sys.modules, "fake_command", module)
    monkeypatch.setitem(cli._COMMANDS, "train", ("fake_command", "a fake"))


def test_a_command_gets_its_own_arguments(monkeypatch):
    received = []
    _with_command(monkeypatch, lambda arguments: received.append(arguments) or 5)
    assert cli.main(["train", "--steps", "3"]) == 5
    assert isinstance(received[0], argparse.Namespace) and received[0].steps == 3


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (InputError("Bad."), 2, "tfdense: error: Bad.\n"),
        (PermissionError(13, "Denied", "a.jpg"), 2, "tfdense: error: [Errno 13] Denied: 'a.jpg'\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_errors_become_a_status(monkeypatch, capsys, error, status, message):
    def run(arguments):
        raise error

    _with_command(monkeypatch, run)
    assert cli.main(["train"]) == status
    assert capsys.readouterr().err == message


def test_a_bug_is_not_hidden(monkeypatch):
    def run(arguments):
        raise ZeroDivisionError

    _with_command(monkeypatch, run)
    with pytest.raises(ZeroDivisionError):
        cli.main(["train"])
