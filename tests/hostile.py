"""Hostile input for every public function that takes arrays, labels or numbers.

    found = attack(seed=0, count=1000)
    found.tried, found.crashes

A call may return what its docstring promises, or refuse with ValueError, TypeError or NclibError and a
message. Anything else is a crash: another exception, a result of another shape, one that is not finite where
no docstring says so, a warning that leaks, and 200 MB of memory.
"""

from __future__ import annotations

import resource
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

import nclib
from nclib.errors import NclibError
from nclib.measures import cluster_number, collapse_variants, distances, neighbours, ood_scores
from nclib.measures.arrays import PrecisionWarning
from nclib.measures.collapse import share_along_means

REFUSALS = (ValueError, TypeError, NclibError)
DOCUMENTED = (
    ConvergenceWarning,  # of k-means with few distinct samples, and of a probe
    PrecisionWarning,  # of features that are rounded coarsely
)
MOST_MEMORY = 200 * 2**10  # kilobytes that a call may add to the most that the process has held
HOSTILE = 0.2  # share of arguments that are drawn to harm
NUMPY = (*"?bBhHiIlLqQefdgFDO", ">f4", ">f8", "<i2", ">u8", "U3")
TORCH = (torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.float8_e5m2, torch.complex64,
         torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int64)  # fmt: skip
NUMBERS = (0, 1, 2, 3, 5, -1, 2.5, 1e-300, 1e308, 10**9, 10**30, float("nan"), float("inf"), -float("inf"),
           True, None, "2", [2], [], np.int8(2), np.uint64(2**64 - 1), np.float32(2), torch.tensor(2),
           torch.tensor(2.5), 1j, object(), b"2", {}, slice(2))  # fmt: skip
NO_ARRAYS = (None, 3, "abc", [[1.0], [1.0, 2.0]], {}, object(), [None], b"x", [["1", "2"]])
STRANGE = ("kmeans\x1b[31m", "", None, 3, [], {}, "a" * 10**4, float("nan"))


@dataclass
class Found:
    """How many calls there were, by function, and what went wrong, with what is needed to see it again."""

    tried: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)


