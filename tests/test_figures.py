"""Figures: what is drawn is what was given, and every figure says in words what it shows."""

from __future__ import annotations

import re
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import seaborn as sns
import torch
from scipy.stats import ttest_1samp

import nclib
from nclib.chapters import (
    coarse_labels,
    collapse_as_loss,
    distance_heatmaps,
    figures,
    label_reconstruction,
    neural_collapse,
    number_of_classes,
    numerical_honesty,
    ood_detection,
    per_class_probes,
    statistics,
    tsne,
    when_structure_appears,
)
from nclib.data.datasets import ImageSet
from nclib.data.grouping import Grouping
from nclib.networks.features import FeatureSet
from nclib.runs import evaluation

GROUPING = Grouping(torch.tensor([0, 1, 0, 1]), ("a", "b", "c", "d"), ("a + c", "b + d"))


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def one_result(kmeans: float, tsne: float, chance: float = 0.5) -> dict:
    parts = {"kmeans": {"train": kmeans, "test": kmeans}, "tsne-kmeans": {"train": tsne, "test": tsne}}
    return {"reconstruction": parts, "chance": chance, "pixels": {"kmeans": 0.55, "tsne-kmeans": 0.65}}


class TestTheme:
    def test_importing_the_chapters_changes_no_setting(self):
        code = (
            "import matplotlib as m, pkgutil, importlib, nclib.chapters as c; before = dict(m.rcParams);"
            "[importlib.import_module(f'{c.__name__}.{x.name}') for x in pkgutil.iter_modules(c.__path__)];"
            "assert dict(m.rcParams) == before"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_drawing_leaves_settings_as_they_were(self):
        before = dict(plt.rcParams)
        axes = figures.embeddings_figure(np.zeros((4, 2)), np.arange(4), GROUPING)
        assert dict(plt.rcParams) == before
        (drawn,) = axes.collections[0].get_facecolor()
        assert np.allclose(drawn[:3], sns.color_palette(figures.PALETTE)[0])


class TestExampleImages:
    def test_draws_the_first_images_of_each_class(self):
        labels = torch.arange(12) % 4
        pixels = torch.arange(12, dtype=torch.uint8)[:, None, None, None].expand(12, 1, 3, 3)
        axes = coarse_labels.example_images_figure(
            ImageSet(pixels, labels, GROUPING.fine_names), GROUPING, per_class=2
        )
        drawn = np.asarray(axes.images[0].get_array())
        assert drawn.shape == (2 * 5, 4 * 5)  # two rows of four tiles, each with a margin of one
        assert drawn[2::5, 2::5].tolist() == [[0, 4, 2, 6], [1, 5, 3, 7]]

    def test_rows_are_named(self):
        pixels = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
        axes = coarse_labels.example_images_figure(
            ImageSet(pixels, torch.arange(4), GROUPING.fine_names), GROUPING
        )
        assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a +\nc", "b +\nd"]
        assert "a + c, b + d" in figures.alt_text(axes)


class TestEpochsAxis:
    @pytest.mark.parametrize(
        ("last", "between"),
        [(1, []), (2, [1]), (8, [1]), (12, [1]), (30, [1, 10]), (99, [1, 10]), (350, [1, 10]),
         (999, [1, 10, 100])],
    )  # fmt: skip
    @pytest.mark.parametrize("inches", [1.8, 3.4])
    def test_written_epochs_do_not_touch(self, last, between, inches):
        figure, panel = plt.subplots(figsize=(inches / 0.775, 2))  # the panel's share of the figure's width
        figures.epochs_axis(panel, last)
        figure.draw_without_rendering()
        labels = panel.get_xticklabels()
        assert [label.get_text() for label in labels] == list(map(str, [0, *between, last]))
        boxes = [label.get_window_extent() for label in labels]
        assert [box.count_overlaps(boxes) for box in boxes] == [1] * len(boxes)
        plt.close(figure)

    def test_epochs_are_linear_to_one_and_logarithmic_beyond(self):
        figure, panel = plt.subplots()
        figures.epochs_axis(panel, 100)
        places = panel.transData.transform([(epoch, 0) for epoch in (0, 0.5, 1, 10, 100)])[:, 0]
        assert places[1] - places[0] == pytest.approx(places[2] - places[1])
        assert places[3] - places[2] == pytest.approx(places[4] - places[3])
        plt.close(figure)


class TestCollapseAndStructure:
    def test_lines_are_the_measures(self, tiny_run):
        axes = neural_collapse.collapse_and_structure_figure([evaluation.measures(tiny_run)])
        (nc1,), (explained, _) = (panel.lines for panel in axes.figure.axes)
        f = tiny_run.features("train")
        assert nc1.get_xdata().tolist() == [0, 1, 2, 3]
        expected = nclib.collapse_metrics(f.h, f.coarse, f.weight, f.bias)["nc1"]
        assert nc1.get_ydata()[-1] == pytest.approx(expected, rel=1e-6)
        expected = float(nclib.explained_variance(f.h, f.fine, f.coarse).mean())
        assert explained.get_ydata()[-1] == pytest.approx(expected, rel=1e-6)

    def test_words_state_the_ends(self, tiny_run):
        axes = neural_collapse.collapse_and_structure_figure([evaluation.measures(tiny_run)], "A title")
        nc1, explained = (panel.lines[0].get_ydata()[-1] for panel in axes.figure.axes)
        assert f"to {nc1:.3g}, and" in figures.alt_text(axes)
        assert f"to {explained:.2f} (last run)" in figures.alt_text(axes)
        assert axes.figure.get_suptitle() == "A title"

    def test_one_line_a_run(self, tiny_run):
        axes = neural_collapse.collapse_and_structure_figure([evaluation.measures(tiny_run)] * 2)
        assert [sum(len(li.get_xdata()) == 4 for li in panel.lines) for panel in axes.figure.axes] == [2, 2]


class TestClassScatter:
    def tables(self) -> list[pd.DataFrame]:
        shared = {
            "class": list("abcd"),
            "super-class": [0, 1, 0, 1],
            "msdr_test": np.ones(4),
            "coarse": np.ones(4),
        }
        return [
            pd.DataFrame(shared).assign(
                seed=s, msdr_train=np.arange(4) + s, probe=[0.6, 0.7 + s / 10, 0.9, 0.8]
            )
            for s in (0, 1)
        ]

    def test_points_are_means_and_dots_are_seeds(self):
        axes = per_class_probes.class_scatter_figure(per_class_probes.correlations({"two": self.tables()}))
        points = [line.get_xydata()[0].tolist() for line in axes.lines if len(line.get_xdata()) == 1]
        np.testing.assert_allclose(points, [[0.5, 0.6], [1.5, 0.75], [2.5, 0.9], [3.5, 0.8]])
        _, second = (c.get_offsets() for c in axes.collections if len(c.get_offsets()) == 4)
        np.testing.assert_allclose(second, [[1, 0.6], [2, 0.8], [3, 0.9], [4, 0.8]])

    def test_line_goes_through_the_mean_and_words_state_r(self):
        axes = per_class_probes.class_scatter_figure(per_class_probes.correlations({"two": self.tables()}))
        (line,) = (line for line in axes.lines if len(line.get_xdata()) > 1)
        assert np.interp(2.0, *line.get_data()) == pytest.approx(0.7625)
        r = np.corrcoef([0.5, 1.5, 2.5, 3.5], [0.6, 0.75, 0.9, 0.8])[0, 1]
        assert f"probe, all classes, 4 classes: {r:.2f}." in figures.alt_text(axes)
        assert {text.get_text() for text in axes.texts} == set("abcd")

    def test_names_of_close_points_do_not_overlap(self):
        tables = [table.assign(msdr_train=[1, 1.01, 1.02, 3], probe=0.9) for table in self.tables()]
        for table in tables:
            table["class"] = [f"a long name {letter}" for letter in "abcd"]
            table.loc[3, "probe"] = 0.6
        axes = per_class_probes.class_scatter_figure(per_class_probes.correlations({"two": tables}))
        axes.figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) == 4
        assert [box.count_overlaps(boxes) for box in boxes] == [1] * 4  # each with itself
        assert all(axes.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))

    def test_a_label_of_the_vertical_axis_for_each_row(self):
        compared = per_class_probes.correlations({str(n): self.tables() for n in range(4)})
        panels = per_class_probes.class_scatter_figure(compared).figure.axes
        assert [bool(panel.get_ylabel()) for panel in panels[:4]] == [True, False, False, True]

    def test_more_than_fit_side_by_side_go_on_below(self):
        names = [f"set {n}" for n in range(per_class_probes.SCATTERS + 1)]
        figure = per_class_probes.class_scatter_figure(
            per_class_probes.correlations({name: self.tables() for name in names})
        ).figure
        drawn = [panel for panel in figure.axes if panel.axison]
        assert [panel.get_title().splitlines()[0] for panel in drawn] == names
        assert drawn[0].get_position().y0 > drawn[-1].get_position().y0

    def test_of_more_than_can_be_read_the_outermost_are_named(self, monkeypatch):
        monkeypatch.setattr(per_class_probes, "MOST_NAMES", 3)
        monkeypatch.setattr(per_class_probes, "OUTERMOST", 1)
        axes = per_class_probes.class_scatter_figure(
            per_class_probes.correlations({"two": self.tables()})
        )  # a and d lie outermost in x, a and c in y
        assert {text.get_text() for text in axes.texts} == set("acd")


