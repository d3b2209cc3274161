"""One HTML page of what a feature file hides, with a JSON file of the same numbers beside it."""

from __future__ import annotations

import base64
import hashlib
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from threadpoolctl import threadpool_limits

import nclib
from nclib.measures.arrays import PrecisionWarning
from nclib.measures.rounding import FINE
from nclib.measures.subpopulations import LEAST, Subpopulations, subpopulations
from nclib.paths import PACKAGE
from nclib.report import drawings, numbers_path
from nclib.report.explorer import for_script, of_one_size
from nclib.report.findings import (
    COVERAGE,
    DETAILED,
    class_name,
    findings,
    number_in_words,
    sentence,
    shortened,
)
from nclib.report.geometry import CUT, REPEATS
from nclib.report.pictures import Source, data_url, image_source
from nclib.report.plane import CLASSES, chosen_rows, embedded, explorer_data
from nclib.storage.feature_files import LabelledFeatures, load_features
from nclib.storage.files import json_bytes, sha256, write_bytes

EXPLORER = PACKAGE / "report"  # where the explorer's script and style lie


def write_report(
    path: str | Path,
    output: str | Path,
    *,
    images: str | Path | None = None,
    labels: str | Path | None = None,
    level: float = 0.05,
    seed: int = 0,
) -> dict[str, Any]:
    """Test the classes of a feature file for sub-populations and write what was found.

    Parameters
    ----------
    path, labels : of ``nclib.load_features``.
    output : of the page; the numbers go beside it, with the ending .json.
    images : of ``nclib.report.pictures.image_source``.
    level, seed : of ``nclib.subpopulations``.

    Returns
    -------
    What the JSON file holds.

    Raises
    ------
    DataError : a file that is refused.
    StoreError : one that cannot be read or written, or a page that would lie where its numbers go.
    ValueError : as ``nclib.subpopulations``.
    """
    path, output = Path(path), Path(output)
    beside = numbers_path(output)
    features = load_features(path, labels)
    ids = features.ids or tuple(map(str, range(len(features.y))))
    image = image_source(Path(images), ids) if images else None
    with (
        warnings.catch_warnings(),
        threadpool_limits(1),  # small problems, which threads slow down
        ThreadPoolExecutor(1) as pool,
    ):
        warnings.simplefilter("ignore", PrecisionWarning)  # the page says so, class by class
        found = subpopulations(features.h, features.y, level, seed)
        shown = shown_classes(found.count, features.y)
        rows = chosen_rows(features.y, shown, seed)
        plane = pool.submit(embedded, features.h[rows], seed)  # it takes as long as the rest
        numbers = findings(features, found, level, seed)
    about = {
        "file": path.name.encode("utf-8", "replace").decode(),
        "sha256": sha256(path),
        "nclib": nclib.__version__,
    }
    numbers = about | numbers
    explorer = _explorer(features, found, shown, rows, plane.result(), ids, image)
    written, as_json = page(numbers, explorer, ids, image).encode(), json_bytes(numbers)
    write_bytes(output, written)  # only now: neither file is there unless both can be made
    write_bytes(beside, as_json)
    return numbers


def page(
    numbers: dict[str, Any], explorer: dict[str, Any] | None, ids: Sequence[str], image: Source | None
) -> str:
    """The page as text.

    Parameters
    ----------
    numbers : of ``findings``, with "file", "sha256" and "nclib".
    explorer : of ``_explorer``.
    ids, image : of all samples in the file.
    """

    def samples(rows: Sequence[int]) -> list[dict[str, str | None]]:
        opened = [image(row) if image else None for row in rows]
        return [
            {"name": shortened(ids[row]), "url": picture and data_url(picture)}
            for row, picture in zip(rows, opened, strict=True)
        ]

    script = (EXPLORER / "explorer.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=PackageLoader("nclib", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"p": p_text, "short": shortened, "words": number_in_words}
    return environment.get_template("template.html").render(
        **numbers,
        lead=Markup(sentence(numbers["classes"], isolated=lambda name: f"<bdi>{escape(name)}</bdi>")),
        explorer=explorer,
        samples=samples,
        with_images=image is not None,
        histogram=drawings.histogram,
        mark=drawings.mark,
        script=Markup(script),
        script_hash=digest,
        style=Markup((PACKAGE / "report" / "report.css").read_text("utf-8")),
        explorer_style=Markup((EXPLORER / "explorer.css").read_text("utf-8")),
        constants={
            "least": LEAST,
            "fine": FINE,
            "cut": CUT,
            "repeats": REPEATS,
            "coverage": COVERAGE,
            "detailed": DETAILED,
        },
    )


def p_text(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def shown_classes(count: np.ndarray, y: np.ndarray) -> list[int]:
    """Labels of the classes in the plane: those with sub-populations, then the largest: ``CLASSES``."""
    size = np.bincount(y, minlength=len(count))
    order = sorted(np.flatnonzero(size), key=lambda c: (count[c] < 2, -size[c], c))
    return [int(c) for c in order[:CLASSES]]


def _explorer(
    features: LabelledFeatures,
    found: Subpopulations,
    shown: Sequence[int],
    rows: np.ndarray,
    plane: tuple[np.ndarray, str] | None,
    ids: Sequence[str],
    image: Source | None,
) -> dict[str, Any] | None:
    """What the page needs to show samples in the plane; None where there is nothing to show."""
    if plane is None:
        return None
    points, method = plane
    classes = np.array([shown.index(c) for c in features.y[rows]])
    names = [class_name(features, c) for c in shown]
    counts = found.count[list(shown)]
    pictures = [image(row) for row in rows] if image else None
    data = explorer_data(
        points, method, [ids[row] for row in rows], classes, found.labels[rows], names, counts, pictures
    )
    marks = np.where(counts[classes] > 1, found.labels[rows], -1)
    text = f"{len(rows)} samples of {len(shown)} classes by {method}."
    return {
        "data": Markup(for_script(data)),
        "static": drawings.scatter(of_one_size(points[None])[0], marks, text),
        "method": method,
        "points": len(rows),
        "classes": len(shown),
        "parts": int(max(counts)) if max(counts) > 1 else 0,
    }
