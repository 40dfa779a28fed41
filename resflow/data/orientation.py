"""Which way up a photo stands, by the one tag of its metadata that decides about pixels.

Nothing else of EXIF is read, and nothing is ever written again: programs and cameras write EXIF that no library would
write. What cannot be read says nothing, and the photo stands as it is stored, as in browsers.
"""

from __future__ import annotations

import re
import struct

from PIL import Image

TAG = 0x0112
UPRIGHT = 1
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Types of TIFF: bytes of one value, and how `struct` reads it where it is a number.
TYPES = {1: (1, ""), 2: (1, ""), 3: (2, "H"), 4: (4, "L"), 5: (8, "LL"), 6: (1, "b"), 7: (1, ""), 8: (2, "h"),
         9: (4, "l"), 10: (8, "ll"), 11: (4, "f"), 12: (8, "d"), 13: (4, "L"), 16: (8, "Q")}  # fmt: skip
IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def turn_upright(image: Image.Image, exif: bytes | None, xmp: bytes | None) -> Image.Image:
    """Return a photo as it is to be seen."""
    orientation = read_exif(exif) if exif else None
    if orientation is None and xmp and (match := IN_XMP.search(xmp)):
        orientation = int(match[1])
    turn = TURNS.get(orientation or UPRIGHT)
    return image if turn is None else image.transpose(turn)


def read_exif(exif: bytes) -> int | None:
    """Return the orientation that EXIF says, UPRIGHT where it says nothing sensible; None where it has no such tag."""
    content = re.sub(rb"^(Exif\0\0){1,2}", b"", exif)
    if not content:
        return None
    order = {b"II": "<", b"MM": ">"}.get(content[:2], "")
    if not order or content[2:4] not in (b"*\0", b"\0*") or len(content) < 8:
        return UPRIGHT
    (place,) = struct.unpack(f"{order}L", content[4:8])
    if place + 2 > len(content):
        return None
    (count,) = struct.unpack_from(f"{order}H", content, place)
    total = 0
    for entry in range(place + 2, min(place + 2 + 12 * count, len(content) - 11), 12):
        tag, kind, values, inside = struct.unpack_from(f"{order}HHL4s", content, entry)
        width, form = TYPES.get(kind, (0, ""))
        size = width * values
        if not size:
            continue
        start = entry + 8
        if size > 4:  # then its values lie elsewhere, and such values are no longer than the whole
            (start,) = struct.unpack(f"{order}L", inside)
            total += size
            if total > len(content):
                continue
            if start + size > len(content):
                return None  # the rest of the directory is as damaged as this entry
        if tag == TAG:
            return _whole(struct.unpack_from(f"{order}{form}", content, start) if form else ())
    return None


def _whole(value: tuple[float, ...]) -> int:
    number = value[0] / (value[1] or float("inf")) if len(value) == 2 else value[0] if value else UPRIGHT
    return int(number) if number in TURNS else UPRIGHT
