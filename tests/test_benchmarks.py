"""The baselines of benchmarks/ are fair: they learn what nclib's loop learns, from the same start."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import ttest_ind
from tqdm import tqdm

from benchmarks import profiled
from benchmarks.copied_loop import CopiedLoop
from benchmarks.same_learning import fast, plain
from nclib.config import recipe_config
from nclib.runs import get_runs
from nclib.train import Training, training_task


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


def test_both_loops_learn_the_same():
    """Five seeds each way on digits; means differ by less than their own scatter allows."""
    fields = {"epochs": 6, "width": 64}
    seeds = range(5)
    ours = [fast(run) for run in get_runs("digits", seeds, **fields)]
    plainly = [plain(recipe_config("digits", seed=seed, **fields)) for seed in seeds]
    for measure in ours[0]:
        both = [[row[measure] for row in rows] for rows in (ours, plainly)]
        if len({*both[0], *both[1]}) > 1:  # else all are equal: every accuracy is one
            assert ttest_ind(*both, equal_var=False).pvalue > 0.01, (measure, both)


class TestProfile:
    def test_shares_of_an_epoch_add_up_to_its_time(self):
        config = recipe_config("digits", arch="resnet18", width=4, batch_size=128)
        training = Training(config, *training_task(config), torch.device("cpu"), None)
        rows = profiled.time_by_kind(lambda: training.train_epoch(1, tqdm(disable=True)), cuda=False)
        assert sum(row["share"] for row in rows) == pytest.approx(1)
        assert rows == sorted(rows, key=lambda row: -row["seconds"])
        assert next(row for row in rows if row["kind"] == "convolution")["share"] > 0.1