class TestNeuralCollapse:
    def drawn(self, axes, title: str, name: str) -> list[list[float]]:
        (panel,) = (panel for panel in axes.figure.axes if panel.get_title() == title)
        return [line.get_ydata().tolist() for line in panel.lines if line.get_label() == name]

    def test_lines_are_the_measures(self, tiny_run):
        rows = evaluation.measures(tiny_run)
        axes = neural_collapse.collapse_figure([rows], None)
        for split in ("train", "test"):
            of_split = [row for row in rows if row["split"] == split]
            for title, key in (("NC1: variability", "nc1"), ("NC2: equinorm", "nc2_equinorm_means"),
                               ("NC4: nearest class mean", "nc4"), ("accuracy", "accuracy")):  # fmt: skip
                assert self.drawn(axes, title, f"{split} data") == [[row[key] for row in of_split]]
        weights = [row["nc2_maxangle_weights"] for row in rows[::2]]
        assert self.drawn(axes, "NC2: maximal angle", "classifier alone") == [weights]
        assert self.drawn(axes, "NC1: variability", "classifier alone") == []

    def test_one_line_a_run(self, tiny_run):
        axes = neural_collapse.collapse_figure([evaluation.measures(tiny_run)] * 2, None)
        assert len(self.drawn(axes, "NC3: self-duality", "train data")) == 2

    def test_words_say_whether_the_terminal_phase_is_reached(self, tiny_run):
        rows = evaluation.measures(tiny_run)
        text = figures.alt_text(neural_collapse.collapse_figure([rows], None))
        assert "terminal phase is not reached" in text
        axes = neural_collapse.collapse_figure([rows], 2, "A title")
        assert "terminal phase begins at epoch 2" in figures.alt_text(axes)
        assert axes.patches[0].get_x() == 2
        assert axes.figure.get_suptitle() == "A title"


