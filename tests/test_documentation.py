"""What the documentation shows is run, and what it names exists.

The blocks of a page run in order in one folder, with small stand-ins for what is the reader's own.
Small networks stand in for the presets; `make test-slow` takes those that ship.
"""

import argparse
import contextlib
import glob
import itertools
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import keras
import known_server
import numpy as np
import pytest
import tensorflow as tf
import torch_writer
from markdown_it import MarkdownIt
from markdown_it.token import Token

import tfdense
from tfdense import cli, converting
from tfdense.config import ModelConfig, load_config
from tfdense.images import read_image, write_image
from tfdense.inference.resizing import resize_smooth
from tfdense.mixture import LaplaceMixture
from tfdense.models import build
from tfdense.models.network import MatchingNetwork
from tfdense.networks import PRESETS, Preset

_ROOT = Path(__file__).resolve().parents[1]
_CHECKOUT = (
    "bench",
    "configs",
    "docs",
    "experiments",
    "export",
    "tests",
    "tfdense",
    "train.py",
    "web",
)
# Pages whose blocks are run, and further ones of which only links and names are checked.
_FRONT = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
_PAGES = [*(_ROOT / name for name in _FRONT), *sorted((_ROOT / "docs").rglob("*.md"))]
_FURTHER = sorted(path for name in _CHECKOUT for path in (_ROOT / name).rglob("README.md"))


class Way(NamedTuple):
    """How the commands of a kind are tried.

    Attributes:
        pattern: regular expression of the whole command.
        stand_ins: what takes the place of a word.
        more: what follows the command, so that it does less.
        checked_only: why it is not run.
    """

    pattern: str
    stand_ins: Mapping[str, str] = types.MappingProxyType({})
    more: str = ""
    checked_only: str = ""


_SMALL = (
    "--set data.size=64 --set train.batch_size=1 --set train.validation_pairs=1 "
    "--set data.objects.probability=0 --set data.photometry.probability=0"
)
_WAYS = (
    Way(r"make [\w -]+", checked_only="makes an environment of its own"),
    Way(r"make web WEB_MODELS=.*", checked_only="serves until it is interrupted"),
    Way(r"pip install \.\S*", checked_only="changes the environment"),
    Way(r"pip install --force-reinstall .*", checked_only="changes the environment"),
    Way(r"tfdense match source\.jpg target\.jpg .*"),
    Way(r"tfdense match-pairs .* --engine ray .*", checked_only="needs Ray"),
    Way(r"tfdense match-pairs (pairs\.txt|photos) ((?!--engine).)*", {"images photos": "images ."}),
    Way(
        r"tfdense video .*",
        {"film.mp4": "photos", "poster.jpg": "target.jpg"},
    ),
    Way(r"python train\.py( --config configs/default\.yaml)?", more=f"--steps 1 {_SMALL}"),
    Way(
        r"python train\.py --config configs/finetune\.yaml --data DIR",
        {"DIR": "homography"},
        f"--steps 1 --set train.ema_momentum=0 --set train.frozen=[] {_SMALL}",
    ),
    Way(
        r"python experiments/write_pairs\.py .*",
        {"bsds500": "photos", "kodak": "photos"},
        "--count 2 --set data.size=64 --set data.objects.probability=0 "
        "--set data.photometry.probability=0",
    ),
    Way(
        r"python train\.py --config configs/finetune\.yaml --data (five|infrared) .*",
        more=f"--steps 1 --set train.ema_momentum=0 --set train.frozen=[] {_SMALL}",
    ),
    Way(r"python train\.py --data .*", {"DIR": "photos", "steps=50000": "steps=1"}, _SMALL),
    Way(r"python train\.py --resume runs/default", more="--steps 2"),
    Way(r"python -m export\.(saved_model|tflite|onnx) .*"),
    Way(r"tfdense info pdcnet\.tflite"),
    Way(r"tfdense convert PDCNet_megadepth\.pth\.tar .*"),
    Way(r"tfdense evaluate .*", {"DIR": "homography", "SET": "homography"}),
    Way(r"tfdense compare .*"),
    Way(
        r"tfdense export stablehlo .*",
        {
            "FILE": "configs/demo.yaml",
            "DIR": "photos",
            "256x64 448x24": "64x2",
            "float32 mixed_bfloat16": "float32",
            "480x640": "64x96",
        },
        "--set data.objects.probability=0",
    ),
    Way(r"python bundle/train\.py --list"),
    Way(r"python bundle/train\.py --minutes .*", more="--steps 2"),
    Way(r"tfdense train --from-bundle .*", more="--steps 3"),
    Way(r"tfdense serve .*", checked_only="serves until it is stopped"),
    Way(r"curl .*", checked_only="asks a server"),
    Way(r"python docs/network_picture\.py", checked_only="needs Graphviz"),
    Way(r"docker .*", checked_only="needs Docker"),
    Way(r"python -m bench\.peers .*", checked_only="needs PyTorch"),
    Way(r"python bench/serving\.py .*", checked_only="loads the machine for minutes"),
)


