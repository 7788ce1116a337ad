"""Configurations: YAML files and overrides."""

from pathlib import Path

import pytest
import yaml
from hypothesis import strategies as st
from mutations import mutated
from oracle import CANARY, Finding, fuzz

from tfdense.config import Config, dump_config, load_config

pytestmark = pytest.mark.fuzz

_CONFIGS = Path(__file__).resolve().parents[2] / "configs"
_SEEDS = [path.read_bytes() for path in sorted(_CONFIGS.glob("*.yaml"))]
_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
_EVIL = [
    "name: !!python/object/apply:os.system ['touch hostile']",
    f"name: !!python/name:{CANARY}.run",
    f"name: !!python/object/new:{CANARY}.run [1]",
    _BOMB,
    f"{_BOMB}name: *i\n",
    f"{_BOMB}model:\n  options: *h\ndata: *i\n",
    f"{_BOMB}loss:\n  level_weights: *i\n",
    "&a [*a]",
    "name: &a {x: *a}",
    "model: &a\n  options: *a",
    "model:\n  options: &a\n    radius: *a",
    "model: &a\n  options:\n    again: *a",
    "[" * 5000,
    "{" * 5000,
    "a: " * 900,
    "name: " + "9" * 5000,
    "seed: " + "9" * 5000,
    "seed: 1e999",
    "seed: 0x" + "f" * 5000,
    "seed: 190:20:30",
    "name: 2001-13-41",
    "name: !!binary '*'",
    "? [a]\n: b",
    "? {a: b}\n: c",
    "name: a\0b",
    "name: ../../outside",
]


def _read(trial, content: bytes, *overrides: str) -> None:
    path = trial.folder / "config.yaml"
    path.write_bytes(content)
    config = load_config(path, overrides)
    if not isinstance(config, Config) or load_text(trial, dump_config(config)) != config:
        raise Finding(f"it was read as {config}, which does not come back from its own file")


def load_text(trial, text: str) -> Config:
    path = trial.folder / "again.yaml"
    path.write_text(text, "utf-8")
    return load_config(path)


@fuzz(mutated(_SEEDS))
def test_files(trial, content):
    _read(trial, content)


@fuzz(mutated([each.encode() for each in _EVIL]) | st.sampled_from(_EVIL).map(str.encode))
def test_hostile_yaml(trial, content):
    _read(trial, content)


_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates()
)
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


def _places(values, before=()):
    for name, value in values.items():
        yield (*before, name)
        if isinstance(value, dict):
            yield from _places(value, (*before, name))


_PLACES = sorted(_places(yaml.safe_load(dump_config(Config()))))


@fuzz(st.lists(st.tuples(st.sampled_from(_PLACES), _TREES), min_size=1, max_size=4))
def test_values(trial, changes):
    values = yaml.safe_load(dump_config(Config()))
    for place, value in changes:
        group = values
        for name in place[:-1]:
            group = group[name] if isinstance(group.get(name), dict) else group
        group[place[-1]] = value
    _read(trial, yaml.safe_dump(values, allow_unicode=True).encode("utf-8", "surrogatepass"))


_KEYS = st.sampled_from([".".join(place) for place in _PLACES]) | st.text(max_size=9)


@fuzz(st.tuples(_KEYS, st.text(max_size=12) | st.sampled_from(_EVIL)))
def test_overrides(trial, drawn):
    load_config(None, ["=".join(drawn)])
