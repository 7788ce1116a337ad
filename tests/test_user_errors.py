"""What a user may get wrong ends in one line that says what was received and expected."""

import io

import cv2
import h5py
import keras
import numpy as np
import pytest

import tfdense
from tfdense.cli import main
from tfdense.config import Config, ModelConfig, load_config, save_config
from tfdense.errors import InputError
from tfdense.matcher import Matcher
from tfdense.models import build

_ROLES = ("source", "target")
_CONFIG = Config(model=ModelConfig(options={"radius": 1}))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """The folder of a run that was never trained."""
    folder = tmp_path_factory.mktemp("run")
    save_config(folder / "config.yaml", _CONFIG)
    build(_CONFIG.model).save_weights(folder / "best.weights.h5")
    return folder


@pytest.fixture(scope="module")
def matcher(run_folder):
    return tfdense.load(run_folder)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 256, (8, 10, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(noise, (80, 64), interpolation=cv2.INTER_CUBIC))
    return path


@pytest.fixture
def refused(capsys, tmp_path):
    """Runs ``tfdense match`` with arguments that it should refuse; returns its message."""

    def run(*arguments):
        status = main(["match", *map(str, arguments), "-o", str(tmp_path / "out")])
        captured = capsys.readouterr()
        assert status == 2
        assert captured.out == ""
        error = captured.err.splitlines()[-1]
        assert error.startswith("tfdense: error: ")
        assert not (tmp_path / "out").exists()
        assert "Traceback" not in captured.err
        return error

    return run


def test_good_input_is_matched(run_folder, photo, tmp_path, capsys):
    out = tmp_path / "out"
    status = main(["match", str(photo), str(photo), "-o", str(out), "--model", str(run_folder)])
    assert status == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("source 80x64, target 80x64: matched in ")
    assert lines[1].startswith("confidence >= 0.1 at R = 1 px: ")
    assert all((out / name).is_file() for name in lines[2].split(": ")[1].split(", "))
    with np.load(out / "match.npz") as arrays:
        assert arrays["flow"].shape == (64, 80, 2) and arrays["confidence"].shape == (64, 80)


def test_missing_image(refused, photo, tmp_path):
    for arguments in ((photo, tmp_path / "no.jpg"), (tmp_path / "no.jpg", photo)):
        assert f"There is no image file {tmp_path / 'no.jpg'}." in refused(*arguments)
    assert "Received a folder" in refused(photo, tmp_path)


def test_text_named_jpg(refused, photo, tmp_path):
    (tmp_path / "text.jpg").write_text("not a photo")
    assert "text.jpg is not an image that can be decoded" in refused(photo, tmp_path / "text.jpg")
    (tmp_path / "empty.jpg").touch()
    assert "decoded (0 bytes)" in refused(tmp_path / "empty.jpg", photo)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (15, 300), (300, 15)])
def test_tiny_image(refused, photo, tmp_path, height, width):
    cv2.imwrite(str(tmp_path / "tiny.png"), np.zeros((height, width, 3), np.uint8))
    message = refused(tmp_path / "tiny.png", photo)
    assert f"sides of 16 to 32766 px. Received: a source of {width}x{height} px" in message


def test_images_of_very_different_sizes_are_matched(matcher):
    strip = np.random.default_rng(0).integers(0, 256, (40, 5000, 3), np.uint8)
    for source, target in ((strip, strip[:, :60]), (strip[:, :60], strip)):
        match = matcher.match(source, target)
        assert match.flow.shape == (*target.shape[:2], 2) and np.isfinite(match.flow).all()


def test_standard_input_is_an_image(refused, photo, tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "tiny.png"), np.zeros((9, 9, 3), np.uint8))
    for arguments in (("-", tmp_path / "tiny.png"), (tmp_path / "tiny.png", "-")):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(photo.read_bytes())))
        assert "of 9x9 px" in refused(*arguments)  # so the other was read
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"text")))
    assert "the source is not an image that can be decoded (4 bytes)" in refused("-", photo)
    for arguments in (("-", "-"), ("-", photo, "--source-mask", "-")):
        assert "one file at most from standard input" in refused(*arguments)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--threshold", "1.5", "threshold in 0..1. Received: 1.5"),
        ("--threshold", "nan", "threshold in 0..1. Received: nan"),
        ("--radius", "0", "positive radius. Received: 0.0"),
        ("--radius", "inf", "finite radius. Received: inf"),
    ],
)
def test_option_out_of_range(refused, run_folder, photo, option, value, expected):
    assert expected in refused(photo, photo, "--model", run_folder, option, value)


