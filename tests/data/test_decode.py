"""Every kind of file that a folder of photos may hold: decoded as stated, or named as bad."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.oxford_layout import drawn, encoded

from resflow.data.decode import MAX_PIXELS, BadImage, Decoded, decode, decode_all
from resflow.errors import DataError

SIZE = 16
RED = (200, 30, 40)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def plain(colour: tuple[int, ...] | int, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.new(mode, size, colour)


def pixels(content: bytes) -> np.ndarray:
    result = decode("photo.jpg", content, SIZE).pixels
    assert result.shape == (SIZE, SIZE, 3)
    assert result.dtype == np.uint8
    return result


@pytest.mark.parametrize("form", ["PNG", "BMP", "WEBP", "GIF", "JPEG"])
def test_each_format_gives_its_colour(form: str) -> None:
    lossless = {"lossless": True} if form == "WEBP" else {}
    assert np.abs(pixels(saved(plain(RED), form, **lossless)).astype(int) - RED).max() <= 2


def test_image_of_the_wanted_size_is_untouched() -> None:
    original = drawn(1, SIZE, SIZE)
    assert np.array_equal(pixels(encoded(original, "PNG")), original)


@given(st.integers(1, 60), st.integers(1, 60))
def test_any_shape_becomes_the_wanted_square(width: int, height: int) -> None:
    result = decode("a", encoded(drawn(0, width, height), "PNG"), SIZE)
    assert result.pixels.shape == (SIZE, SIZE, 3)
    assert result.original == (width, height)


def test_the_centre_is_kept() -> None:
    wide = np.zeros((SIZE, 3 * SIZE, 3), np.uint8)
    wide[:, SIZE : 2 * SIZE] = drawn(3, SIZE, SIZE)
    assert np.array_equal(pixels(encoded(wide, "PNG")), drawn(3, SIZE, SIZE))


def test_reducing_is_antialiased() -> None:
    board = np.indices((16 * SIZE, 16 * SIZE)).sum(axis=0) % 2 * 255
    grey = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    assert np.abs(pixels(encoded(grey, "PNG")).astype(int) - 127).max() <= 3


def test_orientation_is_applied() -> None:
    image = Image.fromarray(drawn(5, SIZE, SIZE))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    assert np.array_equal(pixels(saved(image, "PNG", exif=exif)), np.rot90(drawn(5, SIZE, SIZE), -1))


def test_grey_palette_and_16_bit() -> None:
    grey = drawn(7, SIZE, SIZE)[..., 0]
    assert np.array_equal(pixels(saved(Image.fromarray(grey), "PNG")), np.dstack([grey] * 3))
    wide = Image.fromarray(grey.astype(np.uint16) * 257)
    assert np.array_equal(pixels(saved(wide, "PNG")), np.dstack([grey] * 3))
    keyed = np.where(grey == grey[0, 0], 255, grey)
    transparent = saved(wide, "PNG", transparency=int(grey[0, 0]) * 257)
    assert np.array_equal(pixels(transparent), np.dstack([keyed] * 3))
    palette = plain(RED).quantize(4)
    assert np.abs(pixels(saved(palette, "PNG")).astype(int) - RED).max() <= 2
    assert set(np.unique(pixels(saved(plain(1, "1"), "PNG")))) == {255}


def test_cmyk_jpeg() -> None:
    result = pixels(saved(plain((0, 255, 255, 0), "CMYK"), "JPEG"))
    assert np.abs(result.astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_transparency_lies_on_white(form: str) -> None:
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    assert (pixels(saved(plain((0, 0, 0, 0), "RGBA"), form, **options)) == 255).all()
    half = pixels(saved(plain((0, 0, 0, 128), "RGBA"), form, **options))
    assert np.abs(half.astype(int) - 127).max() <= 1


def test_transparent_palette_and_grey_alpha() -> None:
    palette = plain(RED).quantize(2)
    assert (pixels(saved(palette, "PNG", transparency=palette.getpixel((0, 0)))) == 255).all()
    assert (pixels(saved(plain((0, 0), "LA"), "PNG")) == 255).all()


@pytest.mark.parametrize("form", ["GIF", "WEBP"])
def test_animation_gives_its_first_frame(form: str) -> None:
    frames = [plain((0, 0, 0)), plain((255, 255, 255))]
    assert pixels(saved(frames[0], form, save_all=True, append_images=frames[1:])).max() <= 2


def png_header(width: int, height: int) -> bytes:
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"")))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


@pytest.mark.parametrize("pixels_wanted", [MAX_PIXELS + 1, 3 * MAX_PIXELS])
def test_decompression_bomb_is_refused_before_it_is_decoded(pixels_wanted: int) -> None:
    with pytest.raises(BadImage, match="limit of 89,478,485"):
        decode("bomb.png", png_header(pixels_wanted, 1), SIZE)


@pytest.mark.parametrize("form", ["PNG", "BMP", "WEBP", "GIF", "JPEG"])
def test_truncated_file_is_bad(form: str) -> None:
    whole = encoded(drawn(9, 64, 64), form)
    for kept in (len(whole) // 2, 20, 3):
        with pytest.raises(BadImage):
            decode("cut", whole[:kept], SIZE)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_image_or_bad(content: bytes) -> None:
    with pytest.raises(BadImage):
        decode("noise", content, SIZE)


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_damaged_image_is_decoded_or_bad_never_another_error(where: int, damage: bytes) -> None:
    content = bytearray(encoded(drawn(2), "PNG"))
    content[where % len(content) : where % len(content) + len(damage)] = damage
    try:
        decoded = pixels(bytes(content))
    except BadImage:
        return
    assert decoded.shape == (SIZE, SIZE, 3)


def test_digest_is_of_the_picture_not_of_the_file_nor_the_size() -> None:
    same = [decode("a", encoded(drawn(1), form), size).digest for form, size in (("PNG", 8), ("BMP", 16))]
    assert same[0] == same[1] == Decoded.drawn("a", drawn(1)).digest
    assert decode("b", encoded(drawn(2), "PNG"), 8).digest != same[0]


def test_all_bad_files_are_named_in_one_error_and_the_order_is_kept() -> None:
    good = [(f"good{i}", lambda i=i: encoded(drawn(i), "PNG")) for i in range(100)]
    assert [image.name for image in decode_all(good, 8)] == [name for name, _ in good]
    bad = [(f"bad{i:02d}.jpg", lambda: b"text") for i in range(11)] + [("empty.jpg", lambda: b"")]
    with pytest.raises(DataError, match="12 files are not usable") as raised:
        list(decode_all([*good, *bad], 8))
    assert all(f"bad{i:02d}.jpg: not a JPEG" in str(raised.value) for i in range(10))
    assert "and 2 more" in str(raised.value)


def test_unreadable_file_is_named() -> None:
    def refuse() -> bytes:
        raise PermissionError(13, "Permission denied", "x.jpg")

    with pytest.raises(DataError, match=r"x\.jpg: cannot be read \(Permission denied\)"):
        list(decode_all([("x.jpg", refuse)], 8))