class TestCompared:
    def test_lines_are_means_and_bands_their_intervals(self, tiny_run):
        ours = collapse_as_loss.over_training({"both": [tiny_run]})
        measured = [row["nc4"] for row in evaluation.measures(tiny_run) if row["split"] == "train"]
        assert ours["nc4"].tolist() == measured
        values = (0.1, 0.15, 0.0)  # their interval reaches below 0
        low, high = ttest_1samp(values, 0).confidence_interval(0.95)
        seeds = [ours.assign(nc1=1 + value, nc3=value, nc4=value, seed=s) for s, value in enumerate(values)]
        axes = collapse_as_loss.compared_figure(pd.concat(seeds))
        panels = {panel.get_title()[:3]: panel for panel in axes.figure.axes}
        mean = 1 / 12
        for name, line, ends in [
            ("NC1", 1 + mean, (1 + low, 1 + high)),
            ("NC3", mean, (mean / 10, high)),  # logarithmic
            ("NC4", mean, (0, high)),
        ]:
            assert panels[name].lines[0].get_ydata() == pytest.approx(line)
            band = panels[name].collections[0].get_paths()[0].vertices[:, 1]
            assert (band.min(), band.max()) == pytest.approx(ends)

    def test_one_line_a_name_and_words(self, tiny_run):
        table = collapse_as_loss.over_training({"a": [tiny_run], "b": [tiny_run]})
        axes = collapse_as_loss.compared_figure(table, title="two")
        (legend,) = axes.figure.legends
        assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
        assert f"a: NC1 {evaluation.coarse_nc1(tiny_run):.3g}" in figures.alt_text(axes)


