"""Many seeds as one program against each seed alone."""

from __future__ import annotations

import pytest
import torch

import nclib
from nclib.config import recipe_config
from nclib.errors import TrainingError
from nclib.runs import get
from nclib.storage import store
from nclib.training import loop as train_module
from nclib.training.loop import train
from nclib.training.stacked_seeds import train_together


def configs(seeds=3, **overrides):
    return [recipe_config("digits", seed=s, **{"width": 32, "epochs": 2} | overrides) for s in range(seeds)]


@pytest.fixture
def float64(monkeypatch):
    """Networks and losses compute in float64, so that no order of a sum moves a result by much."""
    single = train_module.initial_model
    monkeypatch.setattr(train_module, "initial_model", lambda *task: single(*task).double())
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


@pytest.mark.numeric
class TestTrainTogether:
    @pytest.mark.parametrize("overrides", [{}, {"loss": "nc"}, {"loss": "mse", "l2_features": True}])
    def test_each_seed_is_its_single_run(self, overrides, float64):
        for config, together in zip(configs(**overrides), train_together(configs(**overrides)), strict=True):
            alone = train(config)
            assert together.features["test"].h.shape == alone.features["test"].h.shape
            for name, tensor in alone.model.state_dict().items():
                size = float(tensor.abs().max())  # of which the largest gap on any kernel is 7e-15
                mine = together.model.state_dict()[name]
                torch.testing.assert_close(mine, tensor, rtol=0, atol=1e-9 * size, msg=name)
            for mine, theirs in zip(together.history, alone.history, strict=True):
                assert mine == pytest.approx(theirs, rel=1e-6)  # losses are kept in float32

    def test_seeds_differ(self):
        first, second, _ = train_together(configs())
        assert not torch.allclose(first.features["test"].h, second.features["test"].h)

    def test_refuses_other_differences(self):
        with pytest.raises(ValueError, match="nothing but the seed"):
            train_together([*configs(1), *configs(1, lr=0.2)])

    def test_refuses_convolutions(self):
        with pytest.raises(ValueError, match="'mlp'"):
            train_together(configs(2, arch="resnet18", width=2, precision="fp32"))

    def test_divergence_names_the_step(self):
        with pytest.raises(TrainingError, match=r"the loss is .* at epoch 1, step \d+"):
            train_together(configs(2, lr=100.0, loss="mse", momentum=0.9999))


class TestGetRuns:
    def test_trains_what_is_missing_once(self, home, monkeypatch):
        monkeypatch.setenv("NCLIB_PROCESSES", "2")
        first = nclib.get_runs("digits", [0, 2], width=32, epochs=2)
        assert [run.config.seed for run in first] == [0, 2]
        asked = []
        monkeypatch.setattr(get, "train_all", asked.extend)
        again = nclib.get_runs("digits", [2, 0], width=32, epochs=2)
        assert [run.key for run in again] == [run.key for run in reversed(first)] and not asked
        assert len(store.stored_keys()) == 2

    def test_a_share_is_one_program(self, home):
        get.train_share(configs(loss="nc"))
        found = [get.find_run(config) for config in configs(loss="nc")]
        assert {run.provenance["together"] for run in found} == {3}

    def test_a_share_for_which_that_does_not_pay(self, home):
        alone = configs(1) + configs(1, loss="nc")
        get.train_share(alone)
        assert [get.find_run(config).provenance["together"] for config in alone] == [1, 1]

    def test_cases_share_what_they_have_in_common(self, home):
        cases = {"cross entropy": {}, "same": {"loss": "cross-entropy"}, "NC loss": {"loss": "nc"}}
        found = nclib.get_cases(cases, "digits", [0, 1], width=16, epochs=1)
        assert {name: [(r.config.loss, r.config.seed) for r in of] for name, of in found.items()} == {
            "cross entropy": [("cross-entropy", 0), ("cross-entropy", 1)],
            "same": [("cross-entropy", 0), ("cross-entropy", 1)],
            "NC loss": [("nc", 0), ("nc", 1)],
        }
        assert len(store.stored_keys()) == 4

    def test_a_failing_process_is_an_error(self, home):
        share = [
            {"dataset": "digits", "arch": "mlp", "lr": 100.0, "loss": "mse", "momentum": 0.9999, "seed": 1}
        ]
        with pytest.raises(TrainingError, match=r"a training process failed: .*the loss is"):
            get.run_processes([share])
