"""Images of the samples in a feature file: from a folder, or from one array.

    image = image_source(Path("images"), ids)     # or images.npy
    data_url(image(7))

A folder is listed, and an id is looked up in that list: no path is ever made from an id.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from PIL import Image

from nclib.errors import DataError
from nclib.report.explorer import webp_url
from nclib.storage.feature_files import readable
from nclib.storage.files import storage_errors

SIDE = 96  # pixels of an image on the page, at most
TILE = 32  # pixels of an image in the explorer
MOST_PIXELS = 2**26  # of an image that is opened
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # read without other programs
QUALITY = 85
ARRAYS = (".npy", ".npz", ".safetensors")

Source = Callable[[int], Image.Image | None]


def image_source(path: Path, ids: Sequence[str]) -> Source:
    """A function that opens the image of a row, and returns None where there is none that can be read.

    Parameters
    ----------
    path : a folder with image files named as the ids, with their ending or without, or below it by their
        relative path; or an array of (N, H, W) or (N, H, W, 1, 3 or 4) uint8 in the order of the ids as .npy,
        or the only array of an .npz or .safetensors file.
    ids : of all samples.

    Raises
    ------
    DataError : another kind of file or array, or of another length.
    StoreError : one that cannot be read.
    """
    with storage_errors(path, "read"):
        if path.is_dir():
            return _of_folder(path, ids)
        path.open("rb").close()
    if path.suffix.lower() not in ARRAYS:
        raise DataError(f"{path}: expected a folder of images, or an array in {', '.join(ARRAYS)}")
    return _of_array(path, _array(path), len(ids))


def _of_folder(folder: Path, ids: Sequence[str]) -> Source:
    inside = folder.resolve()
    with storage_errors(folder, "read"):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
    by_name: dict[str, Path] = {}
    for path in files:
        relative = path.relative_to(folder)
        for name in (relative.as_posix(), relative.with_suffix("").as_posix()):
            by_name.setdefault(name, path)
    if not any(each in by_name for each in ids):
        example = next(iter(by_name), "none, it holds no file")
        raise DataError(
            f"{folder}: none of the {len(ids)} ids, {ids[0]!r} and so on, names a file in it. Ids must be "
            f"paths below this folder, for example {example!r}"
        )

    def image(row: int) -> Image.Image | None:
        path = by_name.get(ids[row])
        if path is None or not path.resolve().is_relative_to(inside):  # a link may lead elsewhere
            return None
        return _opened(path)

    return image


def _opened(path: Path) -> Image.Image | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, on what it reads all the same
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    return None
                return _of_eight_bits(image).convert("RGB")
    except Exception:  # whatever Pillow makes of a damaged file
        return None


def _of_eight_bits(image: Image.Image) -> Image.Image:
    """An image of 16 or 32 bits a pixel from its darkest value to its brightest; others as they are."""
    if not image.mode.startswith(("I", "F")):
        return image
    pixels = np.asarray(image, dtype=np.float64)
    known = pixels[np.isfinite(pixels)]
    shares = (pixels - known.min()) / (np.ptp(known) or 1)
    return Image.fromarray(np.rint(255 * np.nan_to_num(shares, nan=0).clip(0, 1)).astype(np.uint8))


def _array(path: Path) -> np.ndarray:
    ending = path.suffix.lower()
    with readable(path) as file:
        if ending == ".npy":
            return open_memmap(path, mode="r")
        if ending == ".npz":
            arrays = dict(np.load(file, allow_pickle=False))
        else:
            from safetensors.numpy import load_file

            arrays = load_file(path)
    if len(arrays) != 1:
        raise DataError(f"{path} holds {len(arrays)} arrays; give one with the images alone")
    return next(iter(arrays.values()))


def _of_array(path: Path, images: np.ndarray, count: int) -> Source:
    shaped = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3, 4))
    if not shaped or images.dtype != np.uint8 or images.size == 0:
        got = f"{images.dtype} {images.shape}"
        raise DataError(f"{path}: expected (N, H, W) or (N, H, W, 1, 3 or 4) uint8, channels last; got {got}")
    if len(images) != count:
        raise DataError(
            f"{path} has {len(images)} images, the feature file {count} samples: one each, in order"
        )

    def image(row: int) -> Image.Image:
        pixels = np.asarray(images[row])
        return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels).convert("RGB")

    return image


def data_url(image: Image.Image) -> str:
    """The image, made smaller where it is larger than a page shows it, as the address of its own content."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=QUALITY)
    return webp_url(buffer.getvalue())


def tile(image: Image.Image | None) -> np.ndarray:
    """The image whole inside a black square, (3, TILE, TILE) uint8; grey where there is none."""
    square = Image.new("RGB", (TILE, TILE), (128, 128, 128) if image is None else (0, 0, 0))
    if image is not None:
        scale = TILE / max(image.size)
        small = image.resize([max(1, round(side * scale)) for side in image.size])
        square.paste(small, [(TILE - side) // 2 for side in small.size])
    return np.asarray(square).transpose(2, 0, 1)