@pytest.mark.parametrize("url", ["", " "])
def test_an_empty_server_is_not_none(photo, capsys, url):
    with pytest.raises(SystemExit) as exit_:
        main(["match", str(photo), str(photo), "--server", url])
    assert exit_.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    expected = f"argument --server: Expected the URL of a tfdense serve. Received: {url!r}"
    assert line == f"tfdense match: error: {expected}"


def test_a_fill_that_is_none_is_refused(matcher):
    with pytest.raises(InputError, match=r"fill to be True or False\. Received: 'no'"):
        Matcher(matcher.backend, fill="no")


def test_both_ways_that_is_neither_is_refused(matcher):
    image = np.zeros((32, 32, 3), np.uint8)
    for match in (matcher.match, lambda *pair, **how: matcher.match_many([pair], **how)):
        with pytest.raises(InputError, match=r"both_ways to be True or False\. Received: 'no'"):
            match(image, image, both_ways="no")


def test_output_that_cannot_be_a_folder(photo, capsys):
    for output in (photo, photo / "below", photo / "further" / "below"):
        assert main(["match", str(photo), str(photo), "-o", str(output)]) == 2
        assert f"Cannot write to {output}: " in capsys.readouterr().err


def test_outputs_do_not_replace_inputs(run_folder, photo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "match").mkdir()
    warp = tmp_path / "match" / "warp.png"
    warp.write_bytes(photo.read_bytes())
    (tmp_path / "link.png").symlink_to(warp)
    (tmp_path / "hard.png").hardlink_to(warp)
    for name in ("match/warp.png", "match/../match/warp.png", "link.png", "hard.png"):
        pairs = [[name, "photo.png"], ["photo.png", name]]
        pairs += [["photo.png", "photo.png", f"--{role}-mask", name] for role in _ROLES]
        for pair in pairs:
            # The default folder, and no network: it is refused before there is one.
            assert main(["match", *pair, "--model", "absent"]) == 2
            error = capsys.readouterr().err
            expected = f"match/warp.png would replace the input {name}: choose another output."
            assert error == f"tfdense: error: {expected}\n"
    assert warp.read_bytes() == photo.read_bytes()
    assert [path.name for path in warp.parent.iterdir()] == ["warp.png"]
    arguments = ["match", str(warp), "photo.png", "--model", str(run_folder), "-o", "other"]
    assert main(arguments) == 0


def test_a_folder_in_a_files_place(photo, tmp_path, capsys):
    (tmp_path / "o" / "match.npz").mkdir(parents=True)
    arguments = ["match", str(photo), str(photo), "--model", "absent", "-o", str(tmp_path / "o")]
    assert main(arguments) == 2
    path = tmp_path / "o" / "match.npz"
    assert capsys.readouterr().err == (f"tfdense: error: Cannot write to {path}: it is a folder.\n")


def test_a_full_disk(run_folder, photo, tmp_path, capsys, full_disk):
    output = tmp_path / "out"
    arguments = ["match", str(photo), str(photo), "--model", str(run_folder), "-o", str(output)]
    with full_disk():
        assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"tfdense: error: Cannot write to {output}: File too large."
    assert not output.exists()


def test_names_that_are_not_utf8(run_folder, photo, tmp_path, capsys):
    source = photo.rename(tmp_path / "\udce9.png")
    model = tmp_path / "mod\udce9l"
    model.mkdir()
    for name in ("config.yaml", "best.weights.h5"):
        (model / name).write_bytes((run_folder / name).read_bytes())
    output = tmp_path / "caf\udce9"
    arguments = ["match", str(source), str(source), "--model", str(model), "-o", str(output)]
    assert main(arguments) == 0
    assert len([*output.iterdir()]) == 7
    # As pytest's stand-in for standard output has it.
    assert "wrote to " in capsys.readouterr().out


def test_not_a_model(refused, photo, tmp_path):
    assert "There is no model" in refused(photo, photo, "--model", "pdcnet-light")
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (empty, photo):
        message = refused(photo, photo, "--model", path)
        assert "Expected a preset" in message and f"Received: {path}" in message


