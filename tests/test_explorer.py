"""The explorer's data agree with the released run that they come from, and a page carries what it shows."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import pdist
from sklearn.neighbors import NearestNeighbors

import nclib
from nclib.chapters import explorer
from nclib.data.datasets import load, missing_files
from nclib.measures.variance import explained_variance_of
from nclib.paths import PACKAGE
from nclib.report.explorer import LARGEST
from nclib.runs.evaluation import measures
from nclib.runs.released import released_runs

NAME = "cifar10-laptop-seed0"
WITH_FEATURES = "cifar10-unaugmented-seed0"  # has the labels of all test images, in the data set's order


@pytest.fixture(scope="module")
def data():
    return json.loads((explorer.FOLDER / "data.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def run():
    return released_runs(NAME)[0]


@pytest.fixture(scope="module")
def test_labels():
    return released_runs(WITH_FEATURES)[0].features("test").fine.numpy()


def words(text):
    return explorer.decoded(text, np.uint16)


def values_of(data, name):
    """(E or 1, N) labels of a colouring."""
    text = next(each["values"] for each in data["colourings"] if each["name"] == name)
    return explorer.decoded(text).reshape(-1, len(words(data["ids"])))


def curve_of(data, start):
    """(views, E) numbers of the curve whose name starts so."""
    return np.array(next(each["values"] for each in data["curves"] if each["name"].startswith(start)))


def points_of(data, view):
    return words(data["views"][view]["points"]).reshape(len(data["epochs"]), -1, 2)


def purity(points, labels):
    nearest = NearestNeighbors(n_neighbors=10).fit(points).kneighbors(return_distance=False)
    return (labels[nearest] == labels[:, None]).mean()


def test_it_shows_the_released_run(data, run):
    assert data["provenance"]["key"] == run.key
    assert data["provenance"]["config"] == run.record["config"]
    assert data["epochs"] == run.measured_epochs
    assert not data["provenance"]["embedded"]["commit"].endswith("-dirty")
    assert f"seed {run.config.seed}" in data["caption"]


def test_images_are_the_first_of_each_class(data, test_labels):
    ids = words(data["ids"])
    assert sorted(ids) == sorted(i for c in range(10) for i in np.flatnonzero(test_labels == c)[:150])
    np.testing.assert_array_equal(values_of(data, "Class")[0], test_labels[ids])
    np.testing.assert_array_equal(values_of(data, "Super-class")[0], test_labels[ids] % 5)


def test_explained_variance_is_that_of_the_run(data, run):
    found = curve_of(data, "Explained variance")
    group = run.grouping.fine_to_coarse
    expected = [explained_variance_of(run.moments("test", epoch), group) for epoch in data["epochs"]]
    np.testing.assert_allclose(found[:-1].T, np.stack(expected), atol=1e-5)


def test_curves_are_what_the_run_was_released_with(data, run):
    rows = [row for row in run.results["measures"] if row["split"] == "test"]
    for name, key in (("Explained variance", "explained_variance"), ("NC1", "nc1")):
        np.testing.assert_allclose(curve_of(data, name)[-1], [row[key] for row in rows], atol=1e-5)
    matching = [row["kmeans"] for row in rows]  # clustered on another day
    np.testing.assert_allclose(curve_of(data, "Pseudo-labels")[-1], matching, atol=0.002)
    train = [row["accuracy"] for row in measures(run) if row["split"] == "train"]
    np.testing.assert_allclose(curve_of(data, "Accuracy")[-1], train, atol=1e-5)


def test_predictions_are_as_often_right_as_those_of_all_test_images(data, run):
    wrong = values_of(data, "Prediction")
    predicted, coarse = values_of(data, "Predicted super-class"), values_of(data, "Super-class")
    np.testing.assert_array_equal(wrong, predicted != coarse)
    accuracy = [row["accuracy"] for row in run.results["measures"] if row["split"] == "test"]
    margin = 4 * np.sqrt(0.25 / wrong.shape[1])
    np.testing.assert_allclose(1 - wrong.mean(axis=1), accuracy, atol=margin)


def test_pseudo_labels_stay_inside_super_classes(data):
    np.testing.assert_array_equal(
        values_of(data, "Pseudo-label (k-means)") % 5, np.tile(values_of(data, "Super-class"), (15, 1))
    )


def test_neighbours_in_the_plane_are_as_alike_as_in_the_released_embedding(data, run, test_labels):
    ids = words(data["ids"])
    for view in range(5):
        rows = words(data["views"][view]["rows"])
        ours, theirs = points_of(data, view)[-1], run.embedding[ids[rows]]
        assert purity(ours, test_labels[ids[rows]]) == pytest.approx(
            purity(theirs, test_labels[ids[rows]]), abs=0.05
        )


def test_the_origin_is_the_mean_and_every_epoch_has_one_size(data):
    for view in range(len(data["views"])):
        points = points_of(data, view) / (LARGEST / 2) - 1
        np.testing.assert_allclose(points.mean(axis=1), 0, atol=1e-4)
        sizes = np.square(points).mean(axis=(1, 2))
        np.testing.assert_allclose(sizes, sizes[0], rtol=1e-3)


def test_embeddings_are_turned_rigidly_and_move_less():
    rng = np.random.default_rng(0)
    shape = rng.normal(size=(40, 2)) * [3, 1]
    angles = rng.uniform(0, 2 * np.pi, size=5)
    turns = np.array([[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in angles])
    turns[2] = turns[2] @ np.diag([1, -1])
    aligned = explorer.turned(np.einsum("nd,ekd->enk", shape, turns))
    np.testing.assert_allclose(aligned, np.tile(aligned[:1], (5, 1, 1)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(aligned[0], axis=1), np.linalg.norm(shape, axis=1))
    assert aligned[0, :, 0].std() > 2 * aligned[0, :, 1].std()


def test_a_lighter_page_has_the_first_images_of_each_class(data, test_labels):
    light = json.loads(explorer.browser_data(explorer.FOLDER, images=50))
    ids = words(light["ids"])
    assert sorted(ids) == sorted(i for c in range(10) for i in np.flatnonzero(test_labels == c)[:50])
    np.testing.assert_array_equal(values_of(light, "Class")[0], test_labels[ids])
    for view in range(len(data["views"])):
        rows, all_rows = words(light["views"][view]["rows"]), words(data["views"][view]["rows"])
        kept = np.isin(all_rows, rows)
        np.testing.assert_array_equal(words(light["ids"])[rows], words(data["ids"])[all_rows[kept]])
        np.testing.assert_array_equal(points_of(light, view), points_of(data, view)[:, kept])
    assert len(light["sheets"]["urls"]) == 10


@pytest.mark.parametrize("images", [0, 75, 200])
def test_refuses_images_that_are_not_there(images):
    with pytest.raises(ValueError, match="multiple of 50"):
        explorer.browser_data(explorer.FOLDER, images=images)


def test_what_a_page_carries_is_light_and_closes_no_script():
    assert len(explorer.browser_data(explorer.FOLDER)) < 1_000_000
    light = explorer.browser_data(explorer.FOLDER, images=50)
    assert len(light) < 350_000
    assert "</" not in light
    assert "http" not in light
    script = (PACKAGE / "report" / "explorer.js").read_text("utf-8")
    assert len(script) < 20_480
    assert "</" not in script


def test_thumbnails_are_the_images(data):
    if missing_files("cifar10"):
        pytest.skip("CIFAR-10 is not on this machine")
    images = load("cifar10").test.images
    sheets, ids = data["sheets"], words(data["ids"])
    urls = json.loads(explorer.browser_data(explorer.FOLDER))["sheets"]["urls"]
    for row in (0, 49, 50, 777, 1499):
        content = base64.b64decode(urls[row // sheets["each"]].partition(",")[2])
        sheet = np.asarray(Image.open(io.BytesIO(content))).astype(int)
        down, right = divmod(row % sheets["each"], sheets["columns"])
        tile = sheet[32 * down : 32 * (down + 1), 32 * right : 32 * (right + 1)]
        errors = [np.abs(tile - images[i].permute(1, 2, 0).numpy()).mean() for i in ids]
        assert np.argmin(errors) == row
        assert min(errors) < 12


@pytest.fixture(scope="module")
def written(tiny_run, tmp_path_factory):
    """What ``write`` makes of a small run."""
    folder = tmp_path_factory.mktemp("explorer")
    explorer.write(tiny_run, folder)
    return folder, json.loads((folder / "data.json").read_text("utf-8"))


class TestOfARun:
    """What is written of a run, against its features."""

    def test_labels_are_those_of_the_images(self, written, tiny_run):
        _, data = written
        f, rows = tiny_run.features("test"), words(data["ids"])
        assert sorted(rows) == list(range(len(f.h)))  # fewer than are asked for: all
        assert (values_of(data, "Class")[0] == f.fine.numpy()[rows]).all()
        assert (values_of(data, "Super-class")[0] == f.coarse.numpy()[rows]).all()
        for at, epoch in enumerate(tiny_run.measured_epochs):
            shown = tiny_run.features("test", epoch).logits().argmax(1).numpy()[rows]
            assert (values_of(data, "Predicted super-class")[at] == shown).all()
            assert (values_of(data, "Prediction")[at] == (shown != f.coarse.numpy()[rows])).all()

    def test_an_embedding_starts_from_the_one_before(self, written, tiny_run):
        _, data = written
        (name, *_), rows = [view["name"] for view in data["views"]], words(data["ids"])
        assert name == tiny_run.grouping.coarse_names[0]
        rows = rows[words(data["views"][0]["rows"])]
        assert (tiny_run.features("test").coarse[rows] == 0).all()
        start = "pca"
        for epoch, shown in zip(tiny_run.measured_epochs, points_of(data, 0), strict=True):
            start = nclib.tsne(tiny_run.features("test", epoch).h[rows], initialization=start)
            expected, found = pdist(start), pdist(shown)  # turned, mirrored, scaled and rounded since
            np.testing.assert_allclose(found / found.mean(), expected / expected.mean(), atol=1e-3)

    def test_curves_are_measured_on_all_test_images(self, written, tiny_run):
        _, data = written
        for at, epoch in enumerate(tiny_run.measured_epochs):
            f = tiny_run.features("test", epoch)
            shares = nclib.explained_variance(f.h, f.fine, f.coarse).tolist()
            found = curve_of(data, "Explained variance")[:, at]
            np.testing.assert_allclose(found, [*shares, np.mean(shares)], atol=1e-5)  # five decimals
            nc1 = nclib.collapse_metrics(f.h, f.coarse, f.weight)["nc1"]
            np.testing.assert_allclose(curve_of(data, "NC1")[:, at], nc1, atol=1e-5)
            pseudo = nclib.reconstruct_labels(f.h, f.coarse, 2, "kmeans")
            right = nclib.match_labels(pseudo, f.fine).labels == f.fine.numpy()
            each = [right[f.coarse.numpy() == c].mean() for c in range(5)]
            np.testing.assert_allclose(
                curve_of(data, "Pseudo-labels")[:, at], [*each, right.mean()], atol=1e-5
            )

    def test_sheets_are_the_images(self, written):
        folder, data = written
        images, rows = load("digits").test.images, words(data["ids"])
        sheet = np.asarray(Image.open(sorted(folder.glob("sheet-*.webp"))[1]).convert("RGB"), dtype=float)
        tile, place = data["sheets"]["tile"], 13  # the second row's fourth
        at = np.s_[tile : 2 * tile, 3 * tile : 4 * tile]
        shown = images[rows[data["sheets"]["each"] + place]].permute(1, 2, 0).numpy().astype(float)
        others = [images[row].permute(1, 2, 0).numpy().astype(float) for row in rows[:20]]
        gap = abs(sheet[at] - shown).mean()  # WebP is not exact
        assert gap < min(abs(sheet[at] - other).mean() for other in others) / 2
