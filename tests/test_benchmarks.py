"""The baselines of benchmarks/ are fair: they learn what nclib's loop learns, from the same start."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, ttest_ind

from benchmarks import hidden_classes
from benchmarks import subpopulations as level
from benchmarks.copied_loop import CopiedLoop
from benchmarks.profiled import PYTHON, shares
from benchmarks.same_learning import fast, plain
from nclib.config import recipe_config
from nclib.runs.get import get_runs
from nclib.training.loop import Training, training_task

pytestmark = pytest.mark.numeric


class TestCopiedLoop:
    def test_sees_what_nclib_sees(self):
        config = recipe_config("digits", epochs=1)
        splits, grouping = training_task(config)
        loop = CopiedLoop(config, splits, grouping, torch.device("cpu"), workers=0)
        ours = Training(config, splits, grouping, torch.device("cpu"), None).model.eval()
        with torch.no_grad():
            torch.testing.assert_close(loop.features(splits.test), ours.features(splits.test.images))

    def test_crops_like_nclib(self):
        config = recipe_config("digits", augment="crop-flip")
        splits, grouping = training_task(config)
        images = CopiedLoop(config, splits, grouping, torch.device("cpu"), workers=0).images
        assert images[0][0].shape == (1, 8, 8)
        assert any(not torch.equal(images[0][0], images[0][0]) for _ in range(20))


@pytest.mark.slow
def test_both_loops_learn_the_same():
    """Five seeds each way on digits; means differ by less than their own scatter allows.

    Another processor draws other trained networks, and so other means: a measure of two equal loops
    fails once in ten thousand.
    """
    fields = {"epochs": 6, "width": 64}
    seeds = range(5)
    ours = [fast(run) for run in get_runs("digits", seeds, **fields)]
    plainly = [plain(recipe_config("digits", seed=seed, **fields)) for seed in seeds]
    for measure in ours[0]:
        both = [[row[measure] for row in rows] for rows in (ours, plainly)]
        if len({*both[0], *both[1]}) > 1:  # else all are equal: every accuracy is one
            difference = ttest_ind(*both, equal_var=False).confidence_interval(0.9999)
            assert difference.low < 0 < difference.high, (measure, both)


def test_shares_of_a_profile_add_up_to_its_time():
    """Of one step as torch.profiler names its operations; the profiler itself runs in ``make bench``."""
    own = {
        "aten::mkldnn_convolution": 3.0,
        "aten::native_batch_norm": 1.0,
        "aten::convolution_backward": 2.0,
        "aten::randint": 0.5,
        "Optimizer.step#SGD.step": 0.25,
        "cudaGraphLaunch": 0.125,
    }
    rows = shares(own, wall=8.0)
    assert rows == sorted(rows, key=lambda row: -row["seconds"])
    assert {row["kind"]: row["seconds"] for row in rows} == {
        "convolution": 5.0,
        "batch normalisation": 1.0,
        "draw and gather a batch": 0.5,
        "optimiser": 0.25,
        PYTHON: 1.25,  # what was named and fits no kind, and what no operation claims
    }
    assert sum(row["share"] for row in rows) == 1


class TestLevelOfSubpopulations:
    @pytest.mark.parametrize(("alarms", "draws"), [(0, 80), (3, 80), (80, 80)])
    def test_intervals_are_exact(self, alarms, draws):
        expected = binomtest(alarms, draws).proportion_ci(0.95, "exact")
        assert level.interval(alarms, draws) == pytest.approx((expected.low, expected.high))

    def test_a_run_goes_on_with_the_draws_that_are_missing(self, monkeypatch):
        made = []
        monkeypatch.setattr(level, "alarm", lambda setting, number: made.append(number) or number % 3 == 0)
        setting = level.settings()[0]
        row = level.continued(setting, None, 4)
        assert (row["alarms"], row["draws"]) == (2, 4)
        row = level.continued(setting, row, 7)
        assert (row["alarms"], row["draws"], made) == (3, 7, [*range(7)])

    def test_draws_depend_on_their_setting_only(self):
        settings = level.settings()
        assert len({setting[:-1] for setting in settings}) == len(settings)
        setting = settings[0]._replace(samples=50, dimension=2)
        assert level.alarm(setting, 3) == level.alarm(setting, 3)

    def test_a_line_is_not_tested_on_the_samples_that_chose_it(self):
        x = np.random.default_rng(0).normal(size=(200, 512))
        assert level.along_k_means(x, same=True)
        assert not level.along_k_means(x, same=False)

    def test_long_arcs_have_two_modes_along_a_line(self):
        assert level.deepest(45, lines=12) == 0
        assert 0 < level.deepest(90, lines=12) < level.deepest(170, lines=12)


def far_apart():
    """Two classes of two clusters each; a classifier fails on one cluster of either."""
    hidden, y = np.tile(np.repeat([0, 1], 60), 2), np.repeat([0, 1], 120)
    h = np.random.default_rng(0).normal(size=(240, 12)) + 30 * np.eye(12)[2 * y + hidden]
    right = np.where(hidden == 0, 0.99, 0.01)[:, None]  # probability of the right label
    return hidden_classes.Classes(h, y, hidden, y, np.where(np.eye(2)[y] > 0, right, 1 - right))


@pytest.mark.parametrize("method", [m for m in hidden_classes.METHODS if m != hidden_classes.CLEANLAB])
def test_every_method_finds_two_clusters_that_lie_far_apart(method):
    classes = far_apart()
    found = hidden_classes.METHODS[method](classes)
    assert (hidden_classes.counts(classes, found) >= 2).all()
    for c in (0, 1):  # no part holds images of both
        parts = [set(found[(classes.y == c) & (classes.hidden == k)]) - {-1} for k in (0, 1)]
        assert not parts[0] & parts[1]


def test_group_of_cleanlab_lies_where_the_classifier_fails():
    pytest.importorskip("cleanlab")
    classes = far_apart()
    found = hidden_classes.underperforming(classes)
    assert found[classes.hidden == 1].mean() > 0.9 and not found[classes.hidden == 0].any()
    equal = classes._replace(probabilities=np.where(np.eye(2)[classes.y] > 0, 0.9, 0.1))
    assert not hidden_classes.underperforming(equal).any()


def test_probabilities_of_planted_classes_are_of_samples_that_were_not_fitted():
    rng = np.random.default_rng(0)
    noise = hidden_classes.with_classifier(rng.normal(size=(60, 100)), np.arange(60) % 2, np.zeros(60, int))
    # a logistic regression fits 60 samples in 100 dimensions exactly; of others half are right by chance:
    # 15 to 45 of 60 but for one in 10,000
    assert 15 <= noise.confused.sum() <= 45


def test_what_is_hidden_is_counted_by_class():
    classes = far_apart()
    half = np.where(classes.y == 0, classes.hidden, 0)  # the second class undivided
    found = hidden_classes.against_truth(classes, half)
    assert found == {"classes": 2, "found": 1, "right": 1, "off_by_one": 1, "rand": 0.5}
    assert hidden_classes.against_truth(None, None)["classes"] == 0
