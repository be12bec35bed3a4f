"""Which files are images: by their endings, and by their first bytes where the ending does not say; and the words for
those that are passed over. Neither depends on what is installed, so that a collection is the same everywhere."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["image", "raw", "other image", "other"]

BEGINNING = 32  # bytes that tell an image by its content


def _endings(text: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in text.split())


SUFFIXES = _endings("jpg jpeg jpe jfif jif mpo png apng webp tif tiff bmp dib gif avif heic heif hif")
# Most are TIFF files by their first bytes, of which Pillow would show the small preview.
RAW = _endings(
    "3fr ari arw bay cr2 cr3 crw dcr dng erf fff iiq k25 kdc mef mos mrw nef nrw orf pef raf raw rw2 rwl sr2 srf "
    "srw x3f"
)
OTHER_IMAGES = _endings("jp2 j2k jpx jxl psd svg eps pdf ppm pgm pbm pnm tga exr hdr ico fits")
# Often one for each image, so that looking into them would take as long as reading the images.
_NEVER = _endings(
    "txt csv tsv json jsonl xml xmp cls yaml yml ini db md html htm log npy npz pkl pickle py mp4 avi mov mkv wav "
    "mp3 zip gz tar parquet arrow mat h5 hdf5 pt pth"
)
_BMP_HEADERS = {12, 40, 52, 56, 64, 108, 124}  # bytes


def kind_by_name(path: str) -> Kind | None:
    """None where the ending does not say, so that the first bytes have to."""
    suffix = suffix_of(path)
    if suffix in SUFFIXES:
        return "image"
    if suffix in RAW:
        return "raw"
    if suffix in OTHER_IMAGES:
        return "other image"
    return "other" if suffix in _NEVER else None


def kind_by_content(beginning: bytes) -> Kind:
    """By the first bytes of a file, BEGINNING of them if it has as many."""
    if beginning.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")):
        return "image"
    if beginning.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "raw" if beginning[8:10] == b"CR" else "image"
    if beginning.startswith(b"RIFF") and beginning[8:12] == b"WEBP":
        return "image"
    from bb.extract.embedding.images import AVIF_BRANDS, HEIF_BRANDS  # needs Pillow, which names alone do not

    if beginning[4:8] == b"ftyp" and beginning[8:12] in HEIF_BRANDS | AVIF_BRANDS:
        return "image"
    if beginning.startswith(b"BM") and int.from_bytes(beginning[14:18], "little") in _BMP_HEADERS:
        return "image"
    return "other"


def suffix_of(path: str) -> str:
    return os.path.splitext(path)[1].lower()


@dataclass
class PassedOver:
    """How many files are not images that bb reads, by kind and ending."""

    counts: Counter[tuple[Kind, str]] = field(default_factory=Counter)

    def add(self, kind: Kind, path: str) -> None:
        suffix = suffix_of(path)
        known = suffix in RAW | OTHER_IMAGES | _NEVER
        self.counts[kind, suffix if known or len(suffix) <= 6 else "another ending"] += 1

    def notes(self) -> Iterator[str]:
        """What a person should know, in a sentence for each kind."""
        remedies: Mapping[Kind, tuple[str, str]] = {
            "raw": ("camera raw file", ": convert to TIFF or JPEG, with darktable-cli or dcraw -T, for example"),
            "other image": ("image in a format that bb does not read", ": convert to PNG or JPEG"),
            "other": ("other file", ""),
        }
        for kind, (name, remedy) in remedies.items():
            found = {suffix: n for (each, suffix), n in sorted(self.counts.items()) if each == kind}
            if total := sum(found.values()):
                most = sorted(found.items(), key=lambda item: -item[1])
                named = ", ".join(f"{n} {suffix or 'without ending'}" for suffix, n in most[:5])
                more = f" and {len(most) - 5} more endings" if len(most) > 5 else ""
                plural = name.replace("image", "images").replace("file", "files") if total > 1 else name
                yield f"{total} {plural} passed over ({named}{more}){remedy}"
