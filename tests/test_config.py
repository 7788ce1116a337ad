"""Configurations are read, overridden, refused with a useful message, and written."""

import dataclasses

import pytest
import yaml

from tfdense.config import SHIPPED, Config, dump_config, load_config, locate, save_config
from tfdense.data_config import SOURCES
from tfdense.errors import InputError


@pytest.fixture
def load(tmp_path):
    def load(content: str | bytes, overrides=()):
        path = tmp_path / "experiment.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_config(path, overrides)

    return load


def test_no_file_and_an_empty_file_give_the_defaults(load):
    assert load_config() == load("") == load("# nothing but a comment\n") == Config()


def test_a_file_changes_what_it_names_only(load):
    config = load(
        """
        name: mine
        train: {steps: 7, learning_rate: 1e-4}
        data:
          photos: some/folder
          warp: {stretch: [0.9, 1.1]}
        model: {preset: pdcnet-lite, options: {radius: 3}}
        """
    )
    expected = Config()
    expected = dataclasses.replace(
        expected,
        name="mine",
        train=dataclasses.replace(expected.train, steps=7, learning_rate=1e-4),
        data=dataclasses.replace(
            expected.data,
            photos="some/folder",
            warp=dataclasses.replace(expected.data.warp, stretch=(0.9, 1.1)),
        ),
        model=dataclasses.replace(expected.model, options={"radius": 3}),
    )
    assert config == expected


def test_a_group_with_nothing_under_it_changes_nothing(load):
    content = """
        model: {options: }
        data:
          size: 64
          warp:
        train:
          # steps: 7
        """
    expected = Config()
    expected = dataclasses.replace(expected, data=dataclasses.replace(expected.data, size=64))
    assert load(content) == expected
    assert load("train:", ["train.steps=7"]).train.steps == 7


def test_overrides_win_over_the_file(load):
    config = load(
        "train: {steps: 7, batch_size: 3}",
        [
            "train.steps=9",
            "train.learning_rate=1e-4",
            "data.photometry.jpeg_quality=[50, 60]",
            "model.options.radius=3",
            "name=a=b",
            "data.photos=null",
        ],
    )
    assert (config.train.steps, config.train.batch_size) == (9, 3)
    assert config.train.learning_rate == 1e-4
    assert config.data.photometry.jpeg_quality == (50, 60)
    assert config.model.options == {"radius": 3}
    assert config.name == "a=b"
    assert config.data.photos is None


