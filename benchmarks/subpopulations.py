"""Does ``nclib.subpopulations`` hold its level, and what does it find? False alarms and power.

    python -m benchmarks.subpopulations [--draws 1000] [--output benchmarks/results/subpopulations.json]

Every rate stands beside its exact 95 % interval (Clopper and Pearson, 1934). A level counts as exceeded where
the interval lies above it, and as held where the interval ends at it or below; between these the draws do
not decide. Powers take a fifth of the draws, the slowest settings a tenth.

The file is written after every setting. Started again, the program continues it: draws are numbered, and
only those are made that are missing, unless the code of the test or of a setting has changed.
One thread. A draw takes 0.03 to 1 s; 1,000 draws about two hours on a quiet core.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import torch
from scipy.stats import beta, norm
from sklearn.cluster import KMeans

from nclib.measures import subpopulations as module
from nclib.measures import valley as valleys
from nclib.runs.provenance import provenance
from nclib.runs.released import released_runs
from nclib.storage.files import write_json

ROOT = Path(__file__).parents[1]
LEVEL = 0.05
CONFIDENCE = 0.95
LEAST = 20  # draws of a setting
DECAY = 0.75  # exponent: widths of the axes fall like 1 / k^0.75
NOISE = 0.15  # of arcs with radius 1, in every dimension
REAL = "cifar10-laptop-seed0"  # a released run with test features
Draw = Callable[[np.random.Generator, int, int], np.ndarray]  # rng, n, d -> (n, d)


class Setting(NamedTuple):
    """What is drawn; ``share`` of the draws that are asked for."""

    kind: str  # "one", "arc", "shuffled", "ten classes", "two", "same sample", "other half"
    population: str
    samples: int  # of a class
    dimension: int
    separation: float | None = None  # of two Gaussians, in standard deviations of either
    ratio: int | None = None  # of their sizes
    share: float = 1.0


def decaying(rng_draw: Callable[..., np.ndarray]) -> Draw:
    def draw(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
        return rng_draw(rng, (n, d)) * np.arange(1, d + 1) ** -DECAY

    return draw


def arc(rng: np.random.Generator, n: int, d: int, degrees: float) -> np.ndarray:
    """Points of an arc with radius 1 in a plane, all angles equally likely, with noise in every dimension."""
    angle = np.radians(degrees) * (rng.random(n) - 0.5)
    x = NOISE * rng.normal(size=(n, d))
    x[:, :2] += np.column_stack([np.cos(angle), np.sin(angle)])
    return x


@cache
def real_classes() -> list[np.ndarray]:
    """Test features of the fine classes of a released run along their principal axes, (n, D) each."""
    f = released_runs(REAL)[0].features("test")
    h, fine = f.h.double().numpy(), f.fine.numpy()
    centred = [h[fine == c] - h[fine == c].mean(axis=0) for c in range(fine.max() + 1)]
    return [x @ np.linalg.svd(x, full_matrices=False)[2].T for x in centred]


def shuffled(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Real features, permuted among the images of a fine class along each principal axis by itself."""
    classes = real_classes()
    x = classes[rng.integers(len(classes))][:, :d]
    return rng.permuted(x, axis=0)[:n]


ONE: dict[str, Draw] = {
    "Gaussian": decaying(lambda rng, shape: rng.normal(size=shape)),
    "heavy tails (t, 3 degrees)": decaying(lambda rng, shape: rng.standard_t(3, size=shape)),
    "skewed (exponential)": decaying(lambda rng, shape: rng.exponential(size=shape)),
    "uniform": decaying(lambda rng, shape: rng.random(shape)),
}
ARCS = {f"arc of {degrees} degrees": degrees for degrees in (45, 90, 170)}


def settings() -> list[Setting]:
    """In the order in which they are worth their time."""
    shapes = [*ONE]
    two = partial(Setting, "two", "Gaussian", share=0.2)
    found = [Setting("one", name, 200, 128) for name in shapes]
    found += [Setting(kind, "equal widths", 200, 512, share=0.2) for kind in ("same sample", "other half")]
    found += [two(200, 16, gap, 1) for gap in (3, 4, 5, 6)]
    found += [Setting("arc", name, 200, 16) for name in ARCS]
    found += [two(1000, 16, gap, r) for gap in (3, 4, 6) for r in (1, 10)]
    found += [Setting("shuffled", REAL, 200, 128), Setting("one", "Gaussian", 200, 512)]
    found += [Setting("ten classes", "all", 100, 16, share=0.1)]
    found += [Setting("one", name, n, 16) for n in (200, 50, 1000) for name in shapes]
    found += [two(200, d, gap, 1) for d in (128, 512) for gap in (4, 5, 6, 8)]
    found += [two(1000, 16, gap, r) for gap in (4, 6, 8) for r in (5, 50)]
    found += [two(1000, 16, 8, 10)] + [two(1000, 16, gap, 1) for gap in (2.5, 3.5)]
    found += [Setting("one", name, n, 2) for n in (50, 200, 1000) for name in shapes]
    found += [Setting("one", name, 200, 512) for name in shapes[1:]]
    found += [Setting("one", name, n, d) for n, d in ((50, 128), (1000, 128), (50, 512)) for name in shapes]
    found += [two(50, 16, gap, 1) for gap in (4, 5, 6, 8)]
    return found + [Setting("one", name, 1000, 512, share=0.1) for name in shapes]


