"""What the tests of jobs share: images, and a stand-in for the network."""

import contextlib

import numpy as np
import pytest

from tfdense.images import write_image


@pytest.fixture
def interrupted(backend, monkeypatch):
    """A context in which the network's third run is interrupted, as by Ctrl-C."""

    @contextlib.contextmanager
    def interrupt():
        run, former = backend.run, backend.runs

        def until_the_third(source, target):
            if backend.runs == former + 2:
                raise KeyboardInterrupt
            return run(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(backend, "run", until_the_third)
            yield

    return interrupt


@pytest.fixture
def folder(tmp_path, texture):
    """Three images of a scene, shifted by 5 px from each to the next, and a broken one."""
    scene = texture(64, 120).astype(np.uint8)
    for i in range(3):
        write_image(tmp_path / "photos" / f"{i}.png", scene[:, 20 - 5 * i :][:, :96])
    (tmp_path / "photos" / "list.txt").write_text("1.png 0.png\n2.png 0.png\n")
    return tmp_path / "photos"
