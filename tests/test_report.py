"""The report: its numbers agree with what was planted, and its page is whole whatever the names are."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from base64 import b64decode, b64encode
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from scipy.spatial.distance import pdist
from scipy.stats import beta

import nclib
from nclib.cli import main
from nclib.errors import DataError, NclibError, StoreError
from nclib.measures.subpopulations import subpopulations
from nclib.report import findings as module
from nclib.report import geometry, pictures, plane
from nclib.report.explorer import decoded
from nclib.report.page import shown_classes, write_report
from nclib.storage.feature_files import LabelledFeatures

NAMES = (
    "<script>alert(1)</script>",
    "\"'&<!--<script>",
    "Füße \U0001f430 \u202e",
    "b" * 10_000,
    "{{ 7 * 7 }}",
)
SIZES = (160, 120, 10, 0, 60)  # of classes; the first hides two sub-populations


def planted(seed: int = 0) -> tuple[LabelledFeatures, np.ndarray]:
    """Features of five classes, and the half that each sample of the first belongs to."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(5), SIZES))
    h = rng.normal(size=(len(y), 6)) + 20 * np.eye(6)[y]
    h[y == 4] = 1
    part = (np.cumsum(y == 0) % 2) * (y == 0)
    h[:, 5] += 8 * part
    logits = np.eye(5)[np.where(part & (np.arange(len(y)) % 3 == 0), 1, y)]
    ids = [f"../../etc/passwd{i}" for i in range(len(y))]
    return LabelledFeatures(h.astype(np.float32), y, logits.astype(np.float32), tuple(ids), NAMES), part


@pytest.fixture(scope="module")
def features():
    return planted()[0]


@pytest.fixture(scope="module")
def numbers(features):
    found = subpopulations(features.h, features.y, 0.05, 0)
    return module.findings(features, found, 0.05, 0)


