"""WebDataset's shards: tar archives of which every image file is an image, whatever is next to it.

https://github.com/webdataset/webdataset#the-webdataset-format
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from bb.extract.data.byte_range import ByteRangeFile
from bb.extract.data.file_kind import BEGINNING, PassedOver, kind_by_content, kind_by_name
from bb.extract.data.image_source import ImageSource, oversized
from bb.extract.data.shard import Found, usable_name
from bb.store.storage.tar_reader import DamagedTar, Stream, TarMember, tar_members


@dataclass(frozen=True, slots=True)
class Member:
    """Bytes `offset` to `offset + size` of an archive."""

    blob: ByteRangeFile
    offset: int
    size: int

    def read(self) -> bytes:
        return self.blob.read(self.offset, self.size)

    def describe(self) -> str:
        return f"{self.blob.url} at byte {self.offset:,}"


@dataclass(frozen=True, slots=True)
class TarShard:
    """See `bb.extract.data.shard.Shard`. Hidden files are passed over, as they are in folders."""

    blob: ByteRangeFile

    def find(self) -> Iterator[Found]:
        stream, images, passed = Stream(self.blob.stream()), dict[str, Found](), PassedOver()
        for member in tar_members(stream, self.blob.size):
            path = PurePosixPath(member.name)
            if any(step.startswith(".") and step != ".." for step in path.parts):
                continue
            kind, beginning = kind_by_name(member.name), b""
            if kind is None:
                beginning = stream.read(min(BEGINNING, member.size)) if member.kind == "file" else b""
                kind = kind_by_content(beginning)
            if kind != "image":
                passed.add(kind, member.name)
                continue
            found = self._found(member, stream, images, beginning)
            if not found.fault:
                images[found.name] = found
            yield found
        yield from Found.passed_over(passed)

    def _found(self, member: TarMember, stream: Stream, images: Mapping[str, Found], beginning: bytes) -> Found:
        """The image of a member, of which `beginning` is read. `images` are those before it, by name: a hard link is
        one of them again."""
        name = usable_name(member.name)
        if name and member.kind == "hard link" and (linked := images.get(usable_name(member.target))):
            return linked._replace(name=name)
        if fault := _fault(member):
            return Found.unusable(member.name, member.offset, member.size, member.size, fault)
        data = beginning + stream.read(member.size - len(beginning))
        if len(data) < member.size:
            raise DamagedTar(f"is shorter than the {self.blob.size:,} bytes that it had")
        return Found.of_bytes(name, member.offset, member.size, data)

    def source(self, found: Found) -> ImageSource:
        return Member(self.blob, found.at, found.of)

    def own_name(self, found: Found) -> str:
        return found.name


def _fault(member: TarMember) -> str:
    if member.kind == "link":
        return "is a link, which holds no image: write the shard with the files themselves (tar --dereference)"
    if member.kind == "hard link":
        return (
            f"is a hard link to {member.target[:200]!r}, and no image of that name is before it: write the shard anew"
        )
    if member.kind == "sparse":
        return "is stored as a sparse file, which has no bytes in one piece: write the shard without tar --sparse"
    if member.kind != "file":
        return "is not a regular file: write the shard with regular files only"
    if not usable_name(member.name):
        return "has a path that leads out of the shard: write the shard anew with relative paths, without .."
    return oversized(member.size)