def test_the_last_override_wins():
    assert load_config(overrides=["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("trian: {steps: 1}", r"unknown key trian \(did you mean train\?\)"),
        ("train: {stepps: 1}", r"unknown key train\.stepps \(did you mean steps\?\)"),
        ("data: {warp: {rotaton: 3}}", r"data\.warp\.rotaton \(did you mean rotation\?\)"),
        ("quite_another: 3", r"unknown key quite_another$"),
        ("train: {steps: many}", r"train\.steps should be a valid integer.* received 'many'"),
        ("train: {steps: 1.5}", r"train\.steps .*integer.* received 1\.5"),
        ("train: {steps: 0}", r"train\.steps should be greater than or equal to 1, received 0"),
        ("train: {precision: float8}", r"'mixed_bfloat16' or 'mixed_float16', received 'float8'"),
        ("train: {learning_rate: .inf}", r"train\.learning_rate .*finite.* received inf"),
        ("train: {weight_decay: .nan}", r"train\.weight_decay .* received nan"),
        ("train: 5", r"train should be a dictionary.* received 5"),
        ("name: 3", r"name should be a valid string, received 3"),
        ("data: {photometry: {jpeg_quality: [90, 30]}}", r"jpeg_quality .*\(smallest, largest\)"),
        ("data: {warp: {stretch: [1.2, 0.8]}}", r"stretch .*\(smallest, largest\)"),
        # What would leave nothing but zeros or infinity.
        (
            "data: {perturbation: {smoothness: [0.001, 0.1]}}",
            r"smoothness\.0 .* than or equal to 0\.03",
        ),
        ("data: {objects: {log_scale: 500}}", r"log_scale .* less than or equal to 4"),
        ("data: {worlds: {field_of_view: [1.0e-6, 50]}}", r"field_of_view\.0 .* equal to 1"),
        ("data: {worlds: {approach: [1.0e-9, 1]}}", r"approach\.0 .* equal to 0\.05"),
        (
            "data: {photometry: {domains: {curve_deviation: [1, 300]}}}",
            r"curve_deviation\.1 .* to 4",
        ),
        ("data: {photometry: {jpeg_quality: [3]}}", r"data\.photometry\.jpeg_quality"),
        (
            "data: {warp: {homography: 0, affine: 0, thin_plate_spline: 0, composition: 0}}",
            r"data\.warp at least one kind of warp should have a positive weight",
        ),
        ("train: {optimizer: adam, halve_at: [5, 3]}", r"train\.halve_at should increase"),
        ("train: {schedule: steps}", r"train the schedule steps should .* halve_at"),
        ("train: {backbone_learning_rate: 1e-5}", r"train a backbone_learning_rate .* adam"),
        (
            "data: {megadepth: {validation_scene_list: a.txt}}",
            r"data\.megadepth a validation_scene_list should come with a folder",
        ),
        (
            "data: {flow: {folder: a, share: 0.9}, homographies: {folder: b, share: 0.9}}",
            r"data the shares should add up to 1 at most, are [^{]*$",
        ),
        ("1: 2", "Keys should be strings"),
        ("- 1", r"expected keys and values. Received: \[1\]"),
        ("hello", "expected keys and values. Received: 'hello'"),
        ("a: [1", r"not valid YAML: .* in line 1, column 6"),
        ("a: 1\n\tb: 2", "not valid YAML"),
        ("a: 2020-99-99", "not valid YAML: month"),
        ("a: 0x_", "not valid YAML"),
        ("a: !!int x", "not valid YAML"),
        ("a: !!bool x", "not valid YAML"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("[" * 3000, "not valid YAML: it is nested too deep"),
        ("seed: -1", "seed should be greater than or equal to 0"),
        (b"\xff\xfe\x00", "not valid YAML"),
        ('a: !!python/object/apply:os.getcwd ["x"]', "not valid YAML"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(load, content, message):
    with pytest.raises(InputError, match=message) as caught:
        load(content)
    assert "experiment.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_problem_is_named_at_once(load):
    with pytest.raises(InputError, match=r"train\.steps.*; .*unknown key trian"):
        load("train: {steps: 0}\ntrian: 3")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps", r"Expected an override such as train\.steps=100. Received: train\.steps"),
        ("=5", "Received: =5"),
        ("train.stepz=5", r"unknown key train\.stepz \(did you mean steps\?\)"),
        ("train.steps=[1", r"train\.steps=\[1 is not valid YAML"),
        ("train.steps=", r"train\.steps should be a valid integer, received None"),
        ("train=3", "train should be a dictionary"),
    ],
)
def test_what_is_wrong_in_an_override_is_named(override, message):
    with pytest.raises(InputError, match=message):
        load_config(overrides=[override])


def test_an_override_below_a_value_is_refused(load):
    with pytest.raises(InputError, match=r"Cannot set seed\.x: seed is a value"):
        load("seed: 4", ["seed.x=5"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no configuration file .*missing\.yaml"):
        load_config(tmp_path / "missing.yaml")


def test_dumping_and_loading_changes_nothing(tmp_path):
    config = load_config(
        overrides=[
            "name=mine",
            "data.photos=some folder/ä",
            "data.warp.view=[0.6, 0.7]",
            "loss.level_weights=[1, 2.5]",
            "model.options={radius: 3, decoder_channels: [[8, 8], [8, 8], [8, 8]]}",
        ]
    )
    assert config != Config()
    path = tmp_path / "new" / "config.yaml"
    save_config(path, config)
    assert load_config(path) == config
    assert path.read_text(encoding="utf-8") == dump_config(config)


def test_located_paths_hold_in_any_working_directory(tmp_path, monkeypatch):
    keys = (
        *("data.photos", "data.validation_photos", "data.objects.folder", "data.megadepth.folder"),
        *("data.megadepth.scene_list", "data.megadepth.validation_scene_list"),
        *("data.sequences.folder", "train.initial_weights"),
        *("data.flow.folder", "data.homographies.folder", "data.matches.folder"),
    )
    shares = [f"data.{name}.share=0" for name in SOURCES]
    monkeypatch.chdir(tmp_path)
    config = load_config(None, [*shares, *(f"{key}=a/../{key}" for key in keys)])
    expected = load_config(None, [*shares, *(f"{key}={tmp_path / key}" for key in keys)])
    assert locate(config) == expected
    assert locate(expected) == expected
    shipped = load_config(None, [f"train.initial_weights={SHIPPED}"])
    assert locate(shipped) == shipped
    assert locate(Config()) == Config()  # below the folder of MegaDepth lie its scenes


def test_names_of_files_that_are_not_utf8(tmp_path):
    config = load_config(None, ["data.photos=/caf\udce9: b", "name=caf\udce9"])
    assert (config.data.photos, config.name) == ("/caf\udce9: b", "caf\udce9")
    path = tmp_path / "caf\udce9.yaml"
    save_config(path, config)
    assert load_config(path) == config


def test_a_dump_names_every_key():
    def keys(group):
        return {
            key: keys(value) if isinstance(value, dict) and key != "options" else None
            for key, value in group.items()
        }

    assert keys(yaml.safe_load(dump_config(Config()))) == keys(dataclasses.asdict(Config()))


def test_a_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().train.steps = 3


_LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{former}'] * 9)}]\n"
    for former, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text", [_LAUGHS, f"{_LAUGHS}data: *i", "model: &a {options: *a}", "name: &a {x: *a}"]
)
def test_aliases_that_stand_for_gigabytes_are_refused(text, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match="its aliases stand for more than 10000 entries"):
        load_config(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [("data=:\r", r"data=:\\r is not valid YAML"), ("=\n0", r"Received: =\\n0")],
)
def test_messages_have_one_line(override, message):
    with pytest.raises(InputError, match=message):
        load_config(None, [override])


def test_values_are_not_shown_whole(tmp_path):
    with pytest.raises(InputError) as caught:
        load_config(None, [f"seed={[9] * 3000}"])
    assert len(str(caught.value)) < 300
