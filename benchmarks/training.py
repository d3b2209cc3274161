"""nclib's training loop against the loop that people copy, side by side.

    python -m benchmarks.training [--repeats 5] [--output benchmarks/results/training.json]

Both train the same ResNet-18 with crops and mirroring on images of 3 x 32 x 32: of width 16 in batches of
128 on a CPU, of width 64 in batches of 512 on a GPU. They take turns in one process. On a machine without
a GPU, what needs one is left out, and said. About five minutes on two cores; on a GPU, with --repeats 3,
under ten.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from benchmarks.copied_loop import CopiedLoop
from benchmarks.profiled import time_by_kind
from nclib.config import RunConfig, recipe_config
from nclib.data.datasets import ImageSet, Splits, missing_files
from nclib.data.grouping import Grouping
from nclib.networks.features import features_of
from nclib.runs.provenance import provenance
from nclib.storage.files import write_json
from nclib.training.loop import Training, default_device, deterministic_kernels, training_task, using_threads
from nclib.training.objective import compiled, evaluate

ROOT = Path(__file__).parents[1]
DEVICE = default_device()
CUDA = DEVICE.type == "cuda"
CONFIG = RunConfig(
    width=64 if CUDA else 16, batch_size=512 if CUDA else 128, augment="crop-flip", epochs=1000
)
IMAGES = 51_200 if CUDA else 1_280  # of an epoch
MATRIX = 8192 if CUDA else 2048  # side of the matrices whose product gives the peak
TERMINAL = 0.999  # accuracy on train
BAR = tqdm(disable=True)
Change = Callable[[Training], Any]
VARIANTS: dict[str, tuple[dict[str, Any], Change]] = {  # fields that differ, what else is changed
    "as it is": ({}, lambda t: None),
    "in float32": ({"precision": "fp32"}, lambda t: None),
    "channels first": ({}, lambda t: channels_first(t)),
    "torch.optim.SGD": ({}, lambda t: setattr(t, "optimizer", TorchSGD(t, fused=True))),
    "torch.optim.SGD, not fused": ({}, lambda t: setattr(t, "optimizer", TorchSGD(t, foreach=True))),
}
VARIANTS_OF_DEVICE: dict[str, tuple[dict[str, Any], Change]] = (
    {
        "not compiled": ({}, lambda t: setattr(t, "evaluate", evaluate)),
        "compiled, no CUDA graphs": ({}, lambda t: setattr(t, "evaluate", compiled(mode="default"))),
        "compiled, max-autotune": ({}, lambda t: setattr(t, "evaluate", compiled(mode="max-autotune"))),
    }
    if CUDA
    else {"compiled": ({}, lambda t: setattr(t, "evaluate", compiled(mode="default")))}
)


class TorchSGD:
    """torch's class in place of ``nclib.training.optimizer.SGD``."""

    def __init__(self, training: Training, **options: bool) -> None:
        decay, momentum = training.config.weight_decay, training.config.momentum
        parameters = training.model.parameters()
        self.optimizer = torch.optim.SGD(parameters, momentum=momentum, weight_decay=decay, **options)

    def step(self, lr: float) -> None:
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()


def channels_first(training: Training) -> None:
    """Weights and images with channels first."""
    training.model.to(memory_format=torch.contiguous_format)
    as_it_was = training.evaluate
    training.evaluate = lambda objective, images, labels: as_it_was(objective, images.contiguous(), labels)


def noise(n: int) -> tuple[Splits, Grouping]:
    """Images of noise with five labels."""
    shape, generator = (n, 3, 32, 32), torch.Generator().manual_seed(0)
    names = tuple("abcde")
    pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    split = ImageSet(pixels, torch.arange(n) % 5, names)
    return Splits(split, split), Grouping(torch.arange(5), names, names)


def loops(config: RunConfig = CONFIG, task: tuple[Splits, Grouping] | None = None) -> dict[str, Any]:
    """The two loops, each as a function that trains the epoch of a number."""
    splits, grouping = task or noise(IMAGES)
    copied = CopiedLoop(config, splits, grouping, DEVICE)
    ours = Training(config, splits, grouping, DEVICE, None)
    return {"copied loop": copied.train_epoch, "nclib": lambda epoch: ours.train_epoch(epoch, BAR)}