def test_run_without_weights(refused, photo, tmp_path):
    save_config(tmp_path / "config.yaml", Config())
    message = refused(photo, photo, "--model", tmp_path)
    assert "holds neither best.weights.h5 nor last.weights.h5" in message


def test_weights_that_are_not_finite(refused, run_folder, photo, tmp_path):
    save_config(tmp_path / "config.yaml", _CONFIG)
    path = tmp_path / "best.weights.h5"
    path.write_bytes((run_folder / "best.weights.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        weights = []
        file.visititems(lambda _, item: weights.append(item) if hasattr(item, "shape") else None)
        next(item for item in weights if item.ndim == 4)[0, 0, 0, 0] = np.nan
    assert "not finite" in refused(photo, photo, "--model", tmp_path)


def test_weights_of_another_network(refused, photo, tmp_path):
    save_config(tmp_path / "config.yaml", Config())
    other = keras.Sequential([keras.Input([4]), keras.layers.Dense(3)])
    other.save_weights(tmp_path / "best.weights.h5")
    message = refused(photo, photo, "--model", tmp_path)
    assert "does not hold the weights of" in message
    (tmp_path / "best.weights.h5").write_bytes(b"nonsense")
    assert "does not hold the weights of" in refused(photo, photo, "--model", tmp_path)


def test_weights_of_other_widths(refused, run_folder, photo, tmp_path):
    options = {**_CONFIG.model.options, "projection_channels": [48, 32, 16]}
    save_config(tmp_path / "config.yaml", Config(model=ModelConfig(options=options)))
    weights = (run_folder / "best.weights.h5").read_bytes()
    (tmp_path / "best.weights.h5").write_bytes(weights)
    message = refused(photo, photo, "--model", tmp_path)
    assert "does not hold the weights of this PDCNetLite: its arrays are those of" in message


def test_names_in_messages_are_one_line(refused, photo, tmp_path):
    assert r"There is no model a\nb. Expected" in refused(photo, photo, "--model", "a\nb")
    (tmp_path / "d.keras").mkdir()
    assert "Received a folder: " in refused(photo, photo, "--model", tmp_path / "d.keras")


def test_a_configuration_that_is_no_regular_file():
    with pytest.raises(InputError, match=r"Received: /dev/null, which is no regular file\.$"):
        load_config("/dev/null")


def test_saved_model_of_somebody_else(refused, photo, tmp_path):
    (tmp_path / "saved_model.pb").touch()
    assert "not a SavedModel that tfdense exported" in refused(photo, photo, "--model", tmp_path)


def test_broken_saved_model(refused, photo, tmp_path):
    (tmp_path / "1" / "assets.extra").mkdir(parents=True)
    metadata = tmp_path / "1" / "assets.extra" / "tfdense.json"
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"nonsense")
    for content in ("{}", "{"):
        metadata.write_text(content)
        message = refused(photo, photo, "--model", tmp_path)
        assert f"The SavedModel {tmp_path / '1'} is broken: " in message


@pytest.mark.parametrize("content", [b"", b"nonsense" * 100])
def test_broken_tflite(refused, photo, tmp_path, content):
    (tmp_path / "a.tflite").write_bytes(content)
    assert "a.tflite" in refused(photo, photo, "--model", tmp_path / "a.tflite")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((32, 32, 3), 256.0), r"values in 0\.\.255\. Received: 256\.0"),
        (np.full((32, 32, 3), -1), r"values in 0\.\.255\. Received: -1"),
        (np.full((32, 32, 3), np.nan), r"values in 0\.\.255\. Received: nan"),
        (np.zeros((32, 32, 4), np.uint8), r"\[height, width, 3\]\. Received: \(32, 32, 4\)"),
        (np.zeros((1, 32, 32, 3), np.uint8), r"Received: \(1, 32, 32, 3\)"),
        (np.zeros((0, 32, 3), np.uint8), r"Received: \(0, 32, 3\)"),
        (np.zeros((9, 32), np.uint8), "Received: a target of 32x9 px"),
    ],
)
def test_arrays_that_are_no_images(matcher, image, message):
    with pytest.raises(InputError, match=message):
        matcher.match(np.zeros((32, 32, 3), np.uint8), image)
