"""Every public function refuses what it cannot measure, in words, or measures it."""

from __future__ import annotations

import hostile
import numpy as np
import pytest
import torch

import nclib
from nclib.measures import collapse_variants, neighbours, ood_scores

ELSEWHERE = {  # no arrays: recipes and fields, all of which recipe_config checks, or nothing at all
    "get_run", "get_runs", "get_cases", "Run", "released_runs", "released_cases", "RunConfig", "recipe_names",
}  # fmt: skip
OTHER_NAMES = {
    "ClassMoments": "class_moments", "Moments": "moments", "FeatureSet": "outlier_scores",
    "LabelledFeatures": "save_features", "load_features": "save_features",
    "FeatureShards": "shards", "save_moments": "shards", "load_moments": "shards",
    "principal_components": "shards",
}  # fmt: skip


def test_every_public_function_is_attacked():
    attacked = {*hostile.QUICK, *hostile.SLOW}
    assert {OTHER_NAMES.get(name, name) for name in set(nclib._HOME) - ELSEWHERE} <= attacked


@pytest.mark.parametrize("seed", range(4))
def test_no_input_crashes(seed):
    found = hostile.attack(seed, 500, slow=0.03)
    assert found.crashes == []
    assert 100 < sum(found.refused.values()) < 400
    assert all(found.refused[name] < found.tried[name] for name in hostile.QUICK)


def test_inputs_do_not_depend_on_their_number():
    short, long = hostile.attack(9, 5, slow=0), hostile.attack(9, 10, slow=0)
    assert short.tried < long.tried
    assert short.refused <= long.refused


H = np.random.default_rng(0).normal(size=(40, 3))
Y = np.arange(40) % 4
COARSE = Y // 2


@pytest.mark.parametrize(
    "call",
    [
        lambda y: nclib.class_distances(H, y),
        lambda y: nclib.msdr(H, y, COARSE),
        lambda y: nclib.explained_variance(H, y, COARSE),
        lambda y: nclib.explained_variance(H, Y, y),
        lambda y: nclib.reconstruct_labels(H, y),
        lambda y: nclib.match_labels(y, Y),
        lambda y: nclib.match_labels(Y, y),
        lambda y: nclib.choose_k(H, y),
        lambda y: nclib.linear_probe(H, y),
        lambda y: nclib.linear_probe(H, Y).per_class_accuracy(H, y),
        lambda y: nclib.neighbour_purity(H, y, COARSE),
        lambda y: nclib.Moments.of(H, y),
        lambda y: nclib.ClassMoments.of(H, y),
    ],
)
@pytest.mark.parametrize("label", [10**9, 2**15])
def test_absurd_class_numbers_are_refused_before_memory_is_taken(call, label):
    y = Y.copy()
    y[7] = label
    before = hostile.most_memory()
    with pytest.raises(ValueError, match=f"must be below 32768.*label 7 is {label}"):
        call(y)
    assert hostile.most_memory() - before < 20_000


@pytest.mark.parametrize("label", [100, 2**15 - 1])
def test_classes_without_samples_are_refused_before_memory_is_taken(label):
    y = np.where(np.arange(40) == 7, label, Y)
    before = hostile.most_memory()
    for call in (nclib.class_distances, lambda h, y: nclib.msdr(h, y, COARSE), nclib.Moments.of):
        with pytest.raises(ValueError, match="class"):
            call(H, y)
    assert hostile.most_memory() - before < 20_000


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.uint64, np.int8])
def test_labels_of_every_integer_type_measure_alike(dtype):
    y, coarse = Y.astype(dtype), COARSE.astype(dtype)
    assert torch.equal(nclib.class_distances(H, y), nclib.class_distances(H, Y))
    assert torch.equal(nclib.msdr(H, torch.from_numpy(y), coarse), nclib.msdr(H, Y, COARSE))
    assert nclib.match_labels(y, list(Y)).accuracy == 1


@pytest.mark.parametrize(
    "stored",
    [
        np.asfortranarray,
        lambda h: np.ascontiguousarray(h[::-1])[::-1],
        lambda h: h.astype(">f8"),
        lambda h: h.tolist(),
        lambda h: torch.tensor(h, requires_grad=True),
        lambda h: torch.tensor(h.T.copy()).T,
    ],
)
def test_how_features_lie_in_memory_changes_no_measure(stored):
    weight = H[:4]
    torch.testing.assert_close(nclib.class_distances(stored(H), Y), nclib.class_distances(H, Y))
    found, expected = (nclib.collapse_metrics(f(H), Y, f(weight)) for f in (stored, np.asarray))
    assert found == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(nclib.nc_loss(stored(H), Y, stored(weight)), nclib.nc_loss(H, Y, weight))


