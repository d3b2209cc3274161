"""Two processes that train one network get what one process gets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from nclib.config import recipe_config
from nclib.errors import TrainingError
from nclib.runs.get import train_run
from nclib.runs.run import Run
from nclib.training import distributed
from nclib.training.batches import Batches
from nclib.training.loop import training_task

pytestmark = pytest.mark.numeric

STEPS = Path(__file__).with_name("parallel_steps.py")


def torchrun(processes, *command, **environment):
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", *map(str, command)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"} | environment,
        capture_output=True,
        text=True,
    )


CASES = {"cross-entropy-mlp": 1e-12, "mse-resnet18": 1e-12, "nc-resnet18": 1e-10}  # by tolerance
# the NC loss is ill-conditioned: rounding grows fast


@pytest.fixture(scope="module")
def stepped(tmp_path_factory) -> list[Path]:
    """What all cases leave behind in one process, and in two."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    subprocess.run([sys.executable, STEPS, one, *CASES], check=True)
    torchrun(2, STEPS, two, *CASES).check_returncode()
    return [one, two]


@pytest.mark.parametrize("case", CASES)
def test_steps_equal_those_of_one_process(case, stepped):
    one, two = (load_file(folder / case) for folder in stepped)
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=CASES[case], atol=CASES[case], msg=name)


def test_a_run_under_torchrun(home, tmp_path):
    command = ("-m", "nclib.cli", "train", "digits", "--set", "epochs=2")
    torchrun(2, *command, NCLIB_HOME=str(tmp_path / "shared")).check_returncode()
    (folder,) = (tmp_path / "shared" / "runs").iterdir()
    shared, alone = Run(folder), train_run(recipe_config("digits", epochs=2))
    assert [run.provenance["processes"] for run in (alone, shared)] == [1, 2]
    for one, two in zip(alone.history, shared.history, strict=True):
        assert one.keys() == two.keys()
        assert {k: two[k] for k in one} == pytest.approx(one, rel=1e-3)


def test_several_runs_are_refused_under_torchrun():
    done = torchrun(2, "-m", "nclib.cli", "train", "digits", "--seeds", "2")
    assert done.returncode != 0
    assert "under torchrun one run is trained" in done.stderr


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "processes", lambda: 3)
    config = recipe_config("digits", loss="nc")
    splits, grouping = training_task(config)
    assert Batches(splits.train, grouping, config, torch.device("cpu")).size == 30  # six of each label
    config = recipe_config("digits")
    with pytest.raises(TrainingError, match="batches of 32 cannot be shared by 3 processes"):
        Batches(splits.train, grouping, config, torch.device("cpu"))


class TestAlone:
    def test_nothing_changes(self):
        batches, module = torch.arange(6).view(2, 3), nn.BatchNorm1d(2)
        assert distributed.leads()
        assert distributed.agreed(False) is False
        assert torch.equal(distributed.share(batches), batches)
        assert distributed.gathered(batches) is batches
        assert distributed.wrapped(module, unused=False) is module

    def test_the_shares_of_all_processes_are_the_batch(self, monkeypatch):
        batches = torch.arange(12).view(2, 6)
        monkeypatch.setattr(distributed, "processes", lambda: 3)
        shares = []
        for rank in range(3):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            shares.append(distributed.share(batches))
        assert torch.equal(torch.cat(shares, dim=1), batches)


class TestSharedBatchNorm:
    @pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4, 5)])
    def test_of_one_process_is_batch_normalisation(self, shape, monkeypatch):
        monkeypatch.setattr(distributed._Sum, "apply", lambda part: part)
        kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
        plain, x = kind(3).double(), torch.randn(shape, dtype=torch.float64)
        shared = distributed.SharedBatchNorm.like(kind(3).double())
        for training in (True, False):
            inputs = [x.clone().requires_grad_() for _ in "ab"]
            outputs = [m.train(training)(i) for m, i in zip((plain, shared), inputs, strict=True)]
            for output in outputs:
                (output**3).sum().backward()
            torch.testing.assert_close(*outputs)
            torch.testing.assert_close(*[i.grad for i in inputs])
        torch.testing.assert_close(shared.state_dict(), plain.state_dict())