def test_detection_draws_means_by_outliers():
    rows = [
        {"outliers": kind, "score": score, "labels": "none", "trained on": "coarse", "auroc": auroc + 0.1 * s}
        for kind, score, auroc in [("noise", "knn", 0.5), ("noise", "norm", 0.7), ("svhn", "knn", 0.6)]
        for s in range(2)
    ]
    axes = ood_detection.detection_figure(pd.DataFrame(rows))
    noise, svhn = axes.figure.axes
    assert (noise.get_title(), svhn.get_title()) == ("noise", "svhn")
    assert sorted(noise.lines[0].get_xdata()) == pytest.approx([0.55, 0.75])
    assert [text.get_text() for text in noise.get_yticklabels()] == ["norm", "k-NN"]  # in the order of SCORES
    (bar,) = svhn.collections[0].get_segments()
    assert bar[:, 0] == pytest.approx([0.6, 0.7])  # of two seeds
    assert "noise: norm (0.750)" in figures.alt_text(axes)


def test_nc1_errors_are_drawn_method_by_method():
    table = pd.DataFrame(
        {"distance": [1, 0.1] * 2, "error": [1e-8, 1e-6, 1e-4, 1e-2],
         "method": np.repeat(["fp32 features, fp32 pinv", "bf16 features, fp64 Gram matrix"], 2)}
    )  # fmt: skip
    axes = numerical_honesty.nc1_errors_figure(table, limit=0.02)
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["bf16 features, fp64 Gram matrix"].get_ydata().tolist() == [1e-4, 1e-2]
    assert lines["fp32 pinv drops siblings"].get_xdata() == [0.02, 0.02]
    assert "distance 0.1: fp32 features, fp32 pinv: 1e-06; bf16" in figures.alt_text(axes)


def test_rounding_draws_means_over_seeds():
    seeds = [
        pd.DataFrame({"factor": [1, 10], "format": "bf16", "nc1": [0.1, 0.001], "msdr": [2, m], "found": 1})
        for m in (1.0, 1.5)
    ]
    axes = numerical_honesty.rounding_figure({"digits": seeds})
    assert axes.lines[0].get_ydata().tolist() == [2, 1.25]
    assert axes.lines[0].get_xdata().tolist() == [0.1, 0.001]
    text = figures.alt_text(axes)
    assert "deepest collapse of digits: bf16: MSDR 1.25, reconstruction accuracy 1.00" in text


def test_embeddings_show_every_point_in_the_panel_of_its_label():
    points, fine = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % 4
    axes = figures.embeddings_figure(points, fine, GROUPING)
    panels = axes.figure.axes
    assert len(panels) == 2
    for coarse, panel in enumerate(panels):
        for member, drawn in zip(GROUPING.members(coarse), panel.collections, strict=True):
            assert np.array_equal(drawn.get_offsets(), points[fine == member])
            assert drawn.get_label() == GROUPING.fine_names[member]
    assert "a + c; b + d" in figures.alt_text(axes)
    assert [panel.get_title() for panel in panels] == ["super-class 0", "super-class 1"]


def test_panels_bear_the_names_of_labels_that_have_some():
    grouping = Grouping(
        GROUPING.fine_to_coarse, GROUPING.fine_names, ("large_man-made_outdoor_things", "fish")
    )
    axes = figures.embeddings_figure(np.zeros((4, 2)), np.arange(4), grouping)
    titles = [panel.get_title() for panel in axes.figure.axes]
    assert titles == ["large man-made\noutdoor things", "fish"]


def test_tsne_grid_states_the_agreement_of_each_embedding():
    f = FeatureSet(torch.zeros(60, 3), torch.arange(60) % 2 * 2, torch.zeros(60).long(), None, None)
    apart = 20 * np.eye(3)[f.fine][:, :2] + np.random.default_rng(0).normal(size=(60, 2))
    grid = {("pca", 5): apart, ("pca", 30): apart * 0 + np.arange(60)[:, None], ("random", 5): apart}
    grid["random", 30] = apart
    axes = tsne.tsne_grid_figure(grid, tsne.grid_agreement(grid, f), f.fine, GROUPING.fine_names)
    panels = axes.figure.axes
    assert panels[0].get_title() == "perplexity 5, agreement 1.000"
    assert [panel.get_ylabel() for panel in panels] == ["pca", "", "random", ""]
    assert np.array_equal(panels[3].collections[1].get_offsets(), apart[f.fine == 2])
    assert "4 t-SNE embeddings of a and c" in figures.alt_text(axes)