def test_read_only_memory_map(tmp_path):
    np.save(tmp_path / "h.npy", H)
    mapped = np.load(tmp_path / "h.npy", mmap_mode="r")
    assert nclib.nc_loss(mapped, Y, H[:4]) == nclib.nc_loss(H, Y, H[:4])
    assert torch.equal(nclib.class_distances(mapped, Y), nclib.class_distances(H, Y))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_measured_in_float64(dtype):
    h = torch.tensor(H, dtype=dtype)
    assert torch.equal(nclib.class_distances(h, Y), nclib.class_distances(h.double(), Y))
    assert nclib.nc_loss(h, Y, h[:4]).dtype == dtype


def test_integer_features_lose_no_digits_of_the_loss():
    h = np.round(3 * H).astype(int)
    assert nclib.nc_loss(h, Y, H[:4]) == nclib.nc_loss(h.astype(float), Y, H[:4])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["bias", "means", "weight"])
def test_a_head_that_is_not_finite(name, bad):
    head = {"bias": np.zeros(4), "means": H[:4].copy(), "weight": H[:4].copy()}
    head[name].flat[1] = bad
    with pytest.raises(ValueError, match=r"(bias|means|weights) must be finite"):
        nclib.collapse_metrics(H, Y, **head)


@pytest.mark.parametrize("value", [0.1, 1e10, 0])
def test_equal_features_have_no_picture(value):
    with pytest.raises(ValueError, match="all 40 are equal"):
        nclib.tsne(np.full((40, 3), value))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nclib.class_distances(H * 1e200, Y), r"reach .*e\+200"),
        (lambda: nclib.reconstruct_labels(H, COARSE, k=2.5), r"k=2\.5: expected a whole number"),
        (lambda: nclib.reconstruct_labels(H, COARSE, k=[2, True]), "k=True: expected a whole number"),
        (lambda: nclib.reconstruct_labels(H, COARSE, seed=10**30), "seed=10{30}: expected a whole number"),
        (lambda: nclib.reconstruct_labels(H, COARSE, 20, "spectral"), "k=20 is all of them"),
        (lambda: nclib.reconstruct_labels(H, COARSE[:-1]), r"shape \(40,\)"),
        (lambda: nclib.neighbour_purity(H, Y, COARSE, k=2.5), r"k=2\.5"),
        (lambda: nclib.choose_k(H, COARSE, most=2.5), r"most=2\.5"),
        (lambda: nclib.choose_k(0 * H, COARSE, "gap", 2), "leave no scatter"),
        (lambda: nclib.tsne(H, perplexity=float("nan")), "perplexity=nan"),
        (lambda: nclib.tsne(H, seed=-1), "seed=-1"),
        (lambda: nclib.linear_probe(0 * H, Y), "all 40 are equal"),
        (lambda: nclib.linear_probe(H, Y).predict(H[:, :2]), "dimension 3 here; got 2"),
        (lambda: nclib.match_labels([], []), "one at least"),
        (lambda: nclib.collapse_metrics(H, Y, H[:4], correction=2), "correction=2"),
        (lambda: nclib.relative_distances(H[:2]), r"\(C, C\)"),
        (lambda: nclib.ClassMoments(10**9, 10**9), "num_classes=1000000000"),
        (lambda: nclib.ClassMoments(2, 10**6), "numbers; choose"),
        (lambda: nclib.ClassMoments(2.5, 3), r"num_classes=2\.5"),
        (lambda: nclib.Moments.of(H, Y, 10**6), "each of 1000000 classes needs a sample"),
        (lambda: nclib.Moments.of(H, Y).grouped([0, 1, 0, 9]), "below the class count 4"),
        (lambda: collapse_variants.simplex_error(H[:1]), "a single one"),
        (lambda: collapse_variants.uniformity(0 * H), "vector 0 is zero"),
        (lambda: ood_scores.detection_of(H, H), r"scores must have shape \(N,\)"),
        (lambda: ood_scores.noise_like(torch.zeros(2, 3), 0), r"\(N, C, H, W\) uint8"),
    ],
)
@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_refuses_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_unknown_score_is_named():
    train = nclib.FeatureSet(torch.tensor(H), *2 * [torch.tensor(Y)], torch.tensor(H[:4]), torch.zeros(4))
    with pytest.raises(ValueError, match=r"unknown scores \['x'\]; choose among softmax"):
        ood_scores.outlier_scores(train, H, scores=["x"])
    with pytest.raises(ValueError, match="one dimension; got 3, 3 and 2"):
        ood_scores.outlier_scores(train, H[:, :2])


def test_a_label_that_no_sample_has_is_no_partner():
    matched = nclib.match_labels([0, 0, 1, 1, 2], [0, 0, 3, 3, 3])
    assert matched.labels.tolist() == [0, 0, 3, 3, -1]
    assert matched.accuracy == 0.8


def test_alone_in_its_class_no_chance_is_defined():
    assert np.isnan(neighbours.purity_by_chance([0, 0, 1], [0, 0, 1])[2])
