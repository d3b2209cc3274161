"""One training loop, for CPU and CUDA.

    trained = train(recipe_config("digits"))

What an epoch draws is decided by (seed, epoch), see ``nclib.training.batches``. A resumed run therefore
needs no generator state: killed at any moment and started again on such a machine with as many threads, it
ends with the weights of a run that was never killed. Under torchrun several processes train one network, see
``nclib.training.distributed``.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from nclib.config import RunConfig
from nclib.data.datasets import Splits, followed_images
from nclib.data.grouping import Grouping, task
from nclib.errors import ConfigError, TrainingError
from nclib.measures.collapse import nearest_mean_disagreement
from nclib.measures.moments import Moments
from nclib.networks.features import FeatureSet, feature_tensors, features_of
from nclib.networks.models import Classifier, initial_model
from nclib.storage.files import epoch_file, sha256, write_tensors
from nclib.training import checkpoint, distributed
from nclib.training.batches import Batches
from nclib.training.checkpoint import CHECKPOINT, State
from nclib.training.losses import LOSSES, is_collapse
from nclib.training.objective import Objective, objective_on
from nclib.training.optimizer import SGD

WARM_UP = 0.15  # share of the steps in which "one-cycle" rises
DROPS = {  # shares of the steps after which the learning rate is a tenth of what it was
    "constant": (),
    "step": (1 / 3, 2 / 3),
    "terminal": (1 / 5, 2 / 5),
    "early-step": (1 / 10, 1 / 5),
}
EARLY_EPOCHS = LATE_EPOCHS = 8  # about so many are measured in each half of training
LOOK_EVERY = 32  # steps on a CPU between two looks at the loss; on CUDA a look would wait for the device
CHECKPOINT_SECONDS = 5.0  # at least so long between two checkpoints, after the first;
CHECKPOINT_COST = 0.1  # seconds: in proportion longer where writing one takes longer than this


@dataclass
class Trained:
    """What training leaves behind.

    Attributes
    ----------
    model : the network, on the CPU.
    grouping : fine classes and coarse labels.
    image_shape : (C, H, W).
    history : a record per epoch; epoch 0 is the untrained network. "epoch"; "lr" at its end, "loss" and
        "running_accuracy" while the weights change; at measured epochs also "{train,test}_loss",
        "_accuracy" and "_nc4". Labels are coarse.
        Before the last epoch "train" is ``followed_images`` of it.
    snapshots : tensors by name: "EPOCH/train/means" and so on, the fine-class moments at measured
        epochs, and "EPOCH/weight", "EPOCH/bias" of the head.
    features : features of "train" and "test" at the end.
    seconds : wall-clock time of training and measuring, over all attempts.
    attempts : what ``train`` was told of each attempt, and the "first_epoch" that it trained.
    kept : SHA-256 of the files of measured epochs in the folder of the unfinished run, by name.
    """

    model: Classifier
    grouping: Grouping
    image_shape: tuple[int, ...]
    history: list[dict[str, Any]] = field(default_factory=list)
    snapshots: dict[str, Tensor] = field(default_factory=dict)
    features: dict[str, FeatureSet] = field(default_factory=dict)
    seconds: float = 0.0
    attempts: list[dict[str, Any]] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)


def default_device() -> torch.device:
    """``NCLIB_DEVICE``, else CUDA where there is one, else the CPU.

    Raises ConfigError for an ``NCLIB_DEVICE`` that torch does not know or that cannot compute here.
    """
    chosen = os.environ.get("NCLIB_DEVICE")
    if not chosen:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
        reason = str(error).partition(". ")[0].partition("\n")[0]  # some go on for a page
        raise ConfigError(f"NCLIB_DEVICE={chosen!r}: {reason}; set it to cpu or cuda, or unset it") from error
    return torch.device(chosen)


def measured_epochs(epochs: int) -> list[int]:
    """The untrained network, log-spaced epochs of the first half, evenly spaced ones of the second."""
    early = np.geomspace(1, max(1, epochs / 2), EARLY_EPOCHS)
    late = np.linspace(epochs / 2, epochs, LATE_EPOCHS)
    return sorted({0, *np.round([*early, *late]).astype(int).tolist()})


def train(
    config: RunConfig,
    folder: Path | None = None,
    device: torch.device | None = None,
    attempt: dict[str, Any] | None = None,
) -> Trained:
    """Train a network on coarse labels and measure it on the way.

    Parameters
    ----------
    config : what to train.
    folder : where an unfinished run is kept up to date, and resumed from if it is there; see
        ``Training``. A checkpoint that is damaged or another run's is set aside.
    device : by default ``default_device()``.
    attempt : what ``Trained.attempts`` says of this attempt, such as commit and device; JSON-ready.

    Raises
    ------
    TrainingError : the loss is not finite; the message names epoch, step and learning rate, and the
        last checkpoint stays.
    DataError, ConfigError : the data set or the grouping cannot be had.
    StoreError : the checkpoint cannot be written.
    """
    device = device or default_device()
    splits, grouping = training_task(config)
    with deterministic_kernels(config.deterministic), using_threads(training_threads(config, device)):
        return Training(config, splits, grouping, device, folder).run(attempt)


def training_task(config: RunConfig) -> tuple[Splits, Grouping]:
    """Data and grouping of a configuration, once its batches are known to be possible."""
    splits, grouping = task(config)
    if config.batch_size > len(splits.train):
        raise TrainingError(f"batch_size={config.batch_size}, but only {len(splits.train)} training images")
    if is_collapse(config.loss) and config.batch_size < 2 * grouping.num_coarse:
        raise TrainingError(
            f"batch_size={config.batch_size}: loss={config.loss} compares samples of one label, so a batch "
            f"needs two of each, {2 * grouping.num_coarse} in all"
        )
    return splits, grouping


class Training:
    """State of one training: the result so far, the optimiser, and what both are made from.

    The folder of an unfinished run holds a checkpoint, and what is kept of each measured epoch but the last:
    the weights, and the features where they cost more to compute again than to read (not those of an MLP).
    """

    def __init__(
        self,
        config: RunConfig,
        splits: Splits,
        grouping: Grouping,
        device: torch.device,
        folder: Path | None,
    ) -> None:
        self.config, self.splits, self.device, self.folder = config, splits, device, folder
        self.checkpoint = folder and folder / CHECKPOINT
        initial = initial_model(config, splits.train.images, grouping.num_coarse)
        self.result = Trained(initial.to(device), grouping, tuple(splits.train.images.shape[1:]))
        self.model = self.result.model.to(memory_format=torch.channels_last)
        # no collapse measure sees the bias of the head
        self.objective = distributed.wrapped(Objective(self.model, config), unused=is_collapse(config.loss))
        self.evaluate = objective_on(device)
        self.optimizer = SGD(self.model.parameters(), config.momentum, config.weight_decay)
        self.batches = Batches(splits.train, grouping, config, device)
        self.followed = Splits(followed_images(splits.train), splits.test)
        self.look_every = LOOK_EVERY if device.type == "cpu" else self.batches.steps
        self.save_from = -math.inf  # when the next checkpoint may be written

    def run(self, attempt: dict[str, Any] | None = None) -> Trained:
        self._resume()
        start = time.perf_counter() - self.result.seconds
        first = len(self.result.history)
        self.result.attempts.append((attempt or {}) | {"first_epoch": first})
        with progress_bar(self.config, first, self.batches.steps) as bar:
            for epoch in range(first, self.config.epochs + 1):
                record = self.train_epoch(epoch, bar) if epoch else {"epoch": 0}
                self.close_epoch(record)
                self.result.seconds = time.perf_counter() - start
                self._save()
        return self.finished()

    def close_epoch(self, record: dict[str, Any]) -> None:
        """Measure the network if it is time to, and add the epoch to the history."""
        if record["epoch"] in measured_epochs(self.config.epochs) and distributed.leads():
            record |= self._measure(record["epoch"])
        self.result.history.append(record)

    def finished(self) -> Trained:
        """The result, on the CPU."""
        if distributed.leads() and not self.result.features:  # resumed after the last epoch
            self._measure(self.config.epochs)
        self.model.to("cpu", memory_format=torch.contiguous_format).eval()
        return self.result

    def train_epoch(self, epoch: int, bar: tqdm) -> dict[str, Any]:
        """Train for an epoch; on CUDA the host waits for the device at its end only."""
        steps, size = self.batches.steps, self.batches.size
        losses = torch.zeros(steps, device=self.device)
        correct = torch.zeros((), device=self.device, dtype=torch.long)
        self.model.train()
        for step, (images, labels) in enumerate(self.batches.epoch(epoch)):
            loss, hits = self.evaluate(self.objective, images, labels)
            loss.backward()
            self.optimizer.step(learning_rate(self.config, (epoch - 1) * steps + step, steps))
            losses[step] = loss.detach()
            correct += hits
            if (step + 1) % self.look_every == 0:
                self._refuse_non_finite(losses[: step + 1], epoch)
                accuracy = int(correct) / ((step + 1) * size)
                bar.set_postfix_str(f"epoch {epoch}, coarse accuracy {accuracy:.1%}", False)
                bar.update(self.look_every)
        bar.update(steps % self.look_every)
        return self.epoch_record(epoch, losses, int(correct) / (steps * size))

    def epoch_record(self, epoch: int, losses: Tensor, accuracy: float) -> dict[str, Any]:
        """What the history keeps of an epoch's steps; raises TrainingError if a loss is not finite."""
        self._refuse_non_finite(losses, epoch)
        lr = learning_rate(self.config, epoch * len(losses) - 1, len(losses))
        mean_loss = float(losses.double().mean())
        return {"epoch": epoch, "lr": lr, "loss": mean_loss, "running_accuracy": accuracy}

    def _refuse_non_finite(self, losses: Tensor, epoch: int) -> None:
        bad = torch.nonzero(~torch.isfinite(losses)).flatten()
        if len(bad):
            step = int(bad[0])
            raise self._diverged(f"the loss is {float(losses[step])}", epoch, step)

    def _diverged(self, what: str, epoch: int, step: int) -> TrainingError:
        steps = self.batches.steps
        lr = learning_rate(self.config, max(epoch - 1, 0) * steps + step, steps)
        kept = f" The last checkpoint stays at {self.checkpoint}." if self.checkpoint else ""
        return TrainingError(
            f"{what} at epoch {epoch}, step {step}, learning rate {lr:.3g}. "
            f"A smaller lr or precision=fp32 may help.{kept}"
        )

    def _measure(self, epoch: int) -> dict[str, float]:
        """Features, moments and accuracies of both splits, as they are now.

        At the end of all images, before that of those that are followed, kept in the folder.
        """
        grouping, result = self.result.grouping, self.result
        end = epoch == self.config.epochs
        head = self.model.head
        weight, bias = (p.detach().float().cpu().clone() for p in (head.weight, head.bias))
        result.snapshots |= {f"{epoch}/weight": weight, f"{epoch}/bias": bias}
        record: dict[str, float] = {}
        for name, split in zip(("train", "test"), self.splits if end else self.followed, strict=True):
            fine = split.labels
            f = FeatureSet(features_of(self.model, split.images), fine, grouping.coarse(fine), weight, bias)
            if not torch.isfinite(f.logits()).all():
                raise self._diverged("outputs are not finite", epoch, self.batches.steps - 1 if epoch else 0)
            moments = Moments.of(f.h, fine, len(grouping.fine_names))
            tensors = moments.tensors().items()
            result.snapshots |= {f"{epoch}/{name}/{key}": tensor for key, tensor in tensors}
            if name == "train":  # the class means that NC4 compares with, on both splits
                means = moments.grouped(grouping.fine_to_coarse).means
            record |= {f"{name}_{key}": value for key, value in self._scores(f, means).items()}
            result.features[name] = f
        if not end:
            self._keep(epoch)
        return record

    def _keep(self, epoch: int) -> None:
        """Write the weights and features of a measured epoch into the folder of the unfinished run."""
        features, self.result.features = self.result.features, {}
        if self.folder is None:
            return
        parts = {"weights": self.model.state_dict()}
        if self.config.arch != "mlp":
            parts["features"] = feature_tensors(features)
        for part, tensors in parts.items():
            name = epoch_file(part, epoch)
            write_tensors(self.folder / name, tensors)
            self.result.kept[name] = sha256(self.folder / name)

    def _scores(self, f: FeatureSet, means: Tensor) -> dict[str, float]:
        logits = f.logits()
        return {
            "loss": float(LOSSES[self.config.loss](f.h.double(), logits.double(), f.coarse, f.weight)),
            "accuracy": float((logits.argmax(1) == f.coarse).double().mean()),
            "nc4": nearest_mean_disagreement(f.h, means, weight=f.weight, bias=f.bias),
        }

    def _save(self) -> None:
        start = time.perf_counter()
        if self.checkpoint is None or start < self.save_from or not distributed.leads():
            return
        result = self.result
        state = State(result.history, result.seconds, result.attempts, result.kept)
        state.model, state.snapshots = self.model.state_dict(), result.snapshots
        state.momentum = {
            name: self.optimizer.buffers[p]
            for name, p in self.model.named_parameters()
            if p in self.optimizer.buffers
        }
        checkpoint.write(self.folder, self.config, state)
        end = time.perf_counter()
        self.save_from = end + CHECKPOINT_SECONDS * max(1.0, (end - start) / CHECKPOINT_COST)

    def _resume(self) -> None:
        """Go on from the checkpoint, if the leading process says that there is one of this run."""
        if self.folder is None:
            return
        measured, state = measured_epochs(self.config.epochs), None
        if distributed.leads():
            state = checkpoint.resumable(self.folder, self.config, measured, self._untrained())
        if not distributed.agreed(state is not None):
            return
        self._restore(state or checkpoint.read(self.folder, self.config))

    def _untrained(self) -> State:
        """What a checkpoint of this network has to hold; see ``checkpoint.resumable``."""
        parts = [f"{split}/{part.name}" for split in ("train", "test") for part in fields(Moments)]
        state = State([], 0.0, [], {}, self.model.state_dict())
        state.snapshots = dict.fromkeys(["weight", "bias", *parts], torch.empty(0))
        if self.config.momentum:
            unseen = {"head.bias"} if is_collapse(self.config.loss) else set()
            state.momentum = {name: p for name, p in self.model.named_parameters() if name not in unseen}
        return state

    def _restore(self, state: State) -> None:
        result = self.result
        result.history, result.seconds, result.snapshots = state.history, state.seconds, state.snapshots
        result.attempts, result.kept = state.attempts, state.kept
        self.model.load_state_dict(state.model)
        for name, buffer in state.momentum.items():
            parameter = self.model.get_parameter(name)
            # the layout of the parameter: sums are then taken in the order of an unbroken run
            copy = torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(buffer)
            self.optimizer.buffers[parameter] = copy


