"""An image's pixels, or the reason why there are none; the same wherever it is done."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from jaxtyping import UInt8
from torch import Tensor

from bb.extract.embedding import images
from bb.extract.embedding.decoder import BatchDecoder, Decoder
from bb.extract.embedding.geometry import Geometry
from bb.extract.embedding.images import DecodedImage, Header, UnreadableImage
from bb.extract.pipeline import file_damage, libtiff_messages
from bb.extract.pipeline.decode_memory import DECODING

KEPT = 2  # times the size of an image's pixels, what may be kept in memory for them

Clock = Callable[[str], AbstractContextManager[object]]


@dataclass(frozen=True)
class Pixels:
    """What networks see of an image.

    cuts          by geometry
    damage, note  as in DecodedImage
    """

    cuts: dict[Geometry, UInt8[Tensor, "3 h w"]]
    damage: str = ""
    note: str = ""


def make_pixels(decoder: Decoder, data: bytes, geometries: Iterable[Geometry]) -> Pixels:
    """A file decoded, its picture resized and cropped by each geometry. Raises UnreadableImage where it can't be."""
    (made,) = make_all_pixels(decoder, [data], [geometries])
    if isinstance(made, UnreadableImage):
        raise made
    return made


def make_all_pixels(
    decoder: Decoder,
    files: Sequence[bytes],
    geometries: Sequence[Iterable[Geometry]],
    clock: Clock = lambda stage: nullcontext(),
) -> list[Pixels | UnreadableImage]:
    """Of each file what `make_pixels` would return or raise, in one call of a decoder that takes several.

    Pictures are in memory only within this call, and within what all threads may hold of them together.
    """
    made: list[Pixels | UnreadableImage] = []
    for group in _groups(decoder, files):
        with DECODING.hold(sum(header.n_bytes for _, header in group if isinstance(header, Header))):
            with clock("decode"):
                decoded = _decode(decoder, group)
            for each in decoded:
                with clock("transform"):
                    made.append(_cut(decoder, each, geometries[len(made)]))
            del decoded
    return made


def _groups(decoder: Decoder, files: Sequence[bytes]) -> Iterator[list[tuple[bytes, Header | UnreadableImage]]]:
    """Files, with their headers, that are decoded at once: several where the decoder likes that and memory allows."""
    group: list[tuple[bytes, Header | UnreadableImage]] = []
    n_bytes = 0
    for data in files:
        try:
            header: Header | UnreadableImage = images.header(data)
        except UnreadableImage as error:
            header = error
        size = header.n_bytes if isinstance(header, Header) else 0
        if group and (not isinstance(decoder, BatchDecoder) or n_bytes + size > DECODING.n_bytes):
            yield group
            group, n_bytes = [], 0
        group.append((data, header))
        n_bytes += size
    if group:
        yield group


def _decode(
    decoder: Decoder, group: Sequence[tuple[bytes, Header | UnreadableImage]]
) -> list[DecodedImage | UnreadableImage]:
    if isinstance(decoder, BatchDecoder):
        # Which of several files libtiff meant is not known.
        together = [
            i for i, (_, header) in enumerate(group) if getattr(header, "format", "") not in file_damage.FORMATS
        ]
        found = dict(zip(together, decoder.decode_batch([group[i][0] for i in together]), strict=True))
        return [found[i] if i in found else _decode_one(decoder, *each) for i, each in enumerate(group)]
    return [_decode_one(decoder, data, header) for data, header in group]


def _decode_one(decoder: Decoder, data: bytes, header: Header | UnreadableImage) -> DecodedImage | UnreadableImage:
    if isinstance(header, UnreadableImage):
        return header
    libtiff_messages.keep_messages()
    libtiff_messages.forget()
    try:
        return file_damage.with_damage(decoder.decode(data, header), data)
    except UnreadableImage as error:
        return libtiff_messages.with_message(error)
    except MemoryError:
        return UnreadableImage(f"{header.width:,} by {header.height:,} pixels: not enough memory to decode them")


def _cut(
    decoder: Decoder, decoded: DecodedImage | UnreadableImage, geometries: Iterable[Geometry]
) -> Pixels | UnreadableImage:
    if isinstance(decoded, UnreadableImage):
        return decoded
    if decoded.damage and decoder.options.refuse_damaged:
        return UnreadableImage(f"damaged: {decoded.damage}")
    try:
        cuts = {geometry: _apart(decoder.cut(decoded.picture, geometry)) for geometry in geometries}
    except UnreadableImage as error:
        return error
    except (MemoryError, RuntimeError, ValueError) as error:  # of a picture of some odd shape
        return UnreadableImage(f"can't be transformed: {error or type(error).__name__}")
    return Pixels(cuts, decoded.damage, decoded.note)


def _apart(pixels: UInt8[Tensor, "3 h w"]) -> UInt8[Tensor, "3 h w"]:
    """In memory of their own where they would keep much more: a crop is often a view of a larger picture."""
    return pixels.clone() if pixels.untyped_storage().nbytes() > KEPT * pixels.numel() else pixels