class Command(NamedTuple):
    """A command of the shell in a page."""

    line: int
    words: list[str]

    def __str__(self):
        return " ".join(self.words)


class Code(NamedTuple):
    """A block of Python or of a configuration in a page."""

    line: int
    text: str


def _tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))


def _blocks(page: Path) -> list[Command | Code]:
    """Returns the Python of a page and the commands of its shell; what is indented is shell."""
    found = []
    for token in _tokens(page):
        if token.type not in ("fence", "code_block"):
            continue
        line = token.map[0] + 1
        language = token.info.split()[0] if token.info else "sh"
        if language == "python":
            found.append(Code(line, token.content))
        elif language in ("sh", "bash", "shell", "console"):
            found += _commands(line + (token.type == "fence"), token.content, language)
    return found


def _commands(line: int, text: str, language: str) -> list[Command]:
    found = []
    for command in re.findall(r"(?:.*\\\n)*.*\n?", text):
        words = shlex.split(command.replace("\\\n", " "), comments=True)
        if language == "console":  # what is not behind a prompt is what was printed
            words = words[1:] if words[:1] == ["$"] else []
        if words:
            found.append(Command(line, words))
        line += command.count("\n")
    return found


def _ways(command: Command) -> list[Way]:
    return [way for way in _WAYS if re.fullmatch(way.pattern, str(command))]


_COMMANDS = [
    pytest.param(block, id=f"{page.name}-{block.line}")
    for page in _PAGES
    for block in _blocks(page)
    if isinstance(block, Command)
]


@pytest.mark.parametrize("command", _COMMANDS)
def test_one_way_for_each_command(command):
    assert len(_ways(command)) == 1, f"{command}: {_ways(command)}"


def _settings():
    for page in _PAGES:
        for token in _tokens(page):
            if token.type == "fence" and token.info == "yaml":
                line = token.map[0] + 1
                yield pytest.param(Code(line, token.content), id=f"{page.name}-{line}")


