"""Photo files taken apart: what decides about pixels, and what is said about them.

Metadata never decides whether a photo can be read. So the decoder is given a file without any: of a JPEG or a PNG only
the parts that its pixels follow from, up to the end of the picture. The one thing that metadata decides is which way
up a photo stands, and `orientation` reads that.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
END = b"\xff\xd9"  # of a JPEG
BITMAP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # bytes that the second header of a BMP may have
TEXT = 2**20  # bytes of a compressed text of a PNG that are looked at
PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
WEBP_CHUNKS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
WEBP_METADATA = 0x2C  # flags of VP8X: a profile, EXIF, XMP
EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
PROFILE, XMP_TEXT = b"Raw profile type exif", b"XML:com.adobe.xmp"  # keys of a PNG's texts
# What may stand in compressed data: a byte 255 as 255 0, and restart markers. Anything else begins a segment.
NEXT_SEGMENT = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# Bits of each coefficient that are still missing: none is there yet, or the scans so far have sent all but the last n.
UNSENT = 99
END_OF_BLOCK = 0  # the symbol
BLANK = bytes(16)  # what a disk's block that was never written is full of


class Corrupt(ValueError):  # noqa: N818 -- becomes a BadImage
    """The reason why the parts of a photo that its pixels follow from are damaged."""


@dataclass
class Parts:
    """A photo's file: `pixels` is what a decoder needs, `exif` and `xmp` are read for its orientation alone."""

    pixels: bytes
    exif: bytes | None = None
    xmp: bytes | None = None
    whole: bool = True  # False where a file ends before its picture's end is marked

    @property
    def is_jpeg(self) -> bool:
        return self.pixels.startswith(JPEG)


def take_apart(encoded: bytes) -> Parts:
    """Return the parts of a photo's file. One of no known form is left as it is: the decoder says what it thinks of it.

    Raises Corrupt where a checksum does not fit, or a picture ends before its last part.
    """
    if encoded.startswith(JPEG):
        return _take_jpeg(encoded)
    if encoded.startswith(PNG):
        return _take_png(encoded)
    if encoded.startswith(b"RIFF") and encoded[8:12] == b"WEBP":
        return _take_webp(encoded)
    return Parts(encoded)


def is_image(head: bytes) -> bool:
    """Tell from the first bytes of a file whether it is a JPEG, PNG, BMP, GIF or WebP image."""
    if head.startswith((JPEG + b"\xff", PNG, b"GIF87a", b"GIF89a")):
        return True
    if head.startswith(b"BM"):  # as words do: the size of its second header tells
        return int.from_bytes(head[14:18], "little") in BITMAP_HEADERS
    return head.startswith(b"RIFF") and head[8:12] == b"WEBP"


@dataclass
class _Progress:
    """The parts of a picture that the scans of a JPEG have sent so far, by component."""

    progressive: bool = False
    refuses_zeros: bool = False  # no picture has compressed data that are 0 for long
    components: dict[int, list[int]] = field(default_factory=dict)  # the bits that each coefficient lacks

    def start(self, marker: int, body: bytes) -> None:
        self.progressive = marker in (0xC2, 0xCA)
        self.components = {identity: [UNSENT] * 64 for identity in body[6::3]}

    def define(self, tables: bytes) -> None:
        """Take note where the code of zeros alone, the first of a table, says anything but that a block ends.

        Sixteen bytes of zeros would then be some forty times the same coefficient, one after the other.
        """
        while len(tables) > 17:
            kind, count, first = tables[0], sum(tables[1:17]), tables[17]
            self.refuses_zeros |= kind >> 4 == 1 and first != END_OF_BLOCK
            tables = tables[17 + count :]

    def scan(self, body: bytes) -> None:
        count = body[0] if body else 0
        if len(body) < 4 + 2 * count:
            return
        first, last, low = body[-3], body[-2], body[-1] & 15
        for identity in body[1 : 1 + 2 * count : 2]:
            bits = self.components.get(identity, [])
            bits[:] = [
                (low if self.progressive else 0) if not self.progressive or first <= k <= last else bit
                for k, bit in enumerate(bits)
            ]

    @property
    def complete(self) -> bool:
        return all(not any(bits) for bits in self.components.values())


