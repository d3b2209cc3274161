"""Tables and figures of what the training benchmarks wrote."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import t as student_t

from nclib.chapters import benchmarks, figures, training_speed
from nclib.paths import BENCHMARKS


def loop(name, middle, **more):
    return {"loop": name, "images_per_second": middle, "lowest": middle - 100, "highest": middle + 100,
            "ratio": middle / 1000, "repeats": 5} | more  # fmt: skip


RECORD = {
    "provenance": {"device": "a toaster", "threads": 2, "torch": "9.9", "commit": "0123456789abcdef"},
    "rows": [
        loop("copied loop", 1000.0, share_of_peak=0.05, peak_memory=2**30),
        loop("nclib", 4000.0, share_of_peak=0.2, peak_memory=2**29),
    ],
    "variants": [loop("", 5000.0, variant="as it is"), loop("", 2000.0, variant="in float32")],
    "profile": [
        {"loop": "copied loop", "kind": "convolution", "seconds": 1.0, "share": 0.25},
        {"loop": "copied loop", "kind": "waiting for data", "seconds": 3.0, "share": 0.75},
        {"loop": "nclib", "kind": "convolution", "seconds": 1.0, "share": 1.0},
    ],
    "terminal": {
        "rows": [
            {"loop": name, "seed": seed, "seconds": seconds + seed, "epochs": 9, "joules": None}
            for name, seconds in {"copied loop": 8.0, "nclib": 2.0}.items()
            for seed in (0, 2)
        ]
    },
}


@pytest.fixture
def record(monkeypatch):
    monkeypatch.setattr(training_speed, "benchmark", lambda name: RECORD)


def test_loops(record):
    table = training_speed.loops()
    assert table.loc["nclib"].tolist() == ["4,000 (3,900 to 4,100)", "4.00", "20.0%", "0.50"]
    assert "a toaster" in training_speed.caption()
    assert "5 repeats" in training_speed.caption()


def test_memory_stands_there_only_where_it_was_measured(monkeypatch):
    rows = [{k: v for k, v in row.items() if k != "peak_memory"} for row in RECORD["rows"]]
    monkeypatch.setattr(training_speed, "benchmark", lambda name: {"gpu": RECORD | {"rows": rows}}[name])
    table = training_speed.loops(name="gpu")
    assert table.loc["nclib"].tolist() == ["4,000 (3,900 to 4,100)", "4.00", "20.0%"]


def test_speed_of_released_runs_counts_all_of_their_time(monkeypatch):
    run = SimpleNamespace(
        folder=SimpleNamespace(name="x-seed0"),
        config=SimpleNamespace(epochs=30, batch_size=128),
        provenance={"seconds": 60.0, "device": "a toaster"},
        moments=lambda split, epoch=-1: SimpleNamespace(counts=np.array([400, 600])),
    )
    monkeypatch.setattr(training_speed, "released_runs", lambda *names: [run])
    assert training_speed.of_released("x-*").loc["x-seed0"].tolist() == [128, 30, "500", "a toaster"]


def test_at_equal_precision_both_ratios_count(record):
    assert "about 8.0 times" in training_speed.equal_precision()  # 2 times 4


def test_variants(record):
    assert training_speed.variants().loc["in float32", "ratio"] == "2.00"


def test_profile_sorts_by_the_copied_loop(record):
    table = training_speed.profile()
    assert table.index.tolist() == ["waiting for data", "convolution"]
    assert table["nclib"].tolist() == ["0.0%", "100.0%"]


def test_terminal_phase_shows_what_is_known(record):
    table = training_speed.terminal_phase()
    assert table.columns.tolist() == ["seconds", "epochs"]
    assert table.loc["copied loop", "seconds"].startswith("9.0 (8.0 to 10.0)")  # of 8 and 10
    assert table.loc["nclib", "seconds"].startswith("3.0 (")


def test_same_learning(monkeypatch):
    rows = [
        dict.fromkeys(training_speed.LEARNT, value) | {"loop": name, "seed": seed}
        for name, values in {"nclib": (1.0, 2.0, 3.0), "plain": (1.5, 2.5, 2.0)}.items()
        for seed, value in enumerate(values)
    ]
    record = {"rows": rows, "recipe": "a recipe", "provenance": RECORD["provenance"]}
    monkeypatch.setattr(training_speed, "benchmark", lambda name: record)
    table = training_speed.same_learning(rows)
    half = student_t.ppf(0.975, 2) * np.std([-0.5, -0.5, 1.0], ddof=1) / np.sqrt(3)  # by seed
    assert table["difference"].iloc[-1] == f"+0.000 [{-half:.3f}, +{half:.3f}]"  # both means are two
    for row in rows:
        row["train_accuracy"] = 1.0
    assert training_speed.same_learning(rows)["difference"].iloc[0] == "+0.0000 [+0.0000, +0.0000]"
    assert "seeds 0, 1, 2" in training_speed.learning_caption()
    axes = training_speed.same_learning_figure(
        rows, {key: title for key, (title, *_) in training_speed.LEARNT.items()}
    )
    assert "2, 2" in figures.alt_text(axes)


def test_figure_of_speeds():
    axes = training_speed.loops_figure(RECORD)
    assert "4.0 times" in axes.get_title()
    spoken = figures.alt_text(axes)
    assert "copied loop: 1,000; nclib: 4,000." in spoken
    assert "as it is: 5,000; in float32: 2,000." in spoken  # another series has other speeds


@pytest.mark.parametrize("name", ["training", "same_learning", "same_convolutions"])
def test_written_files_have_what_the_page_shows(name):
    assert (BENCHMARKS / f"{name}.json").exists()
    assert benchmarks.benchmark(name)["provenance"]["commit"] != "unknown"
    assert json.dumps(benchmarks.benchmark(name), allow_nan=False)
