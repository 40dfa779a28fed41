"""Metadata decides about no photo: whatever it says, the pixels are those without it, turned by the one tag."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from support.oxford_layout import drawn, encoded

from resflow.data import cache, jpeg_check
from resflow.data.decode import BadImage, decode, decode_all
from resflow.data.jpeg_check import Checker
from resflow.data.orientation import TURNS, UPRIGHT, read_exif
from resflow.data.sources.open import open_source
from resflow.errors import DataError

SIZE = 16
PICTURE = drawn(1, SIZE, SIZE)
PNG, JPEG = encoded(PICTURE, "PNG"), encoded(PICTURE, "JPEG", quality=90)


def pixels(content: bytes) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return decode("photo", content, SIZE).pixels


def segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def jpeg_with(payload: bytes, marker: int = 0xE1) -> bytes:
    return JPEG[:2] + segment(marker, payload) + JPEG[2:]


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png_with(kind: bytes, payload: bytes) -> bytes:
    return PNG[:33] + chunk(kind, payload) + PNG[33:]


def directory(*entries: tuple[int, int, int, bytes], order: str = "<", behind: bytes = b"") -> bytes:
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    body = b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries)
    return head + struct.pack(f"{order}H", len(entries)) + body + struct.pack(f"{order}I", 0) + behind


garbage = st.binary(max_size=60)
orders = st.sampled_from("<>")


@st.composite
def directories(draw: st.DrawFn) -> bytes:
    """EXIF as cameras have it and as no camera should."""
    order = draw(orders)
    value = st.one_of(
        st.binary(min_size=4, max_size=4), st.integers(0, 9).map(lambda n: struct.pack(f"{order}HH", n, 0))
    )
    tags = st.one_of(st.just(0x0112), st.integers(0, 0x9999))
    entries = draw(st.lists(st.tuples(tags, st.integers(0, 17), st.integers(0, 3), value), max_size=4))
    whole = directory(*entries, order=order, behind=draw(garbage))
    return whole[: draw(st.integers(8, len(whole)))] if draw(st.booleans()) else whole


@given(directories())
def test_orientation_is_what_pillow_reads_where_it_reads_any(exif: bytes) -> None:
    theirs = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs.load(b"Exif\0\0" + exif)
            expected = theirs.get(0x0112)
            hash(expected)
    except Exception:
        expected = UPRIGHT  # it cannot be read: the photo stands as it is stored
    ours = read_exif(b"Exif\0\0" + exif)
    assert TURNS.get(ours) == TURNS.get(expected)


@given(garbage)
def test_no_exif_makes_a_photo_unreadable(exif: bytes) -> None:
    """Of JPEG and PNG; an orientation that the bytes happen to name turns the picture, and changes nothing else."""
    for plain, content in ((JPEG, jpeg_with(b"Exif\0\0" + exif)), (PNG, png_with(b"eXIf", exif))):
        turned = [np.asarray(Image.fromarray(pixels(plain)).transpose(turn)) for turn in TURNS.values()]
        assert any(np.array_equal(pixels(content), each) for each in [pixels(plain), *turned])


@pytest.mark.parametrize("marker", [0xE0, 0xE1, 0xE2, 0xE3, 0xED, 0xEE, 0xEF, 0xFE])
@given(payload=garbage)
def test_no_other_segment_reaches_a_jpeg(marker: int, payload: bytes) -> None:
    for start in (b"", b"JFIF\0", b"MPF\0", b"ICC_PROFILE\0\1\1", b"Photoshop 3.0\x008BIM", b"Ado", b"FPXR\0"):
        assert np.array_equal(pixels(jpeg_with((start + payload)[:13], marker)), pixels(JPEG))


@pytest.mark.parametrize(
    "kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"tIME", b"prIV", b"acTL", b"fcTL"]
)
@given(payload=garbage)
def test_no_other_chunk_reaches_a_png(kind: bytes, payload: bytes) -> None:
    for start in (b"", b"Raw profile type exif\0\0", b"XML:com.adobe.xmp\0"):
        content = png_with(kind, start + payload)
        assert np.array_equal(pixels(content), PICTURE)
        broken = bytearray(content)
        broken[33 + 8 + len(start + payload)] ^= 1  # its checksum
        assert np.array_equal(pixels(bytes(broken)), PICTURE)


def test_megabytes_of_text_are_no_damage() -> None:
    text = zlib.compress(b"{}" * 1_100_000)
    assert np.array_equal(pixels(png_with(b"zTXt", b"workflow\0\0" + text)), PICTURE)
    assert np.array_equal(pixels(png_with(b"iTXt", b"workflow\0\1\0\0\0" + text)), PICTURE)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_every_orientation_is_pillows(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    wide = drawn(3, 24, 16)
    content = encoded(wide, form, exif=exif)
    with Image.open(io.BytesIO(content)) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    assert decode("photo", content, SIZE).original == expected.size
    assert decode("photo", content, SIZE).digest == decode("x", encoded(np.asarray(expected), "PNG"), SIZE).digest


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_in_xmp_and_in_imagemagicks_profile(orientation: int) -> None:
    turn = TURNS.get(orientation)
    expected = PICTURE if turn is None else np.asarray(Image.fromarray(PICTURE).transpose(turn))
    xmp = f'<x tiff:Orientation="{orientation}"/>'.encode()
    assert np.array_equal(pixels(png_with(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)), expected)
    exif = (b"Exif\0\0" + directory((0x0112, 3, 1, struct.pack("<HH", orientation, 0)))).hex()
    for kind, pack in ((b"tEXt", lambda text: text), (b"zTXt", lambda text: b"\0" + zlib.compress(text))):
        profile = b"Raw profile type exif\0" + pack(f"\nexif\n{len(exif) // 2:8}\n{exif}\n".encode())
        assert np.array_equal(pixels(png_with(kind, profile)), expected)


def test_exif_that_cannot_be_written_again_turns_the_photo() -> None:
    exif = directory((0x0112, 3, 1, struct.pack("<HH", 6, 0)), (0x0128, 4, 1, struct.pack("<I", 70000)))
    assert np.array_equal(pixels(png_with(b"eXIf", exif)), np.rot90(PICTURE, -1))


def test_what_lies_around_a_picture_is_no_part_of_it() -> None:
    stereo = io.BytesIO()
    first, second = Image.fromarray(PICTURE), Image.fromarray(drawn(2, SIZE, SIZE))
    first.save(stereo, "MPO", save_all=True, append_images=[second], quality=90)
    for content in (
        stereo.getvalue(),
        stereo.getvalue().replace(b"MPF\0II*\0", b"MPF\0XX*\0").replace(b"MPF\0MM\0*", b"MPF\0XX\0*"),
        JPEG + bytes(3000),
        JPEG + b"\xff",
        JPEG[:2] + b"\xff\xff\xff" + JPEG[2:],
        JPEG[:2] + b"junk" + JPEG[2:],
    ):
        assert np.array_equal(pixels(content), pixels(JPEG))
    for content in (
        PNG + b"<html>" * 9,
        PNG[:-12],
        PNG[:-1] + b"\0",
    ):  # what follows its end, and a picture without an end
        assert np.array_equal(pixels(content), PICTURE)


@given(garbage, st.sampled_from([b"EXIF", b"XMP ", b"ICCP", b"JUNK"]), st.integers(0, 99))
def test_no_other_chunk_reaches_a_webp(payload: bytes, kind: bytes, size: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    plain = encoded(PICTURE, "WEBP", lossless=True, exif=exif)
    content = plain[: plain.index(b"EXIF")] + kind + struct.pack("<I", size) + payload
    turned = [PICTURE, *(np.asarray(Image.fromarray(PICTURE).transpose(turn)) for turn in TURNS.values())]
    assert any(np.array_equal(pixels(content), each) for each in turned)


def test_animated_webp_with_metadata_gives_its_first_frame() -> None:
    frames = [Image.fromarray(drawn(n, SIZE, SIZE)) for n in (1, 2)]
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:], lossless=True, exif=exif)
    assert np.array_equal(pixels(out.getvalue()), np.rot90(PICTURE, -1))


def bmp(alpha: np.ndarray) -> bytes:
    rows = np.dstack([PICTURE[..., ::-1], alpha])[::-1].tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, SIZE, SIZE, 1, 32, 3, len(rows), 2835, 2835, 0, 0)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    return b"BM" + struct.pack("<IHHI", 14 + 108 + len(rows), 0, 0, 14 + 108) + header + masks + rows


def test_bmp_whose_fourth_channel_nobody_filled_is_opaque() -> None:
    alpha = np.zeros((SIZE, SIZE), np.uint8)
    assert np.array_equal(pixels(bmp(alpha)), PICTURE)
    alpha[0, 0] = 255
    assert np.array_equal(pixels(bmp(alpha))[0, 0], PICTURE[0, 0])
    assert (pixels(bmp(alpha))[1:] == 255).all()


@given(st.integers(0, 10**6), st.integers(0, 7))
def test_every_flipped_bit_of_a_pngs_picture_is_noticed(where: int, bit: int) -> None:
    start = PNG.index(b"IDAT")
    content = bytearray(PNG)
    content[start + where % (len(PNG) - 12 - start)] ^= 1 << bit
    try:
        decoded = pixels(bytes(content))
    except BadImage:
        return
    assert np.array_equal(decoded, PICTURE)  # where the name of the chunk is no such name any more


FORMS = [
    *(("JPEG", mode, {}) for mode in ("L", "RGB", "CMYK")),
    *(("JPEG", mode, {option: True}) for mode in ("L", "RGB", "CMYK") for option in ("progressive", "optimize")),
    *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    ("JPEG", "RGB", {"subsampling": 0, "quality": 100, "dpi": (72, 72), "comment": b"x", "icc_profile": bytes(100)}),
    ("PNG", "P", {"transparency": 3}), ("PNG", "RGB", {"transparency": (1, 2, 3), "dpi": (72, 72)}),
    ("WEBP", "RGB", {}), ("WEBP", "RGBA", {}), ("WEBP", "RGBA", {"lossless": True, "icc_profile": bytes(100)}),
    ("GIF", "P", {"comment": b"x"}), ("GIF", "L", {}), ("BMP", "RGB", {}), ("BMP", "P", {}), ("BMP", "1", {}),
]  # fmt: skip


@pytest.mark.parametrize(("form", "mode", "options"), FORMS)
@pytest.mark.parametrize("orientation", [None, 6])
def test_whole_photos_have_the_pixels_that_pillow_gives_alone(
    form: str, mode: str, options: dict, orientation: int | None
) -> None:
    """So the ids of trials on photos that could always be read mean what they meant."""
    image = Image.fromarray(drawn(6, SIZE, SIZE))
    grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
    image = Image.fromarray(grey) if mode == "I;16" else image.convert(mode)
    if orientation and form in ("JPEG", "PNG", "WEBP"):
        options = {**options, "exif": Image.Exif()}
        options["exif"][0x0112] = orientation
    out = io.BytesIO()
    image.save(out, form, **options)
    with Image.open(out) as opened:
        opened.load()
        alone = ImageOps.exif_transpose(opened)
    if mode == "I;16":
        alone = Image.fromarray(((np.asarray(alone).astype(np.int64) + 128) // 257).astype(np.uint8))
    if alone.has_transparency_data:
        rgba = alone.convert("RGBA")
        alone = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    assert np.array_equal(pixels(out.getvalue()), np.asarray(alone.convert("RGB")))


def test_without_opencv_it_is_told_and_what_was_decoded_is_not_trained_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RESFLOW_CACHE", str(tmp_path / "cache"))
    for name in ("rose", "tulip"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "photos" / name / f"{i}.jpg").write_bytes(encoded(drawn(i)))
    source = open_source(f"folder:{tmp_path / 'photos'}")
    monkeypatch.setattr(jpeg_check, "available", lambda: False)
    folder = source.prepare(SIZE, progress=False)
    assert "OpenCV is not installed" in caplog.text
    with pytest.raises(DataError, match="cut: damaged"):
        list(decode_all([("cut", lambda: encoded(drawn(1))[:-2])], SIZE))  # nobody sees whether all of it is there
    assert source.prepare(SIZE, progress=False) == folder
    assert "made anew" not in caplog.text
    monkeypatch.setattr(jpeg_check, "available", lambda: True)
    monkeypatch.setattr(cache, "_checked", {})  # another process
    assert source.prepare(SIZE, progress=False) == folder
    assert "made anew: it was decoded without OpenCV" in caplog.text


LARGE = encoded(np.asarray(Image.fromarray(drawn(4, 24, 24)).resize((320, 320))), "JPEG", quality=90)
MIDDLE = len(LARGE) // 2


def test_corrupt_data_in_the_middle_of_a_jpeg_is_named_and_whole_ones_pass() -> None:
    noise = np.random.default_rng(1).bytes
    damages = {
        "overwritten": LARGE[:MIDDLE] + noise(500) + LARGE[MIDDLE + 500 :],
        "blanked": LARGE[:MIDDLE] + b"\xff" * 500 + LARGE[MIDDLE + 500 :],
        "never written": LARGE[:MIDDLE] + bytes(20) + LARGE[MIDDLE + 20 :],
        "cut out": LARGE[:MIDDLE] + LARGE[MIDDLE + 2000 :],
        "twice": LARGE[:-2] + LARGE[MIDDLE:],
        "cut off": LARGE[:MIDDLE],
        "cut off and ended": LARGE[:MIDDLE] + b"\xff\xd9",
    }
    with Checker() as checker:
        for name, content in damages.items():
            with pytest.raises(BadImage):
                decode(name, content, SIZE, checker)
        flat = np.full((200, 200, 3), 90, np.uint8)
        blank = [encoded(flat, "JPEG"), encoded(flat, "JPEG", optimize=True), encoded(flat, "JPEG", progressive=True)]
        whole = [
            LARGE,
            *blank,
            encoded(drawn(5), "JPEG", progressive=True),
            encoded(drawn(5), "JPEG", restart_marker_rows=1),
        ]
        for content in whole:
            expected = decode("photo", content, SIZE).digest
            assert decode("photo", content, SIZE, checker).digest == expected
            assert decode("no end is marked", content[:-2], SIZE, checker).digest == expected


def test_progressive_jpeg_that_ends_between_two_scans_lacks_pixels() -> None:
    content = encoded(drawn(5, 64, 64), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xc4")
    with Checker() as checker, pytest.raises(BadImage, match="before its last scan"):
        decode("cut", content[:last], SIZE, checker)


def test_checker_outlives_a_decoder_that_dies() -> None:
    with Checker() as checker:
        assert checker.problem(LARGE) == ""
        for process in checker._started:
            process.kill()
            process.wait()
        assert "without an answer" in checker.problem(LARGE)
        assert checker.problem(LARGE) == ""