@pytest.fixture(scope="module")
def written(features, tmp_path_factory):
    """Folder of a report of these features, with images."""
    folder = tmp_path_factory.mktemp("report")
    nclib.save_features(folder / "features.npz", *features)
    images = np.random.default_rng(0).integers(256, size=(len(features.y), 5, 9, 3), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    write_report(folder / "features.npz", folder / "report.html", images=folder / "images.npy")
    return folder


class TestFindings:
    def test_only_the_planted_class_is_split(self, numbers):
        assert [(row["label"], row["count"]) for row in numbers["classes"]] == [
            (0, 2), (1, 1), (2, 1), (4, 1),
        ]  # fmt: skip
        assert numbers["empty"] == 1
        assert [row["verdict"] for row in numbers["classes"]] == [
            "two sub-populations",
            "no evidence for more than one",
            "not tested: fewer than 40 samples",
            "not tested: all samples are equal",
        ]
        assert numbers["sentence"] == (
            f"1 of 4 classes hides sub-populations (2 could be tested): “{NAMES[0]}” (2)."
        )

    def test_rows_are_those_of_the_file(self, features, numbers):
        _, part = planted()
        (shown,) = numbers["details"]
        halves = [set(part[each["random"]]) for each in shown["parts"]]
        assert sorted(map(tuple, halves)) == [(0,), (1,)]
        everything = [row for each in shown["parts"] for rows in each.values() for row in rows]
        assert (features.y[everything + shown["at_random"][0]] == 0).all()

    def test_borderline_samples_lie_between_the_centres(self, features, numbers):
        middle = features.h[features.y == 0, 5].mean()
        away = np.abs(features.h[:, 5] - middle)
        for each in numbers["details"][0]["parts"]:
            assert away[each["borderline"]].max() < np.median(away[features.y == 0])

    def test_what_nothing_looks_like_is_not_split(self, numbers):
        null = numbers["details"][0]["null"]
        assert null["count"] == 1 and null["p"] > 0.05

    def test_halves_agree(self, numbers):
        """Means are 8 widths apart: one sample in 30,000 lies beyond the middle."""
        assert numbers["details"][0]["found_again"] == geometry.REPEATS
        assert min(numbers["details"][0]["agreement"]) > 0.95

    def test_windows_hold_what_they_say(self, numbers):
        profile = numbers["details"][0]["profile"]
        left, valley, right = profile["windows"]["counts"]
        assert sum(profile["counts"]) == SIZES[0] // 2
        assert valley < min(left, right)

    def test_accuracy_of_the_worst_sub_population_comes_first(self, features, numbers):
        parts = numbers["accuracy"]["parts"]
        assert [row["accuracy"] for row in parts] == sorted(row["accuracy"] for row in parts)
        worst = parts[0]
        right, n = round(worst["accuracy"] * worst["n"]), worst["n"]
        tail = 0.05 / len(parts) / 2
        assert worst["low"] == pytest.approx(beta.ppf(tail, right, n - right + 1))
        assert worst["high"] == pytest.approx(beta.ppf(1 - tail, right + 1, n - right))
        assert parts[1]["accuracy"] == parts[1]["high"] == 1

    def test_share_inside_classes_is_that_of_the_sums_of_squares(self, features, numbers):
        h, y = features.h.astype(float), features.y
        within = sum(np.square(h[y == c] - h[y == c].mean(axis=0)).sum() for c in np.unique(y))
        total = np.square(h - h.mean(axis=0)).sum()
        assert numbers["collapse"]["share_within"] == pytest.approx(within / total)

    @pytest.mark.parametrize(
        ("h", "y", "nc1", "share"),
        [(np.ones((3, 2)), [0, 0, 0], None, None), (np.eye(4), [0, 0, 0, 0], None, 1.0)],
    )
    def test_collapse_of_one_class(self, h, y, nc1, share):
        found = module.collapse(LabelledFeatures(h.astype(np.float32), np.array(y)))
        assert found == {"nc1": nc1, "share_within": share}

    @pytest.mark.parametrize(
        ("counts", "said"),
        [
            ([], "Nothing was tested: no class has 40 samples that differ."),
            ([1], "There is no evidence for sub-populations in the only class."),
            ([1, 1], "There is no evidence for sub-populations in any of 2 classes."),
            ([2], "1 of 1 class hides sub-populations: “c” (2)."),
            ([2] * 7, f"7 of 7 classes hide sub-populations: {'“c” (2), ' * 4}“c” (2) and 2 more."),
        ],
    )  # fmt: skip
    def test_sentences(self, counts, said):
        rows = [{"n": 50, "count": k, "name": "c", "verdict": ""} for k in counts]
        assert module.sentence(rows) == said

    @pytest.mark.parametrize(
        ("judged", "said"),
        [
            ([], "Features of 2 classes are rounded too coarsely to be judged: extract them in float32."),
            (
                ["not tested"],
                "Features of 2 classes are rounded too coarsely to be judged: extract them in float32.",
            ),
            (
                ["no evidence for more than one"],
                "There is no evidence for sub-populations in any of 3 classes (1 could be tested). "
                "Features of 2 classes are rounded too coarsely to be judged: extract them in float32.",
            ),
        ],
    )
    def test_classes_that_are_rounded_too_coarsely_are_not_counted(self, judged, said):
        rows = [{"n": 50, "count": 2, "name": "c", "verdict": module.TOO_COARSE}] * 2
        rows += [{"n": 50, "count": 1, "name": "d", "verdict": verdict} for verdict in judged]
        assert module.sentence(rows) == said


class TestGeometry:
    def test_separation_is_the_distance_of_means_in_widths(self):
        rng = np.random.default_rng(0)
        labels = np.arange(4000) % 2
        x = rng.normal(size=(4000, 3)) * [1, 5, 2] + [[4, 0, 0]] * labels[:, None]
        # standard error of a gap d of 4000 samples: about sqrt(4 / n + d^2 / (2 n)) = 0.06
        assert geometry.separation(x, labels) == pytest.approx(4, abs=0.25)

    def test_one_gaussian_cut_in_the_middle(self):
        x = np.random.default_rng(0).normal(size=(20_000, 2)) * [3, 1]
        assert geometry.separation(x, (x[:, 0] > 0).astype(int)) == pytest.approx(geometry.CUT, abs=0.1)

    def test_many_dimensions_do_not_separate(self):
        """Labels that mean nothing, in more dimensions than samples."""
        x = np.random.default_rng(0).normal(size=(100, 300))
        assert geometry.separation(x, np.arange(100) % 2) < 1

    def test_points_have_no_separation(self):
        assert geometry.separation(np.repeat(np.eye(2), 50, axis=0), np.repeat([0, 1], 50)) is None

    def test_two_samples_have_no_separation(self):
        assert geometry.separation(np.eye(8), np.repeat([0, 1], [6, 2])) is None


class Page(HTMLParser):
    """Tags that are open where they should not be, all elements with their attributes, and the text."""

    VOID = ("meta", "img", "br", "line", "rect", "circle", "path")

    def __init__(self, text: str):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)