@dataclass
class Draw:
    """A draw of arguments: some valid, some not, all of one number of samples."""

    random: np.random.Generator

    def __post_init__(self) -> None:
        self.n, self.dim, self.classes = (
            int(self.random.integers(*span)) for span in ((8, 40), (1, 6), (2, 4))
        )

    def pick(self, choices: Iterable[Any]) -> Any:
        choices = list(choices)
        return choices[self.random.integers(len(choices))]

    def hostile(self) -> bool:
        return self.random.random() < HOSTILE

    def features(self, rows: int | None = None) -> Any:
        """(rows, D) features, as many as there are samples if not given."""
        if not self.hostile():
            return self.random.normal(size=(self.n if rows is None else rows, self.dim))
        rows = self.pick([self.n if rows is None else rows] * 4 + [0, 1, 2])
        shape = self.pick([(rows, self.dim)] * 9 + [(rows,), (rows, 0), (), (rows, self.dim, 1), (rows, 7)])
        h = self.random.normal(size=shape)
        kind = self.random.integers(9)
        if kind == 0:
            h = h * self.pick([0, 1e-300, 1e-200, 1e-40, 1e30, 1e59, 1e61, 1e200, 1e308])
        elif kind == 1:
            h = np.ones(shape) * self.pick([1, 0.1, 1e10])
        elif kind == 2:
            h = np.round(h)
        elif kind == 3 and h.size:
            h.flat[self.random.integers(h.size)] = self.pick([np.nan, np.inf, -np.inf, 1e160])
        elif kind == 4:
            return self.pick(NO_ARRAYS)
        elif kind == 5:
            h = h + self.pick([1e6, 1e12])
        return self.stored(h)

    def labels(self, classes: int | None = None) -> Any:
        """(N,) labels in [0, C)."""
        y = np.arange(self.n) % (self.classes if classes is None else classes)
        if not self.hostile():
            return y
        kind = self.random.integers(10)
        if kind == 0:
            y = y * self.pick([0, 2, 10**4, 10**9, 10**15, -1])
        elif kind == 1:
            y[self.random.integers(self.n)] = self.pick([-1, 10**9, 2**62, 100, 2**15 - 1])
        elif kind == 2:
            y = y + self.pick([0.5, np.nan, 1e30, 0.0])
        elif kind == 3:
            y = self.pick([y[:-1], y[:0], y[:1], np.append(y, 0), y[:, None], y[None]])
        elif kind == 4:
            return self.pick(NO_ARRAYS)
        elif kind == 5:
            y = np.arange(self.n)
        return self.stored(y)

    def stored(self, values: np.ndarray) -> Any:
        """The values as another library might hold them."""
        values = np.array(values)  # an array also where there is a single number
        kind = self.random.integers(8)
        if kind == 0:
            return values.tolist()
        if kind == 1:
            return values.astype(self.pick(NUMPY))
        if kind == 2:
            return torch.tensor(values).to(self.pick(TORCH))
        if kind == 3 and values.dtype.kind == "f":
            return torch.tensor(values, requires_grad=True)
        if kind == 4:
            return np.asfortranarray(values)
        if kind == 5:
            return np.ascontiguousarray(values[::-1])[::-1] if values.ndim else values
        if kind == 6:
            values.flags.writeable = False
            return values
        return torch.tensor(values).T if values.ndim == 2 else values

    def number(self, *valid: Any) -> Any:
        return self.pick(NUMBERS) if self.hostile() else self.pick(valid)

    def name(self, valid: Iterable[str]) -> Any:
        return self.pick(STRANGE) if self.random.random() < 0.1 else self.pick(valid)

    def moments(self) -> nclib.Moments:
        """Of features that are extreme but accepted."""
        size = self.pick([0, 1e-200, 1, 1, 1, 1e30])
        h = self.random.normal(size=(self.n, self.dim)) * size
        return nclib.Moments.of(h, np.arange(self.n) % self.classes)


Call = Callable[[Draw], tuple[Callable[[], Any], Callable[[Any], Any]]]


def shaped(*shape: int | None) -> Callable[[Any], bool]:
    """Whether an array has this shape; None is any length."""
    return lambda found: (
        len(found.shape) == len(shape)
        and all(want in (None, length) for want, length in zip(shape, found.shape, strict=True))
    )


