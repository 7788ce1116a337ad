"""Results as tables."""

import json

import numpy as np
import pytest

from tfdense import cli
from tfdense.evaluation.tables import text_table


def methods(aepe, pck_5, ause_p_5=0.25, **network):
    flow = {"mean_over_pairs": {"aepe": aepe, "pck_5": pck_5, "ause_p_5": ause_p_5}}
    return {"DIS": {"mean_over_pairs": {"aepe": 2.0, "pck_5": 50.0}}, "network": flow | network}


def write(folder, **changes):
    content = {
        "dataset": "points",
        "data": "eval/points",
        "max_side": 640,
        "pairs": 22,
        "model": "runs/a",
        "mode": "direct",
        "fill": False,
        "methods": methods(1.5, 40.0),
    }
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(content | changes))
    return str(folder)


def test_networks_and_classical_methods_side_by_side(tmp_path, capsys):
    calibration = {"1": 0.1, "3": 0.2, "5": 0.3}
    folders = [
        write(tmp_path / "a", methods=methods(1.5, 40.0, expected_calibration_error=calibration)),
        write(tmp_path / "b", mode="homography", methods=methods(1.25, 49.96, 0.2, ause_ratio=0.8)),
        write(tmp_path / "c", dataset="stereo", methods=methods(2.0, 60.0)),
    ]
    assert cli.main(["compare", *folders]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| data set | figure | DIS | runs/a (direct) | runs/a (homography) |",
        "|---|---|---|---|---|",
        "| points | AEPE | 2.00 | 1.50 | **1.25** |",
        "| points | PCK-5 | **50.0** | 40.0 | **50.0** |",
        "| stereo | AEPE | **2.00** | **2.00** |  |",
        "| stereo | PCK-5 | 50.0 | **60.0** |  |",
        "",
        "| data set | figure | runs/a (direct) | runs/a (homography) |",
        "|---|---|---|---|",
        "| points | AUSE by P_5 | 0.250 | **0.200** |",
        "| points | AUSE / that of forward-backward error |  | 0.80 |",
        "| points | ECE P_1 | 0.100 |  |",
        "| points | ECE P_3 | 0.200 |  |",
        "| points | ECE P_5 | 0.300 |  |",
        "| stereo | AUSE by P_5 | 0.250 |  |",
    ]


def test_results_that_cannot_be_compared_are_refused(tmp_path, capsys):
    folders = [write(tmp_path / "a"), write(tmp_path / "b", max_side=320)]
    assert cli.main(["compare", *folders]) == 2
    assert "points to have the same max_side. Received: 640 and 320" in capsys.readouterr().err
    assert cli.main(["compare", str(tmp_path / "c")]) == 2
    assert "Cannot read" in capsys.readouterr().err
    (tmp_path / "a" / "results.json").write_text("{")
    assert cli.main(["compare", folders[0]]) == 2
    assert "is not what `tfdense evaluate` writes" in capsys.readouterr().err


def test_text_table():
    means = {"aepe": 1.234, "seconds": 0.5}
    others = ("ause", "ause_p_3", "ause_p_5", "ause_deviation", "mean_confidence")
    areas = dict.fromkeys(others, 0.1)
    table = text_table(
        {
            "identity": {"mean_over_pairs": means},
            "network": {
                "mean_over_pairs": {**means, **areas, "ause_forward_backward": 0.2},
                "ause_ratio": 0.5,
                "pose_auc": {"5": 12.34, "10": np.float64(50)},
            },
        }
    )
    assert table.splitlines() == [
        "             AEPE     AUSE  seconds",
        "identity     1.23             0.500",
        "network      1.23    0.100    0.500",
        "  pose, error in degrees, exact AUC: @5 12.3, @10 50.0",
        "  AUSE by confidence 0.100, P_3 0.100, P_5 0.100, deviation 0.100, "
        "forward-backward error 0.200; first to last: 0.50",
        "  mean P_1: 0.100",
    ]


@pytest.mark.parametrize(
    "changes",
    [{"methods": 1}, {"methods": {"DIS": 1}}, {"methods": methods("far", 40.0)}, {"dataset": []}],
)
def test_what_is_wrong_in_results_is_refused(tmp_path, changes, capsys):
    assert cli.main(["compare", write(tmp_path / "a", **changes)]) == 2
    assert "is not what `tfdense evaluate` writes" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[]", "{}", '{"methods": {}}', '{"a": NaN}', "[" * 100_000])
def test_other_files_are_refused(tmp_path, content, capsys):
    (tmp_path / "results.json").write_text(content)
    assert cli.main(["compare", str(tmp_path)]) == 2
    assert "is not what `tfdense evaluate` writes" in capsys.readouterr().err