def seconds(work: Callable[[], Any]) -> float:
    if CUDA:
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if CUDA:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def in_turns(works: dict[str, Callable[[int], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each work, which take turns; the first turn is not counted."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(1, repeats + 2):
        for name, work in works.items():
            taken = seconds(lambda work=work, turn=turn: work(turn))
            if turn > 1:
                times[name].append(taken)
    return times


def speed(times: list[float], images: int) -> dict[str, Any]:
    speeds = [images / t for t in times]
    return {
        "images_per_second": statistics.median(speeds),
        "lowest": min(speeds),
        "highest": max(speeds),
        "repeats": len(speeds),
    }


def throughput(repeats: int) -> list[dict[str, Any]]:
    """Training speed of both loops."""
    times = in_turns(loops(), repeats)
    peak, flops = matmul_peak(repeats), flops_per_image()
    rows = [
        {"loop": name, "peak_memory": child("--peak", name)} | speed(taken, IMAGES)
        for name, taken in times.items()
    ]
    for row in rows:
        row["ratio"] = row["images_per_second"] / rows[0]["images_per_second"]
        row["share_of_peak"] = row["images_per_second"] * flops / peak
        row |= {"peak_flops": peak, "flops_per_image": flops}
    return rows


def matmul_peak(repeats: int) -> float:
    """Floating-point operations per second of a product of two square bf16 matrices, the best of all."""
    torch.manual_seed(0)
    a = torch.randn(MATRIX, MATRIX, device=DEVICE, dtype=torch.bfloat16)
    return 2 * MATRIX**3 / min(in_turns({"product": lambda _: a @ a}, 2 * repeats)["product"])


def flops_per_image(config: RunConfig = CONFIG) -> float:
    """Operations of a forward and a backward pass."""
    training = Training(config, *noise(config.batch_size), DEVICE, None)
    images, labels = next(training.batches.epoch(1))
    with FlopCounterMode(display=False) as counter:
        evaluate(training.objective, images, labels)[0].backward()
    return counter.get_total_flops() / len(images)


def peak_memory(name: str) -> int:
    """Bytes at the peak of one epoch: of the device, or of this process without its data workers."""
    loops()[name](1)
    if CUDA:
        return torch.cuda.max_memory_allocated()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def variants(repeats: int) -> list[dict[str, Any]]:
    """Speed of nclib's loop with one thing changed."""
    works, images = {}, dict.fromkeys(VARIANTS | VARIANTS_OF_DEVICE, IMAGES)
    for name, (fields, change) in (VARIANTS | VARIANTS_OF_DEVICE).items():
        training = Training(replace(CONFIG, **fields), *noise(IMAGES), DEVICE, None)
        change(training)
        works[name] = lambda epoch, training=training: training.train_epoch(epoch, BAR)
    times = in_turns(works, repeats)
    rows = [{"variant": name} | speed(taken, images[name]) for name, taken in times.items()]
    rows += [{"variant": name} | side_by_side(runs, repeats) for name, runs in sharing().items()]
    for row in rows:
        row["ratio"] = row["images_per_second"] / rows[0]["images_per_second"]
    return rows


def perceptron(repeats: int) -> list[dict[str, Any]]:
    """Speed of the perceptron on digits: with one thread and with all, and with torch's optimiser."""
    config = replace(recipe_config("digits"), epochs=1000)
    training, other = (Training(config, *training_task(config), DEVICE, None) for _ in range(2))
    other.optimizer = TorchSGD(other, fused=True)
    images = training.batches.steps * training.batches.size

    def train_epoch(epoch: int, trained: Training, threads: int) -> None:
        with using_threads(threads):
            trained.train_epoch(epoch, BAR)

    works = {
        f"{n} of {os.cpu_count()} threads": lambda epoch, n=n: train_epoch(epoch, training, n)
        for n in sorted({1, os.cpu_count() or 1})
    }
    works["1 thread, torch.optim.SGD"] = lambda epoch: train_epoch(epoch, other, 1)
    rows = [{"variant": name} | speed(t, images) for name, t in in_turns(works, 4 * repeats).items()]
    for row in rows:
        row["ratio"] = row["images_per_second"] / rows[0]["images_per_second"]
    return rows


def sharing() -> dict[str, int]:
    """Several runs at once, on a GPU or with a thread each, counted together."""
    cores = 2 if CUDA else os.cpu_count() or 1
    return {"one run, one thread": 1, f"{cores} runs at once, one thread each": cores}


def side_by_side(runs: int, repeats: int) -> dict[str, Any]:
    """Speed of several processes together, each training the same network."""
    command = [sys.executable, "-m", "benchmarks.training", "--one-thread", str(repeats)]
    started = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(runs)]
    speeds = [json.loads(process.communicate()[0]) for process in started]
    together = [sum(of_repeat) for of_repeat in zip(*speeds, strict=True)]
    return speed([IMAGES / s for s in together], IMAGES)


def one_thread(repeats: int) -> list[float]:
    """Images per second of each epoch but the first."""
    torch.set_num_threads(1)
    return [IMAGES / t for t in in_turns({"nclib": loops()["nclib"]}, repeats)["nclib"]]


def extraction(repeats: int) -> list[dict[str, Any]]:
    """Speed of computing the features of a split."""
    splits, grouping = noise(IMAGES)
    copied = CopiedLoop(CONFIG, splits, grouping, DEVICE)
    model = Training(CONFIG, splits, grouping, DEVICE, None).model
    works = {
        "copied loop": lambda _: copied.features(splits.test),
        "nclib": lambda _: features_of(model, splits.test.images),
    }
    rows = [{"loop": name} | speed(t, IMAGES) for name, t in in_turns(works, repeats).items()]
    for row in rows:
        row["ratio"] = row["images_per_second"] / rows[0]["images_per_second"]
    return rows


def terminal_phase(repeats: int) -> dict[str, Any] | None:
    """Seconds, and on a GPU joules, until 99.9 % of the coarse labels of train are right."""
    recipe = "cifar10-laptop" if CUDA else "digits"
    if missing_files(recipe_config(recipe).dataset):
        return None
    config = recipe_config(recipe, width=64 if CUDA else None, batch_size=512 if CUDA else None)
    rows = []
    for seed in range(min(repeats, 2) if CUDA else repeats):
        for name, train_epoch in loops(replace(config, seed=seed), training_task(config)).items():
            with Joules() as joules:
                rows.append({"loop": name, "seed": seed} | until_terminal(train_epoch, config.epochs))
            rows[-1]["joules"] = joules.used
    return {"recipe": recipe, "rows": rows}


def until_terminal(train_epoch: Callable[[int], dict[str, float]], epochs: int) -> dict[str, Any]:
    start = time.perf_counter()
    for epoch in range(1, epochs + 1):
        record = train_epoch(epoch)
        if record.get("running_accuracy", record.get("accuracy")) >= TERMINAL:
            return {"seconds": time.perf_counter() - start, "epochs": epoch}
    return {"seconds": None, "epochs": None}


class Joules:
    """Energy that the GPU takes inside the block, from its power every 100 ms; None on a CPU."""

    used: float | None = None

    def __enter__(self) -> Joules:
        if CUDA:
            query = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", "-lms", "100"]
            self.watcher = subprocess.Popen(query, stdout=subprocess.PIPE, text=True)
        self.start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if CUDA:
            taken = time.perf_counter() - self.start
            self.watcher.terminate()
            watts = [float(line) for line in self.watcher.communicate()[0].split()]
            self.used = statistics.mean(watts) * taken


def from_nothing(repeats: int) -> dict[str, Any]:
    """Seconds of whole processes: digits from an empty store, from a full one, and chapter 5's number."""
    get = "import nclib; run = nclib.get_run('digits'); run.features('train')"
    number = f"{get}; from nclib.runs.evaluation import results; results(run)"
    times: dict[str, list[float]] = {"features": [], "cached": [], "number": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as home:
            environment = os.environ | {"NCLIB_HOME": home, "TQDM_DISABLE": "1"}
            for name, code in {"features": get, "cached": get, "number": number}.items():
                command = [sys.executable, "-c", code]
                times[name].append(
                    seconds(lambda c=command, e=environment: subprocess.run(c, check=True, cwd=ROOT, env=e))
                )
    medians = {f"{name}_seconds": statistics.median(taken) for name, taken in times.items()}
    spreads = {f"{name}_spread": max(taken) - min(taken) for name, taken in times.items()}
    return {"recipe": "digits", "repeats": repeats} | medians | spreads


def profiles() -> list[dict[str, Any]]:
    """Where an epoch's time goes, in both loops."""
    rows = []
    for name, train_epoch in loops().items():
        train_epoch(1)
        rows += [{"loop": name} | row for row in time_by_kind(lambda work=train_epoch: work(2), CUDA)]
    return rows


def child(*arguments: str) -> Any:
    """The JSON that this file prints in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training", *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout)


def main() -> None:
    """Measure everything, print it, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/training.json")
    parser.add_argument("--peak", metavar="LOOP", help=argparse.SUPPRESS)
    parser.add_argument("--one-thread", type=int, metavar="REPEATS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        return print(peak_memory(options.peak))
    if options.one_thread:
        return print(one_thread(options.one_thread))
    if not CUDA:
        print("No GPU here: what follows is the CPU's part.", file=sys.stderr)
    parts = {
        "rows": throughput,
        "variants": variants,
        "perceptron": perceptron,
        "extraction": extraction,
        "terminal": terminal_phase,
        "from_nothing": from_nothing,
        "profile": lambda _: profiles(),
    }
    record: dict[str, Any] = {"provenance": provenance(DEVICE), "config": CONFIG.canonical_json()}
    with deterministic_kernels(False):
        for name, measure in parts.items():
            record[name] = measure(options.repeats)
            print(f"{name}\n{json.dumps(record[name], indent=2)}")
    write_json(options.output, record)


if __name__ == "__main__":
    main()
