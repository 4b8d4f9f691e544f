# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Files as they come from cameras, editors, mail and people who mean harm; each is made when it is asked for."""

import os
import socket
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

RAMP = np.linspace(0, 255, 40 * 30).reshape(30, 40).astype(np.uint8)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)
DEEP = np.linspace(0, 65535, 40 * 30).reshape(30, 40).astype(np.uint16)

Maker = Callable[[Path], "Path | None"]
READ: dict[str, Maker] = {}
"""Files that are images."""
DEEP_GREY: dict[str, Maker] = {}
"""Images of 16 bits per channel, which anomalib would cut."""
REFUSED: dict[str, tuple[Maker, str]] = {}
"""Files that are none, with what the reason must say."""


def photo() -> Image.Image:
    return Image.fromarray(COLOURS)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def saved(name: str, image: Callable[[], Image.Image] = photo, kind: str | None = None, **options) -> Maker:
    def make(folder: Path) -> Path:
        image().save(folder / name, kind, **options)
        return folder / name

    return make


def written(name: str, content: Callable[[], bytes] | bytes) -> Maker:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content())
        return folder / name

    return make


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(width: int, height: int, rows: bytes, bits: int = 8, colour: int = 2, before: bytes = b"", **broken) -> bytes:
    """A PNG made by hand; ``broken`` maps a chunk to a wrong checksum."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header, broken.get("IHDR")) + before
        + chunk(b"IDAT", zlib.compress(rows), broken.get("IDAT")) + chunk(b"IEND", b"")
    )  # fmt: skip


def rows_of(pixels: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def rotated(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def with_segment(content: bytes, marker: int = 0xE1) -> bytes:
    """A JPEG with one more segment behind its first two bytes."""
    jpeg = encoded(photo(), "JPEG", quality=90)
    return jpeg[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


def many_texts() -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    for number in range(200):
        texts.add_text(f"note {number}", "x" * 2000)
    return texts


# ---- images ----------------------------------------------------------------------------------------------------------

READ |= {
    "plain": saved("plain.png"),
    "one pixel": saved("dot.png", lambda: Image.new("RGB", (1, 1), (10, 20, 30))),
    "one row": saved("row.png", lambda: Image.new("RGB", (5000, 1), (9, 8, 7))),
    "30000 x 20": saved("long.png", lambda: Image.new("L", (30_000, 20), 51)),
    "20 x 30000": saved("high.png", lambda: Image.new("L", (20, 30_000), 51)),
    "grey": saved("grey.png", lambda: Image.fromarray(RAMP)),
    "grey jpeg": saved("grey.jpg", lambda: Image.fromarray(RAMP)),
    "1 bit": saved("bits.png", lambda: Image.fromarray(RAMP > 99)),
    "1 bit tiff, fax": saved("fax.tif", lambda: Image.fromarray(RAMP > 99), compression="group4"),
    "4 bit": written("four.png", lambda: png(40, 30, rows_of(RAMP[:, ::2] & 0x7F), bits=4, colour=0)),
    "alpha": saved("alpha.png", lambda: Image.fromarray(np.dstack([COLOURS, RAMP]))),
    "all transparent": saved("clear.png", lambda: Image.fromarray(np.dstack([COLOURS, RAMP * 0]))),
    "grey and alpha": saved("la.png", lambda: Image.merge("LA", [Image.fromarray(RAMP), Image.fromarray(255 - RAMP)])),
    "palette": saved("palette.png", lambda: photo().quantize(64)),
    "palette, one transparent": saved("key.png", lambda: photo().quantize(64), transparency=3),
    "palette, transparencies": saved("keys.png", lambda: photo().quantize(16), transparency=bytes(range(16))),
    "colour key": saved("colourkey.png", photo, transparency=(0, 255, 0)),
    "interlaced": saved("interlaced.png", photo, interlace=True),
    "cmyk jpeg": saved("cmyk.jpg", lambda: photo().convert("CMYK"), quality=95),
    "cmyk tiff": saved("cmyk.tif", lambda: photo().convert("CMYK")),
    "lab tiff": saved("lab.tif", lambda: ImageCms.profileToProfile(
        photo(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB")),
    "ycbcr tiff": saved("ycbcr.tif", lambda: photo().convert("YCbCr")),
    "progressive jpeg": saved("progressive.jpg", photo, progressive=True),
    "16 bit colour": written("deep.png", lambda: png(
        40, 30, rows_of(np.repeat(DEEP[..., None], 3, 2).astype(">u2")), bits=16)),
    "animated gif": saved("moving.gif", lambda: photo().quantize(64), save_all=True,
                          append_images=[photo().rotate(180).quantize(64)]),
    "animated png": saved("moving.png", photo, save_all=True, append_images=[photo().rotate(180)]),
    "animated webp": saved("moving.webp", photo, save_all=True, append_images=[photo().rotate(180)], lossless=True),
    "pages": saved("pages.tif", photo, save_all=True, append_images=[Image.new("RGB", (7, 5))]),
    "telephone's two frames": saved("phone.jpg", photo, "MPO", save_all=True, append_images=[photo().resize((8, 6))]),
    **{f"exif {turn}": saved(f"turned{turn}.jpg", photo, exif=rotated(turn)) for turn in range(2, 9)},
    "exif in png": saved("turned.png", photo, exif=rotated(6)),
    "exif out of range": saved("turned99.jpg", photo, exif=rotated(99)),
    "exif that is rubbish": written("rubbish.jpg", lambda: with_segment(b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(9))),
    "exif that ends early": written("short.jpg", lambda: with_segment(b"Exif\0\0MM\0*")),
    "colour profile": saved("profile.jpg", photo, icc_profile=ImageCms.ImageCmsProfile(
        ImageCms.createProfile("sRGB")).tobytes()),
    "colour profile that is rubbish": saved("noprofile.jpg", photo, icc_profile=b"\xff" * 300),
    "200 notes": saved("notes.png", photo, pnginfo=many_texts()),
    "60 kB of comment": written("comment.jpg", lambda: with_segment(b"x" * 60_000, 0xFE)),
    "jpeg 2000": saved("two.jp2"),
    "webp": saved("lossy.webp"),
    "bmp": saved("plain.bmp"),
    "ppm": saved("plain.ppm"),
    "tiff, lzw": saved("lzw.tif", photo, compression="tiff_lzw"),
    "png named jpg": saved("wrong.jpg", photo, "PNG"),
    "jpeg named png": saved("wrong.png", photo, "JPEG"),
    "no suffix": saved("nosuffix", photo, "PNG"),
    "upper case": saved("UPPER.JPEG"),
    "unicode": saved("übérprüfung 检查 🙂.png"),
    "new line": saved("two\nlines\t.png"),
    "quotes and a leading dash": saved("-rf '\"$(x)`.png"),
    "255 bytes of name": saved("n" * 251 + ".png"),
    "rubbish behind the end": written("more.png", lambda: encoded(photo(), "PNG") + b"\0MZ" * 500),
    "wrong checksum of the pixels": written("sum.png", lambda: png(40, 30, rows_of(COLOURS), IDAT=1)),
    "archive behind the end": written("zip.jpg", lambda: encoded(photo(), "JPEG") + b"PK\x03\x04" + bytes(200)),
}  # fmt: skip


@lambda make: READ.setdefault("link", make)
def link(folder: Path) -> Path:
    (folder / "link.png").symlink_to(saved("aim.dat", photo, "PNG")(folder))
    return folder / "link.png"


@lambda make: READ.setdefault("bytes that are no utf-8", make)
def no_utf8(folder: Path) -> Path:
    path = folder / os.fsdecode(b"caf\xe9.png")
    path.write_bytes(encoded(photo(), "PNG"))
    return path


DEEP_GREY |= {
    "16 bit png": saved("deep.png", lambda: Image.fromarray(DEEP)),
    "16 bit tiff": saved("deep.tif", lambda: Image.fromarray(DEEP)),
    "16 bit tiff, other bytes first": saved("big.tif", lambda: Image.frombytes(
        "I;16B", (40, 30), DEEP.astype(">u2").tobytes())),
    "16 bit pgm": written("deep.pgm", lambda: b"P5 40 30 65535\n" + DEEP.astype(">u2").tobytes()),
    "16 bit jpeg 2000": saved("deep.jp2", lambda: Image.fromarray(DEEP), irreversible=False),
    "16 bit png named jpg": saved("deep.jpg", lambda: Image.fromarray(DEEP), "PNG"),
}  # fmt: skip

# ---- not images ------------------------------------------------------------------------------------------------------


def cut(kind: str, suffix: str, share: float = 0.6, **options) -> Maker:
    def content() -> bytes:
        whole = encoded(photo(), kind, **options)
        return whole[: int(len(whole) * share)]

    return written(f"cut.{suffix}", content)


def nothing(folder: Path) -> Path:
    return folder / "missing.png"


def directory(folder: Path) -> Path:
    (folder / "folder.png").mkdir()
    return folder / "folder.png"


def loop(folder: Path) -> Path:
    (folder / "loop.png").symlink_to(folder / "other.png")
    (folder / "other.png").symlink_to(folder / "loop.png")
    return folder / "loop.png"


def dangling(folder: Path) -> Path:
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    return folder / "gone.png"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.png")
    return folder / "pipe.png"


def unix_socket(folder: Path) -> Path:
    here = Path.cwd()
    os.chdir(folder)  # its address may have 108 bytes only
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket.png")
    finally:
        os.chdir(here)
    return folder / "socket.png"


def endless(folder: Path) -> Path:
    (folder / "zero.png").symlink_to("/dev/zero")
    return folder / "zero.png"


def locked(folder: Path) -> Path | None:
    path = saved("locked.png")(folder)
    path.chmod(0)
    return None if os.access(path, os.R_OK) else path


def postscript(folder: Path) -> Path:
    """Pillow would hand this to Ghostscript."""
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\n(marker) (w) file closefile\n"
    return written("script.png", content)(folder)


REFUSED |= {
    "missing": (nothing, "No such file"),
    "empty": (written("empty.png", b""), "the file is empty"),
    "one byte": (written("byte.png", b"\x89"), "not an image"),
    "zeros": (written("zeros.jpg", bytes(5000)), "not an image"),
    "text": (written("text.png", b"no image"), "not an image"),
    "web page": (written("page.jpg", b"<!DOCTYPE html><html><body>404</body></html>"), "not an image"),
    "svg": (written("drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>'), "not an image"),
    "pdf": (written("paper.png", b"%PDF-1.4\n%%EOF"), "not an image"),
    "zip": (written("zip.png", b"PK\x03\x04" + bytes(500)), "not an image"),
    "postscript": (postscript, "not an image"),
    "signature only": (written("sign.png", b"\x89PNG\r\n\x1a\n"), "."),
    "folder": (directory, "not a regular file"),
    "links in a circle": (loop, "symbolic links"),
    "link to nothing": (dangling, "No such file"),
    "pipe": (pipe, "not a regular file"),
    "socket": (unix_socket, "not a regular file"),
    "endless device": (endless, "not a regular file"),
    "no permission": (locked, "Permission denied"),
    "cut png": (cut("PNG", "png"), "(?i)truncated"),
    "cut jpeg": (cut("JPEG", "jpg"), "(?i)truncated"),
    "cut tiff": (cut("TIFF", "tif"), "."),
    "cut gif": (cut("GIF", "gif"), "(?i)truncated"),
    "cut bmp": (cut("BMP", "bmp"), "(?i)truncated"),
    "cut webp": (cut("WEBP", "webp"), "."),
    "cut jpeg 2000": (cut("JPEG2000", "jp2", 0.1), "."),
    "cut ppm": (cut("PPM", "ppm"), "(?i)truncated"),
    "png, checksum of a note": (
        written("crc.png", lambda: png(40, 30, rows_of(COLOURS), before=chunk(b"gAMA", b"\0\0\1\0", 7))), "."),
    "png, checksum of the header": (written("crc.png", lambda: png(40, 30, rows_of(COLOURS), IHDR=1)), "."),
    "png without pixels": (written("hollow.png", lambda: png(40, 30, b"")), "."),
    "png, rubbish for pixels": (
        written("rubbish.png", lambda: png(40, 30, b"").replace(zlib.compress(b""), b"\xff" * 8)), "."),
    "png of no width": (written("flat.png", lambda: png(0, 30, b"")), "."),
    "gif of no size": (written("flat.gif", b"GIF89a" + bytes(7) + b";"), "."),
    "32 bit floats": (saved("float.tif", lambda: Image.fromarray(RAMP.astype(np.float32))), "what white is"),
    "floats, some of them nan": (
        saved("nan.tif", lambda: Image.fromarray(np.where(RAMP > 9, np.nan, 0.5).astype(np.float32))), "white is"),
    "32 bit integers": (saved("int.tif", lambda: Image.fromarray(RAMP.astype(np.int32))), "what white is"),
    "bomb, pgm": (written("bomb.pgm", b"P5 60000 60000 255\n" + bytes(100)), "decompression bomb"),
    "bomb, png": (written("bomb.png", lambda: png(60_000, 60_000, bytes(10**6))), "decompression bomb"),
    "bomb, gif": (written("bomb.gif", b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b","
                          + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x08\0;"), "decompression bomb"),
    "bomb in a note": (
        written("note.png", lambda: png(40, 30, rows_of(COLOURS), before=chunk(
            b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8), 9)))), "."),
    "bomb in a profile": (
        written("profile.png", lambda: png(40, 30, rows_of(COLOURS), before=chunk(
            b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(10**8), 9)))), "."),
    "tiff that refers to itself": (
        written("circle.tif", b"II*\0\x08\0\0\0\x01\0\x00\x01\x03\0\x01\0\0\0\x05\0\0\0\x08\0\0\0"), "."),
    "name too long": (lambda folder: folder / ("x" * 300 + ".png"), "name too long"),
}  # fmt: skip
