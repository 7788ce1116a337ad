"""An exported network behind a server answers as it does here."""

import cv2
import numpy as np
import pytest
from known_server import running

import tfdense
from tfdense import cli
from tfdense.client import Client, ServerError
from tfdense.exporting.verification import read_pair
from tfdense.images import write_image
from tfdense.inference.remote import connect
from tfdense.saved_models import SavedModel
from tfdense.serving.model import ServedModel


@pytest.fixture(scope="module")
def served(exported_report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    load = lambda path: ServedModel(exported_report.path)  # noqa: E731
    with running(folder, name="pdcnet", load=load) as server:
        yield server


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    paths = [folder / "source.png", folder / "target.jpg"]
    for path, image in zip(paths, read_pair((96, 128)), strict=True):
        write_image(path, image)
    return paths


def test_modes_with_a_network_that_a_server_runs(served, exported_report, pair, tmp_path):
    expected = tfdense.load(exported_report.path, mode="homography").match(*pair)
    with Client(served.url) as client:
        match = connect(client, 640, "homography", False).match(*pair)
    for name in ("flow", "confidence", "log_variance"):
        np.testing.assert_allclose(getattr(match, name), getattr(expected, name), atol=1e-3)
    command = ["match", *map(str, pair), "--mode", "homography", "--server", served.url]
    assert cli.main([*command, "-o", str(tmp_path / "out")]) == 0
    flow = np.load(tmp_path / "out" / "match.npz")["flow"]
    np.testing.assert_array_equal(flow, match.flow)


def test_files_of_several_sizes_and_broken_ones(served, exported_report, pair):
    contents = [path.read_bytes() for path in pair]
    inputs = {"source": [contents[0]], "target": [contents[1]]}
    expected = SavedModel(exported_report.path).run("match_encoded", inputs)
    with Client(served.url) as client:
        answer = client.match(*pair)
        np.testing.assert_allclose(answer["flow"], expected["flow"][0], atol=1e-4)
        assert client.description()["preset"] == "pdcnet-lite"
        for broken in (contents[1][:-900], contents[0][:2000]):
            with pytest.raises(ServerError) as caught:
                client.predict("match_encoded", {**inputs, "target": [broken]})
            assert caught.value.status == 400 and "\n" not in str(caught.value)
        wrong = cv2.imencode(".png", np.full((96, 100), 255, np.uint8))[1].tobytes()
        with pytest.raises(ServerError, match="target_mask of 128x96"):
            client.predict("match_encoded", {**inputs, "target_mask": [wrong]})


def test_no_server(pair, capsys, tmp_path):
    command = ["match", *map(str, pair), "-o", str(tmp_path / "out")]
    assert cli.main([*command, "--server", "ftp://x"]) == 2
    assert "Expected a server as http" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
