"""The explorer in the browser: the form of its data, and images and numbers as a page carries them.

``explorer.js``, beside this module, reads one JSON object. Arrays are little-endian and in base64:

    title, caption   text
    unit             what a point is, for example "test image"
    ids              the name of each point: uint16 (N,), its number in its data set, or a list of text
    epochs           measured epochs, ascending; one is enough
    views            which points are shown together: {"name", "rows": uint16 (n,) of N,
                     "points": uint16 (E, n, 2), both axes on one scale}
    colourings       labels of the points: {"name", "categories", "values": uint8 (N,) or (E, N)}, and with
                     "groups", the group of each category, one colour a group where several are shown
    curves           numbers over epochs: {"name", "values": (views, E), "digits"}, and "log" or "percent"
    sheets           images, or none: {"tile": pixels, "columns", "each": images on a sheet, "urls"}
"""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from torch import Tensor

EACH = 50  # images of one class on a sheet
COLUMNS = 10  # of a sheet
QUALITY = 80  # of WebP: 0.3 kB an image
LARGEST = 2**16 - 1  # of a coordinate


def of_one_size(points: np.ndarray) -> np.ndarray:
    """Embeddings (E, n, 2), each about its mean and of mean square 1; t-SNE does not fix place and scale."""
    points = points - points.mean(axis=1, keepdims=True)
    return points / np.sqrt(np.square(points).mean(axis=(1, 2), keepdims=True))


def quantised(points: np.ndarray) -> np.ndarray:
    """Coordinates (E, n, 2) as whole numbers from 0 to ``LARGEST``, the origin in the middle."""
    return np.rint((points / np.abs(points).max() + 1) / 2 * LARGEST)


def sheets(images: Tensor) -> list[bytes]:
    """Every ``EACH`` of the images (N, C, H, W) on one WebP image, in rows of ``COLUMNS``."""
    from PIL import Image

    encoded = []
    for part in images.split(EACH):
        rows = part.expand(-1, 3, -1, -1).unflatten(0, (-1, COLUMNS))  # (rows, columns, 3, H, W)
        pixels = rows.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)  # (rows H, columns W, 3)
        buffer = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(buffer, "WEBP", quality=QUALITY, method=6)
        encoded.append(buffer.getvalue())
    return encoded


def encoded(values: ArrayLike, dtype: DTypeLike = np.uint8) -> str:
    """An array as the browser reads it."""
    return base64.b64encode(np.asarray(values).astype(np.dtype(dtype).newbyteorder("<")).tobytes()).decode()


def decoded(text: str, dtype: DTypeLike = np.uint8) -> np.ndarray:
    """What ``encoded`` was given, flat."""
    return np.frombuffer(base64.b64decode(text), np.dtype(dtype).newbyteorder("<")).astype(np.int64)


def webp_url(image: bytes) -> str:
    """A WebP image as the address of its own content."""
    return "data:image/webp;base64," + base64.b64encode(image).decode()


def for_script(data: Any) -> str:
    """JSON for an element ``script`` of a page: no text in it can end that element or hide its end."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
