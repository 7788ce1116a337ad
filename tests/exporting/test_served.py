"""An exported network behind a server answers as it does here."""

import json
import shutil

import cv2
import numpy as np
import pytest
from known_server import running
from tensorflow.core.protobuf import saved_model_pb2

import tfdense
from tfdense import cli
from tfdense.client import Client, ServerError
from tfdense.client.remote import connect
from tfdense.exporting.verification import read_pair
from tfdense.images import write_image
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
    expected = tfdense.load(exported_report.path, mode="multiscale").match(*pair)
    with Client(served.url) as client:
        match = connect(client, 640, "multiscale", False).match(*pair)
    for name in ("flow", "confidence", "log_variance"):
        np.testing.assert_allclose(getattr(match, name), getattr(expected, name), atol=1e-3)
    command = ["match", *map(str, pair), "--mode", "multiscale", "--server", served.url]
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
            assert caught.value.status == 400 and "target cannot be decoded" in str(caught.value)
        wrong = cv2.imencode(".png", np.full((96, 100), 255, np.uint8))[1].tobytes()
        with pytest.raises(ServerError, match="target_mask of 128x96"):
            client.predict("match_encoded", {**inputs, "target_mask": [wrong]})


def test_masks_may_be_left_out(served, exported_report):
    model = SavedModel(exported_report.path)
    source, target = read_pair((96, 128))
    mask = np.zeros((96, 128), np.uint8)
    mask[:, 30:] = 1
    images = {"source": source[None], "target": target[None]}
    whole = np.ones([1, 1, 1], np.uint8)
    with Client(served.url) as client:
        for masks in ({"source_mask": mask[None]}, {"target_mask": mask[None]}, {}):
            all_masks = {"source_mask": whole, "target_mask": whole, **masks}
            expected = model.run("match_masked", {**images, **all_masks})
            for name in ("match", "match_masked"):
                answer = client.predict(name, {**images, **masks})
                np.testing.assert_allclose(answer["flow"], expected["flow"], atol=1e-4)
            by_files = client.match(
                source, target, **{name: values[0] for name, values in masks.items()}
            )
            np.testing.assert_allclose(by_files["flow"], expected["flow"][0], atol=1e-4)
        with Client(f"grpc://{served.grpc}", "pdcnet") as other:
            _, confidence = other.match_points(source, target, [[3, 4], [90, 50]], target_mask=mask)
        assert confidence[0] == 0 < confidence[1]


@pytest.fixture
def former(exported_report, tmp_path):
    """A version as former releases wrote it: two signatures, none of them described."""
    folder = tmp_path / "pdcnet" / "1"
    shutil.copytree(exported_report.path, folder)
    path = folder / "saved_model.pb"
    content = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    definitions = content.meta_graphs[0].signature_def
    for name in [*definitions]:
        if name not in ("serving_default", "match", "match_encoded"):
            del definitions[name]
    del definitions["match_encoded"].outputs["target_size"]
    path.write_bytes(content.SerializeToString())
    path = folder / "assets.extra" / "tfdense.json"
    description = json.loads(path.read_text())
    del description["signatures"]
    path.write_text(json.dumps(description))
    return folder


def test_former_exports_are_served(former, exported_report, pair, tmp_path):
    expected = tfdense.load(exported_report.path).match(*pair)
    np.testing.assert_array_equal(tfdense.load(former).match(*pair).flow, expected.flow)
    with (
        running(tmp_path, name="pdcnet", load=lambda path: ServedModel(former)) as server,
        Client(server.url) as client,
    ):
        np.testing.assert_allclose(client.match(*pair)["flow"], expected.flow, atol=1e-3)
        for call, asked in (
            (client.match_points, {"points": [[1, 2]]}),
            (client.match, {"target_mask": np.ones((96, 128), np.uint8)}),
        ):
            with pytest.raises(ServerError, match=r"signature of .*match_encoded") as caught:
                call(*pair, **asked)
            assert caught.value.status == 404


def test_no_server(pair, capsys, tmp_path):
    command = ["match", *map(str, pair), "-o", str(tmp_path / "out")]
    assert cli.main([*command, "--server", "ftp://x"]) == 2
    assert "Expected a server as http" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