def each(promised: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether every part of a tuple is as promised."""
    return lambda found: all(map(promised, found))


def is_float(found: Any) -> bool:
    return type(found) is float


def are_floats(found: Any) -> bool:
    return isinstance(found, dict) and all(map(is_float, found.values()))


def collapse_metrics(draw: Draw) -> Any:
    h, y, weight, bias, means = draw.features(), draw.labels(), *(draw.features(draw.classes) for _ in "wbm")
    bias = draw.pick([np.full(draw.classes, np.nan), bias]) if draw.hostile() else np.zeros(draw.classes)
    settings = {"means": draw.pick([None, means]), "correction": draw.number(0, 1)}
    return lambda: nclib.collapse_metrics(h, y, weight, bias, **settings), are_floats


def nc_loss(draw: Draw) -> Any:
    h, y, weight = draw.features(), draw.labels(), draw.features(draw.classes)
    return lambda: nclib.nc_loss(h, y, weight), shaped()


def class_distances(draw: Draw) -> Any:
    h, y = draw.features(), draw.labels()
    return lambda: nclib.class_distances(h, y), shaped(None, None)


def relative_distances(draw: Draw) -> Any:
    d = draw.pick([np.abs(draw.random.normal(size=(3, 3))), draw.features(draw.dim), np.zeros((2, 2))])
    return lambda: nclib.relative_distances(d), shaped(None, None)


def msdr(draw: Draw) -> Any:
    h, fine = draw.features(), draw.labels(4)
    coarse = draw.pick([np.arange(draw.n) % 2, draw.labels(2)])
    return lambda: nclib.msdr(h, fine, coarse), shaped(None)


def explained_variance(draw: Draw) -> Any:
    h, fine = draw.features(), draw.labels(4)
    coarse = draw.pick([np.arange(draw.n) % 2, draw.labels(2)])
    return lambda: nclib.explained_variance(h, fine, coarse), shaped(None)


def explained_variance_test(draw: Draw) -> Any:
    h, fine = draw.features(), draw.labels(4)
    coarse = draw.pick([np.arange(draw.n) % 2, draw.labels(2)])
    count, level, seed = draw.number(1, 9), draw.number(0.5, 0.95), draw.number(0, 7)
    return lambda: nclib.explained_variance_test(h, fine, coarse, count, level, seed), each(shaped(None))


def explained_variance_null(draw: Draw) -> Any:
    h, fine, group, level = draw.features(), draw.labels(4), np.arange(4) % 2, draw.number(0.5, 0.95)

    def use() -> Any:
        return nclib.explained_variance_null(nclib.Moments.of(h, fine), group, level)

    return use, each(shaped(None))


def neighbour_purity(draw: Draw) -> Any:
    h, fine, coarse, k = draw.features(), draw.labels(4), draw.labels(2), draw.number(1, 2)
    return lambda: nclib.neighbour_purity(h, fine, coarse, k), shaped(None)


def purity_by_chance(draw: Draw) -> Any:
    fine, coarse = draw.labels(4), draw.labels(2)
    return lambda: neighbours.purity_by_chance(fine, coarse), shaped(None)


def reconstruct_labels(draw: Draw) -> Any:
    h, coarse, k = draw.features(), draw.labels(2), draw.number(1, 2, draw.n // 2, [2, 3])
    method = draw.name(["kmeans"] * 4 + ["pca-gmm", "spectral", "tsne-kmeans"])
    seed = draw.number(0, 7)
    return lambda: nclib.reconstruct_labels(h, coarse, k, method, seed), shaped(None)


def match_labels(draw: Draw) -> Any:
    pseudo, true = draw.labels(), draw.labels()
    return lambda: nclib.match_labels(pseudo, true).labels, shaped(None)


def choose_k(draw: Draw) -> Any:
    h, coarse, most = draw.features(), draw.labels(2), draw.number(2, 2, 2, 3)
    method = draw.name(cluster_number.CRITERIA)
    return lambda: nclib.choose_k(h, coarse, method, most), shaped(None)


def subpopulations(draw: Draw) -> Any:
    h, y, level, seed = draw.features(), draw.labels(), draw.number(0.01, 0.5), draw.number(0, 7)
    return lambda: np.concatenate(nclib.subpopulations(h, y, level, seed)), shaped(None)


def linear_probe(draw: Draw) -> Any:
    h, y, others, labels = draw.features(), draw.labels(), draw.features(), draw.labels()

    def use() -> np.ndarray:
        probe = nclib.linear_probe(h, y)
        assert type(probe.accuracy(others, labels)) is float
        probe.per_class_accuracy(others, labels)
        return probe.predict(others)

    return use, shaped(None)


def tsne(draw: Draw) -> Any:
    h, perplexity, seed = draw.features(), draw.number(2, 30), draw.number(0)
    return lambda: nclib.tsne(h, perplexity, seed, draw.name(["pca", "random"])), shaped(None, 2)


def moments(draw: Draw) -> Any:
    h, y, group = draw.features(), draw.labels(4), draw.pick([[0, 1, 0, 1], draw.labels()])
    classes = draw.number(None, 4)
    return lambda: nclib.Moments.of(h, y, classes).grouped(group).means, shaped(None, None)


def class_moments(draw: Draw) -> Any:
    h, y, classes, dim = draw.features(), draw.labels(), draw.number(draw.classes), draw.number(draw.dim)
    other = nclib.ClassMoments(draw.classes, draw.dim)
    other = draw.pick([None, 3, nclib.ClassMoments(1, 1)]) if draw.hostile() else other

    def use() -> torch.Tensor:
        accumulated = nclib.ClassMoments(classes, dim).update(h, y)
        return accumulated.merge(other).summary().projected

    return use, shaped(None, None)


def extract(draw: Draw) -> Any:
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(draw.dim), torch.nn.Linear(draw.dim, 3))
    x = torch.tensor(draw.random.normal(size=(draw.n, draw.dim)) * draw.pick([0, 1, 1, np.nan, 1e38])).float()
    y, layer = draw.labels(), draw.pick(["0", "x\x1b", 3]) if draw.hostile() else draw.pick([None, "1"])
    loader = draw.pick([[], [x, y], [(x,)], [(y, y)], 3]) if draw.hostile() else [(x, y)] * draw.pick([1, 2])
    return lambda: nclib.extract(model, loader, layer).h, shaped(None, draw.dim)


def save_features(draw: Draw) -> Any:
    """Saved and loaded again."""
    h, y, logits = draw.features(), draw.labels(), draw.pick([None, draw.features()])
    names = draw.pick([None, [f"{i}" for i in range(draw.n)], draw.pick([*NO_ARRAYS, *STRANGE])])
    ending = draw.pick([".safetensors", ".npz"] * 4 + [".pt", ""])

    def use() -> np.ndarray:
        with TemporaryDirectory() as folder:
            nclib.save_features(f"{folder}/f{ending}", h, y, logits, names)
            return nclib.load_features(f"{folder}/f{ending}").h

    return use, shaped(None, None)


def shards(draw: Draw) -> Any:
    """Features in two files, sampled; or their moments, saved and loaded again."""
    h, y, second = draw.features(), draw.labels(), draw.pick([None, (draw.features(), draw.labels())])
    count, seed, classes = draw.number(1, 9), draw.number(0, 7), draw.number(None, draw.classes)
    per_class, components = draw.pick([False, True]), draw.number(1)
    files = draw.pick([*NO_ARRAYS, *STRANGE[1:]]) if draw.random.random() < 0.05 else None

    def use() -> Any:
        with TemporaryDirectory() as folder:
            for number, part in enumerate([(h, y)] + ([second] if second else [])):
                nclib.save_features(f"{folder}/{number}.safetensors", *part)
            opened = nclib.FeatureShards(files or folder)
            nclib.save_moments(f"{folder}/m.safetensors", opened.moments(classes))
            moments = nclib.load_moments(f"{folder}/m.safetensors")
            return nclib.principal_components(moments, components).project(
                opened.sample(count, seed, per_class).h
            )

    return use, shaped(None, None)


def outlier_scores(draw: Draw) -> Any:
    h, y, weight, judged = draw.features(), draw.labels(), draw.features(draw.classes), draw.features()
    bias = draw.features(1) if draw.hostile() else np.zeros(draw.classes)
    train = nclib.FeatureSet(h, y, y, weight, bias)
    names, labels = draw.pick([None, [draw.name(ood_scores.SCORES)]]), draw.pick([None, draw.labels()])

    def use() -> np.ndarray:
        return np.stack(list(ood_scores.outlier_scores(train, judged, labels, names).values()))

    return use, shaped(None, None)


def detection_of(draw: Draw) -> Any:
    sides = [draw.pick([draw.random.normal(size=5), draw.labels(), draw.features()]) for _ in range(2)]
    return lambda: ood_scores.detection_of(*sides), are_floats


def images(draw: Draw) -> Any:
    pixels = torch.zeros((3, draw.pick([1, 3]), 4, 4), dtype=torch.uint8)
    pixels, seed = draw.pick([pixels, pixels, draw.features()]), draw.number(0)
    shape = draw.pick([(3, 5, 5), (1, draw.number(4), 4), draw.number((1, 2, 2))])
    return lambda: ood_scores.resized(ood_scores.noise_like(pixels, seed), shape), shaped(3, None, None, None)


def variants(draw: Draw) -> Any:
    m, weight, row = (
        draw.moments(),
        draw.features(draw.classes),
        draw.pick([draw.features(1), np.ones(draw.dim)]),
    )
    calls = (
        lambda: collapse_variants.class_distance_variance(m),
        lambda: share_along_means(m),
        lambda: collapse_variants.simplex_error(weight, draw.pick([None, weight, m.means])),
        lambda: collapse_variants.uniformity(
            weight, draw.name(collapse_variants.KERNELS), draw.number(1, -1)
        ),
        lambda: collapse_variants.duality_spread(m, weight, correction=draw.number(0, 1)),
        lambda: collapse_variants.outlier_orthogonality(m, row, centre=draw.pick([True, False])),
    )
    return draw.pick(calls), is_float


def from_moments(draw: Draw) -> Any:
    m, group = draw.moments(), draw.pick([np.zeros(draw.classes), draw.labels()])
    return lambda: distances.msdr_of(m, group), shaped(None)


def recipe_config(draw: Draw) -> Any:
    fields = vars(nclib.RunConfig())
    name = draw.pick([*fields, "held_out", "grouping", "grouping", "x\x1b"])
    strange = draw.pick([draw.number(3), [0, draw.number(1)], [draw.number(0)], [0, 1, 1], "mod5", *STRANGE])
    value, recipe = draw.pick([fields.get(name), strange]), draw.name(["digits"])

    def use() -> str:
        return nclib.recipe_config(recipe, **{name: value}).canonical_json()

    return use, lambda found: found.startswith("{")


QUICK: Mapping[str, Call] = {
    call.__name__: call
    for call in (
        collapse_metrics, nc_loss, class_distances, relative_distances, msdr, explained_variance,
        explained_variance_test, explained_variance_null, neighbour_purity, purity_by_chance, match_labels,
        moments, class_moments, extract, save_features, shards, outlier_scores, detection_of, images,
        variants, from_moments, recipe_config, linear_probe,
    )
}  # fmt: skip
SLOW: Mapping[str, Call] = {
    call.__name__: call for call in (reconstruct_labels, choose_k, subpopulations, tsne)
}
MAY_BE_NO_NUMBER = {
    "collapse_metrics", "nc_loss", "relative_distances", "msdr", "explained_variance", "purity_by_chance",
    "explained_variance_test", "explained_variance_null", "variants", "from_moments",
}  # fmt: skip


def attack(seed: int, count: int, slow: float = 0.05) -> Found:
    """Call functions with hostile input.

    Parameters
    ----------
    seed : of all inputs; input i of a seed is the same for every ``count``.
    count : calls.
    slow : share of the calls that cluster or embed, which take a tenth of a second rather than a thousandth.
    """
    found = Found()
    for i in range(count):
        draw = Draw(np.random.default_rng([seed, i]))
        name, call = draw.pick((SLOW if draw.random.random() < slow else QUICK).items())
        found.tried[name] += 1
        if (fault := _fault(name, call, draw, found)) is not None:
            found.crashes.append(f"{name}, seed {seed}, input {i}: {fault}")
    return found


def _fault(name: str, call: Call, draw: Draw, found: Found) -> str | None:
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # of the draw itself
        warnings.simplefilter("ignore")
        use, promised = call(draw)
    before = most_memory()
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        try:
            result = use()
        except REFUSALS as error:
            found.refused[name] += 1
            fault = None if str(error).strip() else f"{error!r} without a message"
        except Exception as error:
            fault = repr(error)
        else:
            fault = _broken_promise(name, result, promised)
    leaked = [w for w in leaked if not issubclass(w.category, DOCUMENTED)]
    if leaked:
        return f"{leaked[0].category.__name__}: {leaked[0].message}"
    if (taken := most_memory() - before) > MOST_MEMORY:
        return f"took {taken >> 10} MB"
    return fault


def _broken_promise(name: str, result: Any, promised: Callable[[Any], Any]) -> str | None:
    if not promised(result):
        return f"returned {result!r}"
    values = list(result.values()) if isinstance(result, dict) else result
    if isinstance(result, str) or name in MAY_BE_NO_NUMBER:
        return None
    if not torch.isfinite(torch.as_tensor(values)).all():
        return f"returned {result!r}, which is not finite"
    return None


def most_memory() -> int:
    """Kilobytes that the process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