def _take_jpeg(encoded: bytes) -> Parts:
    """Keep the segments of tables, frames and scans, and of colour; leave out all that lies between and behind them."""
    kept, progress, whole = [JPEG], _Progress(), False
    exif: list[bytes] = []
    xmp = None
    for marker, body, data in _segments(encoded):
        segment = bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body + data
        whole = marker == 0xD9
        if whole:
            kept.append(END)
        elif marker in (0xE0, 0xEE):  # what says which colours the components are
            name, least = (b"JFIF\0", 14) if marker == 0xE0 else (b"Adobe", 12)  # shorter ones say nothing to libjpeg
            kept += [segment] if body.startswith(name) and len(body) >= least else []
        elif marker == 0xE1 and body.startswith(EXIF):
            exif.append(body if not exif else body[len(EXIF) :])
        elif marker == 0xE1 and body.startswith(XMP):
            xmp = body[len(XMP) :]
        elif marker < 0xE0:
            kept.append(segment)
            if marker == 0xDA:
                progress.scan(body)
                # In progressive pictures zeros have other meanings.
                if BLANK in data and progress.refuses_zeros and not progress.progressive:
                    raise Corrupt(f"{len(BLANK)} bytes and more of its compressed data are 0")
            elif marker == 0xC4:
                progress.define(body)
            elif marker not in (0xC4, 0xC8, 0xCC) and 0xC0 <= marker <= 0xCF:
                progress.start(marker, body)
    if not whole and not progress.complete:
        raise Corrupt("it ends before its last scan")
    return Parts(b"".join(kept), b"".join(exif) or None, xmp, whole)


def _segments(encoded: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield marker, content and compressed data of each segment, up to the picture's end or the file's."""
    place = 2
    while 0 <= (place := encoded.find(b"\xff", place)) < len(encoded) - 1:
        marker = encoded[place + 1]
        if marker in (0x00, 0xFF):  # filling, or junk
            place += 1
            continue
        if marker == 0xD9:
            yield marker, b"", b""
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without content
            place += 2
            continue
        (length,) = struct.unpack(">H", encoded[place + 2 : place + 4].rjust(2, b"\0"))
        body = encoded[place + 4 : place + 2 + length]
        place += 2 + max(length, 2)
        data = b""
        if marker == 0xDA:
            following = NEXT_SEGMENT.search(encoded, place)
            end = following.start() if following else len(encoded)
            data, place = encoded[place:end], end
        yield marker, body, data


def _take_png(encoded: bytes) -> Parts:
    """Keep the chunks of PIXEL_CHUNKS, whose checksums must fit."""
    kept, parts, place = [PNG], Parts(b""), len(PNG)
    while place < len(encoded):
        (length,) = struct.unpack(">I", encoded[place : place + 4].rjust(4, b"\0"))
        kind, end = encoded[place + 4 : place + 8], place + 12 + length
        if not kind.isalpha() or end > len(encoded):  # the decoder sees how much of the picture is there
            kept.append(encoded[place:])
            parts.whole = False
            break
        content = encoded[place + 8 : end - 4]
        fits = struct.pack(">I", zlib.crc32(kind + content)) == encoded[end - 4 : end]
        if kind == b"IEND":
            kept.append(PNG_END)
            break
        if kind in PIXEL_CHUNKS:
            if not fits:
                raise Corrupt(f"the checksum of its {kind.decode()} does not fit")
            kept.append(encoded[place:end])
        elif fits:
            _take_text(parts, kind, content)
        place = end
    parts.pixels = b"".join(kept)
    return parts


def _take_webp(encoded: bytes) -> Parts:
    """Keep the chunks of WEBP_CHUNKS, and say the size that they then have."""
    kept, parts, place = [], Parts(b""), 12
    while place + 8 <= len(encoded):
        kind, length = encoded[place : place + 4], int.from_bytes(encoded[place + 4 : place + 8], "little")
        end = place + 8 + length + length % 2
        chunk = encoded[place:end]
        if kind == b"VP8X" and length >= 1:
            chunk = chunk[:8] + bytes([chunk[8] & ~WEBP_METADATA]) + chunk[9:]
        if kind in WEBP_CHUNKS:
            kept.append(chunk)
        elif kind == b"EXIF":
            parts.exif = chunk[8 : 8 + length]
        elif kind == b"XMP ":
            parts.xmp = chunk[8 : 8 + length]
        place = end
    body = b"WEBP" + b"".join(kept)
    parts.pixels = b"RIFF" + struct.pack("<I", len(body)) + body
    return parts


def _take_text(parts: Parts, kind: bytes, content: bytes) -> None:
    if kind == b"eXIf":
        parts.exif = EXIF + content
        return
    key, _, value = content.partition(b"\0")
    if kind == b"zTXt":
        text = _inflate(value[1:])
    elif kind == b"iTXt":
        *_, text = value[2:].split(b"\0", 2)
        text = _inflate(text) if value[:1] == b"\1" else text
    elif kind == b"tEXt":
        text = value
    else:
        return
    if key == PROFILE and parts.exif is None:
        parts.exif = _read_profile(text)
    elif key == XMP_TEXT and kind == b"iTXt":
        parts.xmp = text


def _inflate(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, TEXT)
    except zlib.error:
        return b""


def _read_profile(text: bytes) -> bytes | None:
    """Read EXIF from ImageMagick's way to write it into a PNG: three lines, then hexadecimal digits."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return None