def learning_rate(config: RunConfig, step: int, steps_per_epoch: int) -> float:
    """Learning rate of a step, counted from the start of training."""
    progress = step / (config.epochs * steps_per_epoch)
    if config.schedule in DROPS:
        return config.lr * 0.1 ** sum(progress >= boundary for boundary in DROPS[config.schedule])
    if progress < WARM_UP:
        return config.lr * (0.04 + 0.96 * progress / WARM_UP)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def progress_bar(config: RunConfig, first_epoch: int, steps: int) -> tqdm:
    """A bar over the training steps; ``TQDM_DISABLE=1`` hides it."""
    return tqdm(
        desc=f"{config.dataset}, {config.arch}, seed {config.seed}",
        total=config.epochs * steps,
        initial=max(first_epoch - 1, 0) * steps,
        unit="step",
        mininterval=0.5,
    )


def training_threads(config: RunConfig, device: torch.device) -> int:
    """Threads that train: one for an MLP on a CPU, whose operations are too small to share.

    ``benchmarks/training.py`` measures whole runs of digits.
    """
    return 1 if config.arch == "mlp" and device.type == "cpu" else torch.get_num_threads()


@contextmanager
def using_threads(number: int) -> Iterator[None]:
    """So many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def deterministic_kernels(wanted: bool) -> Iterator[None]:
    """Ask torch for deterministic algorithms inside the block, else for the fastest."""
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    cudnn.benchmark = not wanted
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        cudnn.deterministic = True
    try:
        yield
    finally:
        if wanted:  # asking loads torch's compiler
            torch.use_deterministic_algorithms(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]
