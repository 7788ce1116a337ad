import argparse

import pytest

from tfdense.errors import InputError
from tfdense.evaluation import command as evaluation
from tfdense.exporting import command as exporting
from tfdense.inference import command as matching
from tfdense.options import one, one_of, positive, several


@pytest.mark.parametrize(
    ("module", "given", "name", "expected"),
    [
        (matching, "--format csv,flo a b", "format", ["csv", "flo"]),
        (matching, "a --format csv b --format flo", "format", ["csv", "flo"]),
        (matching, "a b", "format", []),
        (
            evaluation,
            "--methods DIS,Farneback homography --data d",
            "methods",
            ["DIS", "Farneback"],
        ),
        (exporting, "tflite --size 8x9,7x6 a -o f", "size", [(8, 9), (7, 6)]),
        (exporting, "tflite a -o f --size 8x9 --size 7x6", "size", [(8, 9), (7, 6)]),
        (exporting, "onnx --size 8x9 a -o f", "size", (8, 9)),
    ],
)
def test_options_stand_anywhere(module, given, name, expected):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    assert getattr(parser.parse_args(given.split()), name) == expected


@pytest.mark.parametrize("text", ["0", "-5", "2.5", "1e3", "", "many", "1" * 5000], ids=len)
def test_what_is_no_positive_number_is_refused(text):
    assert [positive(text) for text in ("1", "24", "007")] == [1, 24, 7]
    with pytest.raises(InputError, match=r"Expected a whole number of at least 1\. Received: '"):
        positive(text)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--form", "b,c"], "argument --form: Expected any of a, b. Received: c"),
        (["--form", "b,"], "argument --form: Expected any of a, b. Received: "),
        (["--form", "b", "a"], "unrecognized arguments: a"),
        (["--number", "3"], "argument --number: Not 3."),
    ],
)
def test_what_is_none_is_named(arguments, line, capsys):
    def refuse(text):
        raise InputError(f"Not {text}.")

    parser = argparse.ArgumentParser()
    parser.add_argument("--form", **several(one_of(["a", "b"])))
    parser.add_argument("--number", type=one(refuse))
    with pytest.raises(SystemExit) as exit_:
        parser.parse_args(arguments)
    assert exit_.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: {line}")
