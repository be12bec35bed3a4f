"""A directory as a place for a store."""

import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from store.errors import BBError
from store.place import Object, Parcel
from store.publish import make_folder, publish_file, publish_folder, sync_folder

PIECE = 2**20


@dataclass(frozen=True)
class Folder:
    """See `store.place.Place`."""

    root: Path
    writable: bool = True
    at_once: int = 1

    @property
    def url(self) -> str:
        return str(self.root)

    def list(self, prefix: str = "") -> Iterator[Object]:
        for folder, _, files in os.walk(self.root / prefix):
            for name in files:
                found = os.lstat(path := os.path.join(folder, name))
                if stat.S_ISREG(found.st_mode):
                    yield Object(Path(path).relative_to(self.root).as_posix(), found.st_size)

    def read(self, path: str, most: int) -> bytes:
        with open(self.root / path, "rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise BBError(f"{self.url}/{path} is larger than the {most} bytes that it can be.")
        return data

    def stream(self, path: str, start: int = 0) -> Iterator[bytes]:
        with open(self.root / path, "rb") as file:
            file.seek(start)
            while piece := file.read(PIECE):
                yield piece

    def publish(self, parcels: Sequence[Parcel]) -> None:
        for parcel in parcels:
            files = {path: data.read_bytes() if isinstance(data, Path) else data for path, data in parcel.files.items()}
            if parcel.part.kind in ("segment", "run"):
                target = self.root / parcel.part.folder
                if target.is_dir() and not (target / parcel.part.marker).exists():  # an rsync that was broken off
                    (self.root / "tmp").mkdir(exist_ok=True)
                    os.rename(target, self.root / "tmp" / secrets.token_hex(16))
                publish_folder(self.root, files, target)
                continue
            marker = parcel.part.marker
            for path in [*(path for path in files if path != marker), marker]:
                publish_file(self.root, files[path], self.root / parcel.part.at(path))

    def replace(self, path: str, data: bytes) -> None:
        aside = self.root / "tmp" / secrets.token_hex(16)
        publish_file(self.root, data, aside)
        target = self.root / path
        make_folder(target.parent, self.root)
        os.replace(aside, target)
        sync_folder(target.parent)