class TestNeighbours:
    def results(self, purity: float) -> dict:
        spaces = {"features": purity, "untrained": 0.6, "pixels": 0.7}
        return {"k": 10, "train": {"all": spaces, "chance": 0.4}, "test": {"all": spaces, "chance": 0.3}}

    def test_points_are_means_and_bars_ranges(self):
        released = {"k": 10, "test": self.results(0.9)["test"]}
        axes = tsne.neighbours_figure({"digits": [self.results(0.8), self.results(0.9)], "cifar": [released]})
        names = [tick.get_text() for tick in axes.get_yticklabels()]
        assert names == ["digits", "cifar"]
        drawn = {round(float(line.get_xdata()[0]), 6) for line in axes.lines if len(line.get_xdata()) == 1}
        assert drawn == {0.85, 0.6, 0.7, 0.9}
        (bar,) = axes.collections[0].get_segments()
        assert bar[:, 0] == pytest.approx([0.8, 0.9])  # of two seeds, their range
        assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"] == [0.3, 0.3]
        assert "cifar, features: 0.900" in figures.alt_text(axes)


class TestDistances:
    matrix = np.array([[1.0, 9, 3, 8], [9, 2, 9, 4], [3, 9, 1, 9], [8, 9, 9, 2]])
    matrix = (matrix + matrix.T) / 2
    ordered = matrix[np.ix_([0, 2, 1, 3], [0, 2, 1, 3])]

    def drawn(self, panel) -> np.ndarray:
        return np.asarray(panel.collections[0].get_array()).reshape(4, 4)

    def test_raw_is_drawn_in_two_scales(self):
        axes = distance_heatmaps.raw_distances_figure(self.matrix, GROUPING)
        panels = [panel for panel in axes.figure.axes if panel.get_title()]
        assert len(panels) == 2
        assert all(np.array_equal(self.drawn(panel), self.ordered) for panel in panels)
        assert [panel.collections[0].norm.vmax for panel in panels] == [9, 6.5]
        assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "c", "b", "d"]
        assert "distances: inside one class 1.5, between classes of one super-class 4.75, of two 8.75" in (
            figures.alt_text(axes)
        )

    def test_relative_share_one_scale_and_name_siblings(self):
        rows = {"train": {"first": self.matrix, "last": self.matrix + np.diag([1, 1, 1, 1])}}
        axes = distance_heatmaps.relative_distances_figure(rows, GROUPING, title="A title")
        first, last = (panel for panel in axes.figure.axes if panel.get_title())
        width = np.diag(self.ordered)
        expected = 2 * self.ordered / (width[:, None] + width[None, :])
        assert np.allclose(self.drawn(first), expected)
        assert first.collections[0].norm is last.collections[0].norm
        assert (first.collections[0].norm.vmin, first.collections[0].norm.vmax) == (1, 3.25)
        assert sorted(text.get_text() for text in first.texts) == ["3.00", "3.25"]
        assert axes.figure.get_suptitle() == "A title"
        assert "train, first: inside super-classes 3.12" in figures.alt_text(axes)

    def test_many_classes_go_without_names(self):
        many = Grouping(torch.arange(30) % 3, tuple(map(str, range(30))), ("x", "y", "z"))
        axes = distance_heatmaps.relative_distances_figure({"train": {"end": 1 + np.eye(30)}}, many)
        assert [tick.get_text() for tick in axes.get_yticklabels()] == []
        assert not axes.texts


RESULTS = {
    "digits": [one_result(0.8, 0.9), one_result(0.7, 1.0)],
    "fashion": [one_result(0.6, 0.7, 0.4)],
}


