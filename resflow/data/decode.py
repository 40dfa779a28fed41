"""Encoded photos to square RGB uint8 arrays, by content and never by file name.

One rule for every source: the first frame is decoded, EXIF orientation applied, transparency
composited on white, 16-bit grey divided by 257, everything converted to RGB. Then the largest centred
square is taken and resampled to the wanted size with Lanczos (antialiased when reducing), which is the
same as bringing the shorter side to that size and cropping the centre. A photo that already has the
size is left untouched to the bit. Raise DECODE_VERSION with any change that alters a pixel.

Metadata decides about nothing but which way up a photo stands (`containers`, `orientation`). A whole picture passes,
whatever lies around it; one that lacks pixels, or whose compressed data are corrupt, is bad (`jpeg_check`).
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from resflow.data import containers, jpeg_check
from resflow.data.orientation import turn_upright
from resflow.errors import DataError
from resflow.reading import MEGABYTE

DECODE_VERSION = 1
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
MAX_PIXELS = 89_478_485  # Pillow's own limit, above which it speaks of a decompression bomb
MAX_BYTES = 512 * MEGABYTE  # of a file; as many pixels as that without any compression have less
NAMED_IN_ERROR = 10
THREADS = min(4, os.cpu_count() or 1)
LOOKAHEAD = 8 * THREADS  # encoded files held in memory at once

logger = logging.getLogger(__name__)
# Pillow only warns up to twice its limit; here the limit is one, and the warning would be noise beside it.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Decoded:
    """One image: `pixels` (size, size, 3) uint8; `original` is (width, height) as it is seen, before cropping.

    `digest` identifies the picture before it was resized, so that copies are found at any image size.
    """

    name: str
    pixels: np.ndarray
    digest: str
    original: tuple[int, int]

    @classmethod
    def drawn(cls, name: str, pixels: np.ndarray) -> Decoded:
        """Wrap an array (size, size, 3) uint8 that was made, not photographed."""
        return cls(name, pixels, pixel_digest(pixels), (pixels.shape[1], pixels.shape[0]))


def resized(name: str, pixels: np.ndarray, image_size: int) -> Decoded:
    """Bring an image (height, width, 3) uint8 that needs no decoding to a size, as `decode` does."""
    square = np.array(_square(Image.fromarray(pixels), image_size), dtype=np.uint8)
    return Decoded(name, square, pixel_digest(pixels), (pixels.shape[1], pixels.shape[0]))


class BadImage(Exception):  # noqa: N818 -- collected into one DataError, never seen by a user
    """The reason why one file is no usable image."""


def pixel_digest(pixels: np.ndarray) -> str:
    """Return the hex sha256 of an image's shape and pixels (height, width, 3) uint8."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def decode(name: str, encoded: bytes, image_size: int, checker: jpeg_check.Checker | None = None) -> Decoded:
    """Decode one file. Raises BadImage with the reason. `checker` looks for corrupt data in JPEGs."""
    rgb = _rgb(encoded, checker)
    square = _square(rgb, image_size)
    return Decoded(name, np.array(square, dtype=np.uint8), pixel_digest(np.asarray(rgb)), rgb.size)


def _rgb(encoded: bytes, checker: jpeg_check.Checker | None) -> Image.Image:
    if not encoded:
        raise BadImage("empty file")
    try:
        parts = containers.take_apart(encoded)
        if parts.is_jpeg and not parts.whole and checker is not None:
            parts.pixels += containers.END  # whether anything is missing before it is the checker's to say
        with Image.open(io.BytesIO(parts.pixels), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadImage(f"{image.width}x{image.height} pixels, more than the limit of {MAX_PIXELS:,}")
            image.load()
            if parts.is_jpeg and checker is not None and (problem := checker.problem(parts.pixels)):
                raise BadImage(f"damaged: {problem}")
            return _flatten(turn_upright(_opaque(image), parts.exif, parts.xmp))
    except BadImage:
        raise
    except Image.UnidentifiedImageError as error:
        raise BadImage("not a JPEG, PNG, BMP, GIF or WebP image") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadImage(f"more pixels than the limit of {MAX_PIXELS:,}") from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, …
        raise BadImage(f"damaged: {error}") from error


def _opaque(image: Image.Image) -> Image.Image:
    """Return a BMP without its fourth channel where that is 0 throughout: then nobody has filled it."""
    if image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")
    return image


def _flatten(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB: 16-bit grey scaled down, transparency on white, CMYK and palettes converted."""
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        grey = ((wide.clip(0, 65535) + 128) // 257).astype(np.uint8)
        grey[wide == image.info.get("transparency", -1)] = 255  # a PNG's transparent grey
        image = Image.fromarray(grey)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


def _square(image: Image.Image, size: int) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))


def decode_all(files: Iterable[tuple[str, Callable[[], bytes]]], image_size: int) -> Iterator[Decoded]:
    """Decode (name, read) pairs on a few threads, in order.

    Bad files do not stop the others: when all are through, one DataError names the first ten and their
    number, so that a user can mend them in one go.
    """
    bad: list[str] = []
    pending: deque[Future[Decoded]] = deque()
    if not jpeg_check.available():
        logger.warning("OpenCV is not installed: JPEGs are decoded without a look for corrupt data in them")

    def finish() -> Iterator[Decoded]:
        try:
            yield pending.popleft().result()
        except BadImage as error:
            bad.append(str(error))

    with jpeg_check.Checker() as checks, ThreadPoolExecutor(THREADS) as pool:
        checker = checks if jpeg_check.available() else None
        for name, read in files:
            pending.append(pool.submit(_decode_named, name, read, image_size, checker))
            if len(pending) >= LOOKAHEAD:
                yield from finish()
        while pending:
            yield from finish()
    if bad:
        raise DataError(_bad_files(bad))


def _decode_named(name: str, read: Callable[[], bytes], image_size: int, checker: jpeg_check.Checker | None) -> Decoded:
    try:
        return decode(name, read(), image_size, checker)
    except OSError as error:
        raise BadImage(f"{name}: cannot be read ({error.strerror or error})") from error
    except BadImage as error:
        raise BadImage(f"{name}: {error}") from error


def _bad_files(bad: list[str]) -> str:
    lines = "\n".join(f"  {reason}" for reason in bad[:NAMED_IN_ERROR])
    more = f"\n  … and {len(bad) - NAMED_IN_ERROR} more" if len(bad) > NAMED_IN_ERROR else ""
    count = "1 file is" if len(bad) == 1 else f"{len(bad)} files are"
    return (
        f"{count} not usable as an image (expected whole {', '.join(FORMATS)} files):\n{lines}{more}\n"
        "Mend or remove them and run the same command again; nothing was cached."
    )