class TestPage:
    def test_names_are_text(self, written):
        page = Page((written / "report.html").read_text("utf-8"))
        assert page.open == []
        kinds = [attributes.get("type") for tag, attributes in page.elements if tag == "script"]
        assert kinds == ["application/json", None]
        text = "".join(page.text)
        assert NAMES[0] in text and NAMES[1] in text and NAMES[4] in text and "b" * 81 not in text
        assert "rounded too coarsely" not in text and "left out: 1." in text

    def test_does_not_lie_where_its_numbers_go(self, features, tmp_path):
        nclib.save_features(tmp_path / "f.npz", *features[:2])
        with pytest.raises(StoreError, match="the numbers go there"):
            write_report(tmp_path / "f.npz", tmp_path / "r.json")
        assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]

    def test_names_turn_no_text_around_them(self, features, tmp_path):
        """A name that overrides the direction of writing stands in an element that isolates it."""
        turned = tmp_path / "f.npz"
        nclib.save_features(turned, *features[:2], class_names=[f"\u202e{i}" for i in range(5)])
        write_report(turned, tmp_path / "r.html")
        text = (tmp_path / "r.html").read_text("utf-8")
        shown = re.sub(r"<script.*?</script>|<[^<>]*>(?<!<bdi>)(?<!</bdi>)", "", text, flags=re.DOTALL)
        assert shown.count("\u202e") > 6
        assert "\u202e" not in re.sub(r"<bdi>.*?</bdi>", "", shown)

    def test_only_the_explorers_script_may_run_and_nothing_is_loaded(self, written):
        text = (written / "report.html").read_text("utf-8")
        script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
        digest = b64encode(hashlib.sha256(script[-1].encode()).digest()).decode()
        assert len(script) == 1 and "default-src 'none'" in text
        assert f"script-src 'sha256-{digest}'" in text
        for tag, attributes in Page(text).elements:
            assert tag not in ("link", "iframe", "object", "base", "form", "a")
            assert not any(name.startswith("on") for name in attributes)
            if tag == "img":
                assert attributes["src"].startswith("data:image/webp;base64,") and attributes["alt"]

    def test_headings_go_down_one_at_a_time_and_tables_have_captions(self, written):
        elements = Page((written / "report.html").read_text("utf-8")).elements
        levels = [int(tag[1]) for tag, _ in elements if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(b - a <= 1 for a, b in pairwise(levels))
        tags = [tag for tag, _ in elements]
        assert tags.count("table") == tags.count("caption") > 3
        assert all("scope" in attributes for tag, attributes in elements if tag == "th")
        assert dict(elements)["html"]["lang"] == "en"

    def test_the_explorer_has_every_sample_that_it_shows(self, features, written):
        text = (written / "report.html").read_text("utf-8")
        data = json.loads(re.search(r'class="explorer-data">(.*?)</script>', text, re.DOTALL)[1])
        rows = [int(name.removeprefix("../../etc/passwd")) for name in data["ids"]]
        assert sorted(rows) == list(range(len(features.y)))
        names = data["colourings"][1]["categories"]
        classes = [names[c] for c in decoded(data["colourings"][1]["values"])]
        assert classes == [module.shortened(NAMES[c]) for c in features.y[rows]]
        assert data["views"][1]["name"] == NAMES[0] and len(data["views"]) == 2
        assert len(data["sheets"]["urls"]) == -(-len(rows) // 50)

    def test_the_json_file_has_the_numbers(self, written, numbers):
        found = json.loads((written / "report.json").read_text("utf-8"))
        assert {name: found[name] for name in numbers} == numbers
        content = (written / "features.npz").read_bytes()
        assert found["sha256"] == hashlib.sha256(content).hexdigest()

    def test_collapsed_sub_populations_are_a_page_too(self, tmp_path):
        """Two points a class: no width in which their distance could be given."""
        y = np.arange(400) % 2
        nclib.save_features(tmp_path / "f.npz", np.eye(4)[2 * y + np.arange(400) // 200], y)
        found = write_report(tmp_path / "f.npz", tmp_path / "r.html")
        assert [(row["count"], row["separation"]) for row in found["classes"]] == [(2, None)] * 2
        assert json.loads((tmp_path / "r.json").read_text("utf-8")) == found

    def test_copies_of_a_sample_are_no_sign_of_rounding(self, tmp_path):
        """Of a hundred samples, rounded finely enough, one that stands there a thousand times."""
        h = np.random.default_rng(0).normal(64, 6, size=(100, 8))
        h = torch.tensor(np.concatenate([h, np.repeat(h[:1], 900, axis=0)])).to(torch.bfloat16)
        with warnings.catch_warnings():
            warnings.simplefilter("error", nclib.measures.arrays.PrecisionWarning)
            nclib.subpopulations(h, np.zeros(1000, dtype=int))
        nclib.save_features(tmp_path / "f.npz", h, np.zeros(1000, dtype=int))
        (row,) = write_report(tmp_path / "f.npz", tmp_path / "r.html")["classes"]
        assert row["rounded"] is None

    def test_a_class_that_half_precision_split_is_no_evidence(self, tmp_path):
        """One Gaussian of standard deviations below a step of bfloat16, beside one that is wide."""
        rng = np.random.default_rng(0)
        narrow = rng.uniform(1.1, 1.9, 16) + rng.normal(size=(300, 16)) * np.exp(-0.15 * np.arange(16)) / 128
        h = torch.tensor(np.concatenate([narrow, rng.normal(size=(100, 16))])).to(torch.bfloat16)
        y = np.repeat([0, 1], [300, 100])
        nclib.save_features(tmp_path / "f.npz", h, y)
        found = write_report(str(tmp_path / "f.npz"), str(tmp_path / "r.html"))  # texts are paths, too
        coarse, fine = found["classes"]
        assert coarse["count"] > 1 and coarse["verdict"] == module.TOO_COARSE and fine["rounded"] is None
        assert coarse["rounded"] == {"format": "bfloat16", "steps": pytest.approx(0.3, abs=0.3)}
        assert found["sentence"] == (
            "There is no evidence for sub-populations in any of 2 classes (1 could be tested). "
            "Features of 1 class are rounded too coarsely to be judged: extract them in float32."
        )
        assert json.loads((tmp_path / "r.json").read_text("utf-8")) == found
        page = Page((tmp_path / "r.html").read_text("utf-8"))
        text = " ".join("".join(page.text).split())
        assert page.open == [] and "what follows is no evidence" in text
        assert "All features of this file are numbers of bfloat16. Inside 1 class " in text

    def test_labels_without_samples_are_counted_only(self, tmp_path):
        h = np.random.default_rng(0).normal(size=(90, 2))
        nclib.save_features(tmp_path / "f.npz", h, np.repeat([0, 30_000], 45))
        found = write_report(tmp_path / "f.npz", tmp_path / "r.html")
        assert [row["label"] for row in found["classes"]] == [0, 30_000] and found["empty"] == 29_999
        text = (tmp_path / "r.html").read_text("utf-8")
        assert "left out: 29,999." in text and len(text) < 200_000

    def test_neither_file_is_there_without_the_other(self, tmp_path, monkeypatch):
        nclib.save_features(tmp_path / "f.npz", np.eye(3), [0, 0, 0])
        monkeypatch.setattr("nclib.report.page.findings", lambda *_: {"n": float("inf")})
        monkeypatch.setattr("nclib.report.page.page", lambda *_: "")
        with pytest.raises(ValueError, match="JSON"):
            write_report(tmp_path / "f.npz", tmp_path / "r.html")
        assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]

    @pytest.mark.parametrize(
        ("h", "y"),
        [
            (np.ones((1, 1)), [0]),
            (np.ones((50, 2)), [0] * 50),
            (np.random.default_rng(0).normal(size=(60, 90)), [3] * 60),
            (np.random.default_rng(0).normal(size=(60, 1)), [0] * 60),
        ],
        ids=["one sample", "equal samples", "one class, more dimensions than samples", "one feature"],
    )
    def test_little_is_a_page_too(self, tmp_path, h, y):
        nclib.save_features(tmp_path / "f.safetensors", h, y)
        found = write_report(tmp_path / "f.safetensors", tmp_path / "r.html")
        assert Page((tmp_path / "r.html").read_text("utf-8")).open == []
        assert found["accuracy"] is None and found["details"] == []

    def test_classes_in_the_plane(self):
        y = np.repeat(np.arange(300), 2 + np.arange(300))
        count = np.ones(300, dtype=int)
        count[7] = 2
        shown = shown_classes(count, y)
        assert shown == [7, *range(299, 280, -1)]
        rows = plane.chosen_rows(y, shown, 0)
        assert len(rows) == 9 + 19 * (plane.MOST // 20) and len(set(rows)) == len(rows)

    @pytest.mark.parametrize("dim", [1, 2])
    def test_without_t_sne_two_features_keep_their_distances(self, monkeypatch, dim):
        def absent(*_, **__):
            raise ImportError

        monkeypatch.setattr(plane, "tsne", absent)
        h = np.random.default_rng(0).normal(size=(9, dim))
        points, _ = plane.embedded(h, seed=0)
        assert points.shape == (9, 2)
        np.testing.assert_allclose(pdist(points), pdist(h), rtol=1e-12)


class TestPictures:
    IDS = ("a", "b.png", "../secret", "sub/c", "link", "/etc/passwd", "absent", "", "broken", "\0")

    @pytest.fixture
    def image(self, tmp_path):
        folder = tmp_path / "images"
        (folder / "sub").mkdir(parents=True)
        for name in ("a.jpg", "b.png", "sub/c.webp", "../secret.png"):
            Image.new("RGBA", (3, 500), (200, 0, 0, 255)).convert("RGB").save(folder / name)
        (folder / "link.png").symlink_to(tmp_path / "secret.png")
        (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        return pictures.image_source(folder, self.IDS)

    def test_ids_are_looked_up_in_the_folder_only(self, image):
        found = {name: image(row) is not None for row, name in enumerate(self.IDS)}
        assert {name for name, there in found.items() if there} == {"a", "b.png", "sub/c"}

    def test_a_folder_in_which_no_id_is_found(self, image, tmp_path):
        folder = tmp_path / "images"
        with pytest.raises(DataError, match=r"none of the 2 ids, 'images/a.jpg' .* for example 'a.jpg'"):
            pictures.image_source(folder, ["images/a.jpg", str(folder / "b.png")])
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="it holds no file"):
            pictures.image_source(tmp_path / "empty", ["a"])

    def test_no_program_is_started_for_an_image(self, tmp_path):
        (tmp_path / "a.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
        assert pictures.image_source(tmp_path, ["a"])(0) is None

    @pytest.mark.parametrize(
        ("name", "dtype", "first", "last"),
        [
            ("x.png", np.uint16, 0, 65_535),
            ("x.tif", np.uint16, 300, 4_395),  # of 12 bits
            ("x.tif", np.int32, -(2**31), 2**31 - 1),
            ("x.tif", np.float32, -0.25, 0.75),
        ],
    )
    def test_more_than_eight_bits_are_shown_from_black_to_white(self, tmp_path, name, dtype, first, last):
        ramp = np.linspace(first, last, 256).astype(dtype).reshape(16, 16)
        Image.fromarray(ramp).save(tmp_path / name)
        shown = np.asarray(pictures.image_source(tmp_path, ["x"])(0))
        # a step of the ramp is one grey level; 16 bits round it by a 16th at most
        np.testing.assert_allclose(shown[..., 0], np.arange(256).reshape(16, 16), atol=1)
        assert (shown == shown[..., :1]).all()

    def test_values_that_are_no_numbers_hide_no_others(self, tmp_path):
        pixels = np.array([[np.nan, 1, 2, np.inf, -np.inf]], np.float32)
        Image.fromarray(pixels).save(tmp_path / "x.tif")
        Image.fromarray(np.full((2, 2), 3, np.float32)).save(tmp_path / "y.tif")
        Image.fromarray(np.full((2, 2), np.nan, np.float32)).save(tmp_path / "z.tif")
        x, y, z = (pictures.image_source(tmp_path, "xyz")(row) for row in range(3))
        assert np.asarray(x)[0, :, 0].tolist() == [0, 0, 255, 255, 0]
        assert not np.asarray(y).any() and z is None

    @pytest.mark.parametrize("shape", [(2, 4, 7), (2, 4, 7, 1), (2, 1, 1, 3), (2, 300, 2, 4)])
    @pytest.mark.parametrize("ending", [".npy", ".npz", ".safetensors"])
    def test_arrays_of_every_shape(self, tmp_path, shape, ending):
        images = np.full(shape, 7, np.uint8)
        path = tmp_path / f"x{ending}"
        if ending == ".safetensors":
            save_file({"images": images}, path)
        else:
            (np.save if ending == ".npy" else np.savez)(path, images)
        found = pictures.image_source(path, "ab")(1)
        assert found.size == shape[2:0:-1]
        assert max(found.getpixel((0, 0))) == 7
        assert pictures.tile(found).shape == (3, 32, 32)
        assert b64decode(pictures.data_url(found).partition(",")[2])[8:12] == b"WEBP"

    @pytest.mark.parametrize(
        ("images", "message"),
        [
            (np.zeros((3, 4, 4), np.uint8), "3 images, the feature file 2 samples"),
            (np.zeros((2, 3, 32, 32), np.uint8), "channels last"),
            (np.zeros((2, 4, 4)), "uint8"),
            (np.zeros((2, 0, 4), np.uint8), "uint8"),
            (np.zeros(2, np.uint8), "uint8"),
            (np.array([None, None]), "without pickled objects"),
        ],
    )
    def test_other_arrays_are_refused(self, tmp_path, images, message):
        np.save(tmp_path / "x.npy", images)
        with pytest.raises(DataError, match=message):
            pictures.image_source(tmp_path / "x.npy", "ab")

    def test_other_files_are_refused(self, tmp_path):
        np.savez(tmp_path / "x.npz", a=np.zeros(2), b=np.zeros(2))
        (tmp_path / "x.txt").touch()
        for name, message in (("x.npz", "2 arrays"), ("x.txt", "folder of images"), ("y", "No such file")):
            with pytest.raises(NclibError, match=message):
                pictures.image_source(tmp_path / name, "ab")

    def test_without_an_image_a_tile_is_grey(self):
        assert (pictures.tile(None) == 128).all()


class TestCommand:
    def test_writes_both_files_and_says_what_was_found(self, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        np.save("h.npy", np.random.default_rng(0).normal(size=(45, 2)))
        np.save("y.npy", np.zeros(45))
        assert main(["report", "h.npy", "--labels", "y.npy", "--level", "0.01", "--seed", "3"]) == 0
        assert "no evidence for sub-populations in the only class" in capsys.readouterr().out
        assert json.loads(Path("report.json").read_text("utf-8"))["level"] == 0.01
        assert main(["report", "h.npy", "--labels", "y.npy"]) == 1
        assert "report.html is there already" in capsys.readouterr().err
        assert main(["report", "h.npy", "--labels", "y.npy", "--force"]) == 0

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["absent.npz"], "No such file"),
            (["y.npy"], "no labels"),
            (["y.npy", "--labels", "y.npy"], "real (N, D) array"),
            (["y.npy", "--output", "x.json"], "ending .html"),
            (["y.npy", "--output", "y.npy", "--force"], "it is read here"),
            (["h.npy", "--labels", "y.npy", "--output", "y.npy", "--force"], "it is read here"),
            (["h.npy", "--images", "y.npy", "--output", "y.npy", "--force"], "it is read here"),
            (["y.npy", "--output", "no/x.html"], "no folder"),
            (["y.npy", "--output", "."], "it is a folder"),
            (["y.npy", "--output", ""], "it is a folder"),
            (["y.npy", "--output", "a" * 300], "File name too long"),
            (["a" * 300 + ".npy"], "File name too long"),
            (["h.npy", "--labels", "y.npy", "--images", "a" * 300], "File name too long. Choose a shorter"),
            (["absent.npz", "--output", "there.html"], "there.html is there already"),
            (["absent.npz", "--output", "there.html", "--force"], "No such file"),
        ],
    )
    def test_refusals(self, tmp_path, capsys, monkeypatch, arguments, said):
        monkeypatch.chdir(tmp_path)
        np.save("y.npy", np.zeros(45))
        np.save("h.npy", np.eye(45))
        Path("there.html").touch()
        assert main(["report", *arguments]) == 1
        assert said in capsys.readouterr().err
        assert not Path("report.html").exists()

    @pytest.mark.parametrize("arguments", [["--level", "2"], ["--level", "nan"], ["--seed", "-1"]])
    def test_numbers_that_are_refused(self, arguments, capsys):
        with pytest.raises(SystemExit):
            main(["report", "x.npz", *arguments])
        assert arguments[0] in capsys.readouterr().err