class TestReconstructionAccuracy:
    def test_points_are_means_over_seeds(self):
        axes = label_reconstruction.reconstruction_figure(RESULTS)
        drawn = {round(float(x), 6) for line in axes.lines for x in line.get_xdata() if np.isfinite(x)}
        assert {0.75, 0.95, 0.6, 0.7} <= drawn

    def test_bars_stay_within_the_possible(self):
        """Of two seeds their range; of three the interval, up to 1."""
        three = {"three": [one_result(kmeans, 0.9) for kmeans in (0.9, 0.95, 1.0)]}
        axes = label_reconstruction.reconstruction_figure({"digits": RESULTS["digits"]} | three)
        ends = [bar.get_segments()[0][:, 0] for bar in axes.collections]
        mean, half = statistics.interval([0.9, 0.95, 1.0])
        for found, expected in zip(ends, [(0.7, 0.8), (0.9, 1.0), (mean - half, 1), (0.9, 0.9)], strict=True):
            assert found == pytest.approx(expected)

    def test_chance_is_drawn_beside_each(self):
        axes = label_reconstruction.reconstruction_figure(RESULTS)
        dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
        assert [list(line.get_xdata()) for line in dotted] == [[0.5, 0.5], [0.4, 0.4]]

    def test_low_shares_are_inside_the_axes(self):
        low = {"kmeans": {"train": 0.1}}
        axes = label_reconstruction.reconstruction_figure(
            {"many": [{"reconstruction": low, "pixels": {"kmeans": 0.08}, "chance": 0.05}]}
        )
        assert axes.get_xlim()[0] < 0.05

    def test_words_state_the_numbers(self):
        text = figures.alt_text(label_reconstruction.reconstruction_figure(RESULTS))
        assert "digits: k-means 0.750" in text
        assert "fashion: t-SNE + k-means 0.700" in text


class TestConfusion:
    matrix = np.array([[8, 0, 2, 0], [0, 5, 0, 5], [4, 0, 16, 0], [0, 1, 0, 3]])

    def test_rows_are_shares_ordered_by_super_class(self):
        axes = label_reconstruction.confusion_figure(self.matrix, GROUPING)
        drawn = np.asarray(axes.collections[0].get_array()).reshape(4, 4)
        expected = [[0.8, 0.2, 0, 0], [0.2, 0.8, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0.25, 0.75]]
        assert np.allclose(drawn, expected)
        assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "c", "b", "d"]

    def test_words_name_the_worst(self):
        assert "lowest accuracy is that of b, 0.50" in figures.alt_text(
            label_reconstruction.confusion_figure(self.matrix, GROUPING)
        )


class TestShow:
    @pytest.fixture
    def shown(self, monkeypatch) -> list[str]:
        pages = []
        monkeypatch.setattr("IPython.display.display", lambda page: pages.append(page.data))
        return pages

    def test_a_figure_with_words_and_a_caption(self, shown):
        axes = label_reconstruction.confusion_figure(TestConfusion.matrix, GROUPING)
        figures.show(axes, "Counts of one seed")
        (page,) = shown
        figure = ElementTree.fromstring(page)
        drawing, caption = figure
        assert drawing.get("role") == "img" and drawing.get("aria-label") == figures.alt_text(axes)
        assert caption.text == "Counts of one seed"
        assert not plt.fignum_exists(axes.figure.number)

    def test_text_is_escaped(self, shown):
        names = ('"><script>', "b", "c", "d")
        axes = label_reconstruction.confusion_figure(
            np.eye(4)[::-1], Grouping(GROUPING.fine_to_coarse, names, GROUPING.coarse_names)
        )
        figures.show(axes, "p < 0.05 & <b>more</b>")
        assert "<script>" not in shown[0]
        assert "is that of &quot;&gt;&lt;script&gt;" in shown[0]
        assert "p &lt; 0.05 &amp; &lt;b&gt;more&lt;/b&gt;" in shown[0]


