"""What the targets of the fuzzing share."""

import json
import sys

import oracle
import pytest


@pytest.fixture
def trial(tmp_path):
    """Tries inputs, see `oracle.Trial`."""
    return oracle.Trial(tmp_path)


@pytest.fixture(scope="session", autouse=True)
def canary(tmp_path_factory):
    """A module that can be imported, and which nothing may."""
    folder = tmp_path_factory.mktemp("canary")
    (folder / f"{oracle.CANARY}.py").write_text("def run(*arguments):\n    return arguments\n")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    assert oracle.CANARY not in sys.modules


def pytest_sessionstart(session):
    if not hasattr(session.config, "workerinput"):
        (oracle.RECORDS / "counts.jsonl").unlink(missing_ok=True)


def pytest_terminal_summary(terminalreporter):
    path = oracle.RECORDS / "counts.jsonl"
    if not path.is_file():
        return
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    terminalreporter.section("inputs tried")
    for row in rows:
        terminalreporter.line(
            f"{row['target']}: {row['inputs']}, of which {row['refused']} refused, "
            f"in {row['seconds']} s"
        )
    terminalreporter.line(f"{sum(row['inputs'] for row in rows)} in all")
    for path in sorted(oracle.RECORDS.glob("*.last")):
        terminalreporter.line(f"what was tried last where a target did not end: {path}")