def alarm(setting: Setting, number: int) -> bool:
    """Whether a draw is said to hide more than one population."""
    rng = np.random.default_rng([crc32(repr(setting[:-1]).encode()), number])
    n, d = setting.samples, setting.dimension
    if setting.kind == "ten classes":
        draws = [*ONE.values()]
        h = np.concatenate([draws[c % len(draws)](rng, n, d) for c in range(10)])
        found = module.subpopulations(h, np.repeat(np.arange(10), n), LEVEL, number)
        return bool((found.count > 1).any())
    if setting.kind == "two":
        x = rng.normal(size=(n, d))
        x[: round(n / (1 + setting.ratio)), 0] += setting.separation
    elif setting.kind == "arc":
        x = arc(rng, n, d, ARCS[setting.population])
    elif setting.kind == "shuffled":
        x = shuffled(rng, n, d)
    elif setting.kind == "one":
        x = ONE[setting.population](rng, n, d)
    else:
        return along_k_means(rng.normal(size=(n, d)), setting.kind == "same sample")
    return module._p_value(x, rng) <= LEVEL


def along_k_means(x: np.ndarray, same: bool) -> bool:
    """Whether the test finds a valley between two centres of k-means, in the same samples or in a half."""
    fitted, tested = (x, x) if same else np.array_split(x, 2)
    axis = np.subtract(*KMeans(2, n_init=3, random_state=0).fit(fitted).cluster_centers_)
    return valleys.valley_p_value(valleys.deepest_valley(fitted @ axis), tested @ axis) <= LEVEL


def interval(alarms: int, draws: int) -> tuple[float, float]:
    """Exact interval of a rate (Clopper and Pearson, 1934)."""
    tail = (1 - CONFIDENCE) / 2
    low = beta.ppf(tail, alarms, draws - alarms + 1) if alarms else 0.0
    high = beta.ppf(1 - tail, alarms + 1, draws - alarms) if alarms < draws else 1.0
    return float(low), float(high)


def deepest(degrees: float, lines: int = 24) -> float:
    """Depth of the deepest valley that an arc's density has along any line of its plane, from 0 to 1.

    1 minus the density in the valley over that on the lower peak: 0 if there is one mode along every line.
    """
    angle = np.radians(np.linspace(-degrees / 2, degrees / 2, 401))
    at = np.linspace(-1.6, 1.6, 321)
    depth = 0.0
    for line in np.linspace(0, np.pi, lines, endpoint=False):
        density = norm.pdf((at[:, None] - np.cos(angle - line)) / NOISE).mean(axis=1)
        peaks = np.minimum(np.maximum.accumulate(density), np.maximum.accumulate(density[::-1])[::-1])
        depth = max(depth, float(np.max(1 - density / peaks)))
    return depth


def source() -> str:
    """Fingerprint of the test and of the draws."""
    tried = (module, valleys, decaying, arc, shuffled, alarm, along_k_means)
    parts = [inspect.getsource(each) for each in tried]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def continued(setting: Setting, row: dict[str, Any] | None, draws: int) -> dict[str, Any]:
    """A row with as many draws as are asked for, those of an earlier one among them."""
    done, alarms, seconds = (row["draws"], row["alarms"], row["seconds"]) if row else (0, 0, 0.0)
    start = time.process_time()
    alarms += sum(alarm(setting, number) for number in range(done, draws))
    seconds += time.process_time() - start
    draws = max(done, draws)
    low, high = interval(alarms, draws)
    given = setting._asdict()
    del given["share"]
    measured = {"draws": draws, "alarms": alarms, "rate": alarms / draws, "low": low, "high": high}
    return given | measured | {"seconds": seconds}


def main() -> None:
    """Measure all settings, one after another, and write the file after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/subpopulations.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    before = json.loads(options.output.read_text()) if options.output.exists() else {}
    earlier = before.get("rows", []) if before.get("source") == source() else []
    rows = {tuple(row[key] for key in Setting._fields[:-1]): row for row in earlier}
    arcs = {name: deepest(degrees) for name, degrees in ARCS.items()}
    for setting in settings():
        draws = max(min(LEAST, options.draws), round(setting.share * options.draws))
        if setting[:-1] in rows and rows[setting[:-1]]["draws"] >= draws:
            continue
        rows[setting[:-1]] = row = continued(setting, rows.get(setting[:-1]), draws)
        print(json.dumps(row), flush=True)
        record = {"level": LEVEL, "confidence": CONFIDENCE, "arcs": arcs, "rows": list(rows.values())}
        made = provenance(torch.device("cpu"))
        write_json(options.output, record | {"source": source(), "provenance": made})


if __name__ == "__main__":
    main()