class TestDrawing:
    def drawn(self, draw, size=(3, 2)) -> ElementTree.Element:
        with figures.theme():
            figure, panel = plt.subplots(figsize=size)
            draw(panel)
        return ElementTree.fromstring(figures.svg(figure, "words"))

    @staticmethod
    def elements(drawing: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
        return drawing.findall(f".//{{http://www.w3.org/2000/svg}}{tag}")

    def test_writing_takes_the_pages_colour_and_data_keeps_its_own(self):
        drawing = self.drawn(lambda panel: (panel.plot([0, 1], color="#0173b2"), panel.set_title("A title")))
        (title,) = (text for text in self.elements(drawing, "text") if text.text == "A title")
        assert "fill: currentColor" in title.get("style")
        assert any("stroke: #0173b2" in path.get("style", "") for path in self.elements(drawing, "path"))

    def test_an_empty_marker_shows_the_page_and_writing_on_a_dark_cell_stays_white(self):
        drawing = self.drawn(
            lambda panel: (panel.plot([0, 1], "o", mfc="w"), panel.text(0.5, 0.5, "cell", color="w"))
        )
        (cell,) = (text for text in self.elements(drawing, "text") if text.text == "cell")
        assert "fill: #ffffff" in cell.get("style")
        assert any(figures.PAPER in use.get("style", "") for use in self.elements(drawing, "use"))

    def test_a_wide_figure_is_made_to_fit(self):
        drawing = self.drawn(lambda panel: panel.plot([0, 1]), size=(14, 3))
        assert float(drawing.get("width").removesuffix("pt")) <= 72 * figures.WIDTH

    def test_two_drawings_on_a_page_share_no_name(self):
        texts = [
            ElementTree.tostring(self.drawn(lambda panel, n=n: panel.plot([0, n])), "unicode") for n in (1, 2)
        ]
        first, second = (set(re.findall(r'\bid="([^"]+)"', text)) for text in texts)
        assert first and second and not first & second
        assert set(re.findall(r"url\(#([^)]+)\)", texts[0])) <= first

    def test_many_points_become_pixels(self):
        def images(count):
            drawing = self.drawn(lambda panel: panel.scatter(range(count), range(count)))
            return len(self.elements(drawing, "image"))

        assert [images(figures.MOST_POINTS), images(figures.MOST_POINTS + 1)] == [0, 1]

    def test_rounding_moves_no_line_and_changes_no_writing(self):
        drawing = self.drawn(lambda panel: (panel.plot([0, 1]), panel.set_title("0.123456")))
        assert "0.123456" in [text.text for text in self.elements(drawing, "text")]
        assert not any(re.search(r"\.\d{3}", path.get("d")) for path in self.elements(drawing, "path"))


def ends_table(values: dict[tuple[str, int], float], **columns) -> pd.DataFrame:
    """As of ``nclib.chapters.when_structure_appears.ends``, all measures of a run equal to one value."""
    rows = [
        {"case": case, "seed": seed, **dict.fromkeys(when_structure_appears.ENDS_PANELS, value), **columns}
        for (case, seed), value in values.items()
    ]
    return pd.DataFrame(rows)


class TestConditions:
    TABLE = ends_table({("a", 0): 0.1, ("a", 1): 0.3, ("b", 0): 0.5, ("b", 1): 0.7})

    def test_large_points_are_means(self):
        axes = when_structure_appears.conditions_figure(self.TABLE, "A title")
        for panel in axes.figure.axes:
            (container,) = panel.containers
            assert container.lines[0].get_ydata() == pytest.approx([0.2, 0.6])
            assert container.lines[0].get_linestyle() == "None"
        assert "a: accuracy on super-classes 0.2, reconstruction accuracy 0.2" in figures.alt_text(axes)

    def test_bars_stay_within_the_possible(self):
        values = (0.9, 0.95, 1.0)
        table = ends_table({("a", seed): v for seed, v in enumerate(values)})
        axes = when_structure_appears.conditions_figure(table, "A title")
        mean, half = statistics.interval(values)
        for panel in axes.figure.axes:
            (bar,) = panel.containers[0].lines[2][0].get_segments()
            most = mean + half if panel.get_yscale() == "log" else 1  # NC1 has no maximum
            assert bar[:, 1] == pytest.approx([mean - half, most])

    def test_cases_with_an_order_are_joined(self):
        axes = when_structure_appears.conditions_figure(self.TABLE, "A title", xlabel="width")
        assert axes.containers[0].lines[0].get_linestyle() == "-"
        assert axes.get_xlabel() == "width"

    def test_one_colour_each(self):
        both = pd.concat([self.TABLE.assign(data="x"), self.TABLE.assign(data="y", nc1=9.0)])
        axes = when_structure_appears.conditions_figure(both, "A title", hue="data")
        nc1 = axes.figure.axes[-1]
        assert [c.lines[0].get_ydata().tolist() for c in nc1.containers][1] == [9, 9]
        (legend,) = axes.figure.legends
        assert [text.get_text() for text in legend.get_texts()] == ["x", "y"]

    def test_panels_are_those_that_are_known(self):
        axes = when_structure_appears.conditions_figure(self.TABLE.drop(columns="accuracy"), "A title")
        assert [p.get_title() for p in axes.figure.axes] == list(when_structure_appears.ENDS_PANELS.values())[
            1:
        ]


class TestGrid:
    def drawn(self, panel) -> list[str]:
        return [text.get_text() for text in panel.texts]

    def test_every_setting_stands_in_its_cell(self):
        table = pd.concat(
            [
                ends_table(
                    {("", seed): 0.1 * (1 + row) + 0.01 * column for seed in (0, 1)}, lr=lr, weight_decay=wd
                )
                for row, lr in enumerate((0.1, 0.01))
                for column, wd in enumerate((5e-3, 5e-5))
                if (row, column) != (1, 0)
            ]
        )
        axes = when_structure_appears.grid_figure({"some": table}, (0.1, 0.01), (5e-3, 5e-5))
        texts = self.drawn(axes.figure.axes[1])
        assert texts == ["0.100", "0.110", "not run\nyet", "0.210"]
        assert [t.get_text() for t in axes.get_yticklabels()] == ["0.1", "0.01"]
        text = figures.alt_text(axes)
        assert "some, 3 settings: reconstruction accuracy from 0.100 at lr 0.1, decay 0.005" in text

    @pytest.mark.parametrize(
        ("values", "text"),
        [
            ((0.2, 0.3), "0.250\n(0.200 to\n0.300)"),
            ((0.2, 0.3, 0.4), "0.300\n± 0.25"),
            ((0.9, 0.95, 1.0), "0.950\n[0.826,\n1.000]"),
        ],
    )
    def test_two_runs_have_a_range_and_three_an_interval(self, values, text):
        several = ends_table({("", seed): v for seed, v in enumerate(values)}, lr=0.1, weight_decay=5e-4)
        axes = when_structure_appears.grid_figure({"some": several}, (0.1,), (5e-4,))
        assert self.drawn(axes.figure.axes[0]) == [text]

    def test_one_run_has_no_interval(self):
        one = ends_table({("", 0): 0.25}, lr=0.1, weight_decay=5e-4)
        axes = when_structure_appears.grid_figure({"one": one}, (0.1,), (5e-4,))
        assert [self.drawn(panel) for panel in axes.figure.axes[:2]] == [["0.250"], ["0.250"]]


class TestNumberOfClusters:
    def test_bands_end_at_one(self):
        found = [
            {"seed": s, "k": 1, "accuracy": v, "purity": v, "ari": v} for s, v in enumerate((0.9, 0.95, 1))
        ]
        chosen = pd.DataFrame({"case": "a", "seed": 0, "label": 0, "method": "m", "true": [1], "chosen": [1]})
        axes = number_of_classes.number_of_clusters_figure(pd.DataFrame(found), chosen, "A title")
        bands = [band.get_paths()[0].vertices[:, 1] for band in axes.collections]
        low = ttest_1samp([0.9, 0.95, 1], 0).confidence_interval(0.95).low
        assert [(band.min(), band.max()) for band in bands] == [pytest.approx((low, 1))] * 3

    def test_counts_labels(self):
        quality = pd.DataFrame(
            [
                {"seed": s, "k": k, "accuracy": 1 / k, "purity": 1.0, "ari": 0.1 * k}
                for s in (0, 1)
                for k in (1, 2, 3)
            ]
        )
        chosen = pd.DataFrame(
            [{"method": "m", "true": t, "chosen": c} for t, c in ((1, 1), (1, 2), (1, 2), (3, 3))]
        )
        axes = number_of_classes.number_of_clusters_figure(quality, chosen, "A title")
        lines = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
        assert lines["accuracy"] == pytest.approx([1, 1 / 2, 1 / 3])
        counts = [text.get_text() for text in axes.figure.axes[1].texts]
        assert counts == ["1", "2", "0", "0", "0", "1"]
        assert axes.figure.axes[1].get_title() == "m\ncorrect: 1 of 3 (one), 1 of 1 (several)"
