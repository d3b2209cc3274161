"""The arithmetic of the page on clusters, against torchvision's own figures and by hand."""

from __future__ import annotations

import pytest

from nclib.chapters import from_laptop_to_cluster as page
from nclib.data.torchvision_import import import_torchvision

META = import_torchvision("torchvision.models").ResNet50_Weights.IMAGENET1K_V1.meta


def test_operations_are_those_that_torchvision_states():
    """In 10^9 multiply-adds, rounded to three digits; torchvision leaves out the last layer's bias."""
    assert page.forward_flops() / 2e9 == pytest.approx(META["_ops"], abs=1e-3)


def test_parameters_are_those_that_torchvision_states():
    assert page.parameter_count() == META["num_params"]


def test_hours_jobs_and_storage():
    table = page.arithmetic()["value"]
    hours = 90 * 1_281_167 / 2_470 / 3600  # 12.97
    assert table["GPU hours of training a run"] == f"{hours:.1f}" == "13.0"
    assert table["jobs"] == "49"
    assert table["features a run, GB"] == "10.9"  # 1,331,167 x 2048 x 4 bytes
    extraction = float(table["GPU hours of extraction a run, float32"])
    # what is rounded is known to 0.05 h each, times 24 runs, and the sum to 0.5 h
    assert float(table["GPU hours in all"]) == pytest.approx(24 * (hours + extraction), abs=24 * 0.05 + 0.5)


class TestFaults:
    def test_a_row_says_what_each_call_did(self, monkeypatch):
        row = {
            "fault": "a job dies",
            "status": 1,
            "said": ["train a.json (digits, seed 1): exit 3", "1 of 2 runs are missing; its log is /a/b"],
            "runs": 2,
            "trained_first": 1,
            "jobs_left": 0,
            "trained_then": 1,
            "identical": False,
        }
        monkeypatch.setattr(
            page, "benchmark", lambda name: {"rows": [row, row | {"status": 0, "said": ["/a/report.html"]}]}
        )
        table = page.faults_table()
        assert table["the first call said"].tolist() == [
            "exit 3; 1 of 2 runs are missing",
            "that it ended well",
        ]
        assert table["it trained"].tolist() == ["1 of 2"] * 2
        assert table["keys and numbers of a local run"].tolist() == ["no"] * 2

    def test_what_was_tried_lost_nothing(self):
        assert set(page.faults_table()["keys and numbers of a local run"]) == {"yes"}
        assert "Slurm" in page.faults_caption()


class TestSharded:
    def test_a_process_stays_within_its_memory(self):
        limit = page.benchmark("sharded")["limit_bytes"] / 1e9
        table = page.sharded_table()
        assert (table["largest memory of a process, GB"].astype(float) < limit).all()
        assert table.loc["merge the moments", "processes"] == 1

    def test_caption_names_the_largest_gap(self, monkeypatch):
        record = page.benchmark("sharded") | {
            "gaps": {"a": {"means": 1e-16, "scatter": 3e-15}, "b": {"means": 0}}
        }
        monkeypatch.setattr(page, "benchmark", lambda name: record)
        said = page.sharded_caption()
        assert said.startswith("10,000,000 x 512 features of 1,000 classes in 100 files, 20 GB; at most 2 GB")
        assert "by at most 3e-15 of the largest" in said
