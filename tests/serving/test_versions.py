"""Which version answers: at the start, and when others come, whole or not."""

import json

import pytest

from tfdense.errors import InputError
from tfdense.serving.logs import start_logging
from tfdense.serving.versions import Versions


@pytest.fixture
def publish(tmp_path):
    def publish(version, **files):
        folder = tmp_path / str(version)
        for name, content in {"saved_model.pb": "", **files}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    return publish


@pytest.fixture
def start(tmp_path):
    started, loaded = [], []

    def load(path):
        loaded.append(int(path.name))
        if not (path / "variables").is_file():
            raise ValueError(f"{path.name} is broken\nand so on")
        return path.name

    def start():
        started.append(Versions(tmp_path, "known", load, seconds=1000))
        started[-1].tried = loaded
        return started[-1]

    yield start
    for versions in started:
        versions.close()


def refused(capsys):
    """Returns the versions that the log says are broken, since it was asked last."""
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    return [line["version"] for line in lines if line["event"] == "version refused"]


def test_at_the_start_the_newest_that_loads_answers(publish, start, capsys):
    start_logging()
    publish(1, variables="x")
    publish(2, variables="x")
    publish(3)
    publish(10)
    versions = start()
    assert versions.get() == (2, "2") and versions.tried == [10, 3, 2]
    assert versions.states() == {10: "10 is broken", 3: "3 is broken", 2: ""}
    assert refused(capsys) == [10, 3]


def test_it_ends_if_none_loads(publish, start, capsys):
    start_logging()
    with pytest.raises(InputError, match="Expected numbered versions"):
        start()
    publish(1)
    publish(2)
    with pytest.raises(InputError, match=r"No version in .* can be loaded: 2 is broken$"):
        start()
    assert refused(capsys) == [2, 1]


def test_a_version_is_tried_again_once_its_files_have_changed(publish, start, capsys):
    start_logging()
    publish(1, variables="x")
    versions = start()
    publish(2)
    for _ in range(3):
        versions.look()
    assert versions.tried == [1, 2] and refused(capsys) == [2]
    publish(2, other="x")
    for _ in range(3):
        versions.look()
    assert versions.tried == [1, 2, 2] and refused(capsys) == [2]
    publish(2, variables="x")
    versions.look()
    assert versions.get() == (2, "2") and versions.states() == {2: ""}


def test_beside_a_broken_version_the_next_is_taken(publish, start):
    publish(1, variables="x")
    versions = start()
    publish(3)
    versions.look()
    publish(2, variables="x")
    versions.look()
    assert versions.get() == (2, "2") and versions.states() == {3: "3 is broken", 2: ""}