@pytest.mark.parametrize("settings", _settings())
def test_settings_are_a_configuration(settings, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(settings.text, "utf-8")
    load_config(path)


@pytest.mark.parametrize("way", _WAYS, ids=lambda way: way.pattern)
def test_no_way_without_a_command(way):
    commands = [str(p.values[0]) for p in _COMMANDS if re.fullmatch(way.pattern, str(p.values[0]))]
    assert commands
    for word in way.stand_ins:
        assert any(re.search(rf"\b{word}\b", command) for command in commands), word


@keras.saving.register_keras_serializable("tests")
class Tiny(MatchingNetwork):
    """A convolution of both images: all that a network has to have."""

    stride, minimum_size = 8, 32
    level_weights = (0.3, 0.5, 1.0)
    mixture = LaplaceMixture(maximum_variance=1e3)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.convolution = keras.layers.Conv2D(5, 8, strides=8, padding="same", name="all")
        self.build()

    def build(self, input_shape=None):
        self.convolution.build((None, None, None, 6))

    def call(self, inputs, training=False):
        images = tf.concat([inputs["source"], inputs["target"]], axis=-1)
        raw = self.convolution(images / 255.0)
        final = tf.image.resize(raw, tf.shape(images)[1:3])
        return {**self._level(final), "levels": [self._level(raw)] * 3}

    def features(self, image):
        return [image]

    def match_features(self, source, target):
        return self({"source": source[0], "target": target[0]})

    def _level(self, raw):
        flow, log_variance, logits = tf.split(raw, [2, 1, 2], axis=-1)
        return {
            "flow": flow,
            "log_variance": self.mixture.constrain(log_variance),
            "logits": logits,
        }


@pytest.fixture
def presets(networks, tmp_path, monkeypatch):
    """Makes the presets small networks, of which one has weights, or leaves them as they are."""
    if networks == "as they ship":
        return
    module = types.ModuleType("tfdense.models.tiny")
    module.Tiny = Tiny
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(PRESETS, "pdcnet", Preset("tiny:Tiny", {}))
    weights = tmp_path / "tiny.weights.h5"
    build(ModelConfig("pdcnet")).save_weights(weights)
    monkeypatch.setitem(PRESETS, "pdcnet-lite", Preset("tiny:Tiny", {}, str(weights)))


@pytest.fixture
def folder(presets, tmp_path, monkeypatch):
    """The working folder of a reader: a checkout, and what they have of their own."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in _CHECKOUT:
        (folder / name).symlink_to(_ROOT / name)
    for role in ("source", "target"):
        image = read_image(_ROOT / "tfdense" / "data" / "pair" / f"{role}.jpg")
        small = np.clip(resize_smooth(image.astype(np.float32), (96, 128)), 0, 255).astype(np.uint8)
        for path in (f"{role}.jpg", f"photos/{role}.jpg", f"homography/pair/{role}.png"):
            write_image(folder / path, small)
    (folder / "homography/pair/H_target_to_source.txt").write_text("1 0 5\n0 1 0\n0 0 1\n")
    (folder / "pairs.txt").write_text("source.jpg target.jpg\ntarget.jpg source.jpg\n")
    (folder / "points.txt").write_text("30 20\n60 40\n")
    _write_checkpoint(folder / "PDCNet_megadepth.pth.tar")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    return folder


def _write_checkpoint(path):
    """Writes random parameters of pdcnet, by the names and in the layout of its authors."""
    draw, parameters = np.random.default_rng(0), {}
    model = build(ModelConfig("pdcnet"), backbone_weights=False)
    for variable in model.variables:
        value = draw.uniform(0.01, 0.02, variable.shape).astype(np.float32)
        name = converting.checkpoint_name(variable.path.removeprefix(f"{model.name}/"))
        parameters[name] = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
    torch_writer.archive(path, *torch_writer.with_tensors(parameters))


def _page_cases():
    for page in filter(_blocks, _PAGES):
        compiles = page.name == "accelerator.md"
        slow = pytest.mark.slow
        yield pytest.param(page, "small", id=page.name, marks=slow if compiles else ())
        if not compiles:  # That of a large network takes many minutes.
            yield pytest.param(page, "as they ship", id=f"{page.name}-as-they-ship", marks=slow)


@pytest.fixture
def servers(page, tmp_path):
    """What takes the place of the servers that a page asks, by their addresses in it."""
    if page.name != "serving.md":
        yield {}
        return
    with known_server.running(tmp_path / "served", name="pdcnet") as server:
        yield {"http://127.0.0.1:8501": server.url, "127.0.0.1:8500": server.grpc}


def _replaced(text: str, servers: Mapping[str, str]) -> str:
    for address, actual in servers.items():
        text = text.replace(address, actual)
    return text


@pytest.mark.parametrize(("page", "networks"), _page_cases())
def test_blocks_run(page, networks, folder, servers, monkeypatch, capsys):
    names = {role: read_image(f"{role}.jpg") for role in ("source", "target")}
    for block in _blocks(page):
        where = f"{page.name}:{block.line}"
        if isinstance(block, Code):
            with _without_graphs(".fit(" in block.text):
                exec(compile(_replaced(block.text, servers), where, "exec"), names)
            continue
        (way,) = _ways(block)
        if way.checked_only:
            assert _exists(block.words), f"{where}: {block}"
            continue
        words = [_replaced(word, servers) for word in _prepared(block, way)]
        with _without_graphs("train.py" in words or "train" in words):
            status = _run(words, monkeypatch)
        assert not status, f"{where}: {block}: {status}\n{capsys.readouterr().err}"


def _prepared(command: Command, way: Way) -> list[str]:
    text = f"{command} {way.more}"
    for word, stand_in in way.stand_ins.items():
        text = re.sub(rf"\b{word}\b", stand_in, text)
    return [name for word in text.split() for name in sorted(glob.glob(word)) or [word]]


def _run(words: list[str], monkeypatch) -> int | str | None:
    """Runs a command in this process, which has loaded TensorFlow; returns its exit status."""
    if words[0] == "tfdense":
        return cli.main(words[1:])
    assert words[0] == "python"
    run = runpy.run_module if words[1] == "-m" else runpy.run_path
    monkeypatch.setattr(sys, "argv", words[2:] if words[1] == "-m" else words[1:])
    with pytest.raises(SystemExit) as exit_:
        run(sys.argv[0], run_name="__main__")
    return exit_.value.code


@contextlib.contextmanager
def _without_graphs(trains: bool) -> Iterator[None]:
    """Trains eagerly: tracing a step takes as long as many without."""
    tf.config.run_functions_eagerly(trains)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def _exists(words: list[str]) -> bool:
    """Says whether there is the target of make, the extras to be installed, or the program."""
    if words[0] in ("tfdense", "python"):
        _check_mention(words)
        return True
    if words[0] in ("curl", "docker"):
        return True
    if words[0] == "make":
        command = ["make", "--dry-run", *words[1:]]
        return not subprocess.run(command, cwd=_ROOT, capture_output=True, check=False).returncode
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    known = project["optional-dependencies"]
    if words[2] == "--force-reinstall":
        requirements = itertools.chain.from_iterable(known.values())
        return any(re.match(rf"{words[-1]}[<>=]", requirement) for requirement in requirements)
    extras = re.fullmatch(r"\.(?:\[(.+)\])?", words[2])[1]
    return {*(extras or "").split(",")} <= {"", *known}


def test_reference_has_all_that_is_public():
    pages = "".join(page.read_text("utf-8") for page in (_ROOT / "docs" / "api").glob("*.md"))
    names = re.findall(r"^::: (tfdense\.(?:layers|ops)\.\S+)", pages, re.M)
    described = [pkgutil.resolve_name(name) for name in names]
    public = [
        getattr(part, name) for part in (tfdense.layers, tfdense.ops) for name in part.__all__
    ]
    assert public
    for one in public:
        assert any(one is other for other in described), one


def _code_spans(page: Path) -> list[str]:
    inline = (child for token in _tokens(page) for child in token.children or ())
    return [" ".join(child.content.split()) for child in inline if child.type == "code_inline"]


@pytest.mark.parametrize("page", _PAGES + _FURTHER, ids=lambda page: str(page.relative_to(_ROOT)))
def test_links_lead_somewhere(page):
    for token in _tokens(page):
        for child in token.children or ():
            target = child.attrs.get("href") or child.attrs.get("src") or ""
            if child.type not in ("link_open", "image") or "://" in target:
                continue
            path, _, heading = target.partition("#")
            path = page.parent / path if path else page
            assert path.exists(), target
            assert not heading or heading in _anchors(path), target


def _anchors(page: Path) -> set[str]:
    tokens = _tokens(page)
    titles = [tokens[i + 1].content for i, t in enumerate(tokens) if t.type == "heading_open"]
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", _PAGES + _FURTHER, ids=lambda page: str(page.relative_to(_ROOT)))
def test_what_is_named_exists(page):
    for span in _code_spans(page):
        if re.fullmatch(r"tfdense(\.\w+)+", span):
            pkgutil.resolve_name(span)
        elif re.fullmatch(r"[\w./-]+", span) and span.partition("/")[0] in _CHECKOUT:
            assert (_ROOT / span).exists(), span
        elif re.fullmatch(r"\w+\.py", span):
            assert any(path.name == span for path in _ROOT.glob("tfdense/**/*.py")), span
        elif re.match(r"(make|python|tfdense) .|--\w", span):
            _check_mention(shlex.split(span))


def _check_mention(words: list[str]) -> None:
    """Checks a command in the text, which need not be whole, or options alone."""
    if words[0] == "make":
        assert _exists(words), words
        return
    known = {option for options in _OPTIONS.values() for option in options}
    if words[0] == "python":
        script = f"{words[2].replace('.', '/')}.py" if words[1] == "-m" else words[1]
        assert (_ROOT / script).is_file(), words
        # A script that is not listed takes no options.
        known = _OPTIONS.get({"train.py": "train"}.get(script, script.removesuffix(".py")), ())
    elif words[0] == "tfdense":
        known = _OPTIONS[words[1]]
    for word, value in zip(words, [*words[1:], ""], strict=True):
        assert not word.startswith("-") or word in {"-m", "-h", *known}, words
        if word == "--set" and value:
            config = words[words.index("--config") + 1] if "--config" in words else None
            load_config(config and _ROOT / config, [value])


def _all_options() -> dict[str, set[str]]:
    """Returns the options of each command of tfdense, with those below it, and of each script."""
    found = {}
    for path in [*_ROOT.glob("bench/*.py"), *_ROOT.glob("experiments/*.py")]:
        name = path.relative_to(_ROOT).with_suffix("").as_posix()
        found[name] = {*re.findall(r'add_argument\(\s*"(--[\w-]+)"', path.read_text("utf-8"))}
    for name in cli._COMMANDS:
        found[name] = _options_of(cli._parser([name]), name)
    return found | {f"export/{path.stem}": found["export"] for path in _ROOT.glob("export/*.py")}


def _options_of(parser: argparse.ArgumentParser, command: str = "") -> set[str]:
    found = set()
    for action in parser._actions:
        found |= {*action.option_strings}
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                found |= _options_of(below) if name == command or not command else set()
    return found


_OPTIONS = _all_options()
