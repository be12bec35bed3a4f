"""A directory as a place for a store."""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bb.store.errors import BBError
from bb.store.files.atomic_write import publish_file, put_in_place, replace_file, sync_tree, temporary_folder
from bb.store.files.directory import Directory, Refused
from bb.store.storage.base import FileInfo, LocalFile, Object, TooLarge, Upload

PIECE = 2**20


@dataclass(frozen=True)
class Folder:
    """See `bb.store.storage.base.Storage`."""

    root: Path
    writable: bool = True
    at_once: int = 1

    @property
    def url(self) -> str:
        return str(self.root)

    @property
    def directory(self) -> Directory:
        return Directory(self.root)

    def list(self, prefix: str = "") -> Iterator[Object]:
        if self.root.exists() and not self.root.is_dir():
            raise BBError(f"{self.root} is not a folder: name one.")
        try:
            for path, status in self.directory.files(prefix):
                yield Object(path, status.st_size)
        except Refused:  # the folder asked for is behind a link
            return

    def read(self, path: str, most: int) -> bytes:
        with self._present(path):
            data = self.directory.read(path, most)
        if data is None:
            raise TooLarge(f"{self.url}/{path} is larger than the {most} bytes that it can be.")
        return data

    def stream(self, path: str, start: int = 0) -> Iterator[bytes]:
        with self._present(path):
            file = self.directory.open(path)
        with file:
            file.seek(start)
            while piece := file.read(PIECE):
                yield piece

    def look(self, paths: Sequence[str]) -> dict[str, FileInfo]:
        found = {}
        for path in paths:
            try:
                with self._present(path):
                    status = self.directory.stat_file(path)
            except FileNotFoundError:
                continue
            found[path] = FileInfo(status.st_size, f"{status.st_mtime_ns}:{status.st_ctime_ns}")
        return found

    def read_range(self, path: str, start: int, size: int) -> bytes:
        with self._present(path):
            file = self.directory.open(path)
        with file:
            file.seek(start)
            return file.read(size)

    def publish(self, parcels: Sequence[Upload]) -> None:
        for parcel in parcels:
            if parcel.part.kind in ("segment", "run"):
                self._publish_folder(parcel)
                continue
            marker = parcel.part.marker
            for path in [*(path for path in parcel.files if path != marker), marker]:
                data = parcel.files[path]
                publish_file(self.root, _content(data), self.root / parcel.part.at(path))

    def replace(self, path: str, data: bytes) -> None:
        replace_file(self.root, data, self.root / path)

    def _publish_folder(self, parcel: Upload) -> None:
        store = self.directory
        if store.is_file(parcel.part.path):
            return
        with temporary_folder(store) as temporary:
            folder = store.below(temporary)
            for path, data in parcel.files.items():
                folder.make_folder(path.rpartition("/")[0])
                with folder.create(path) as out:
                    if isinstance(data, bytes):
                        out.write(data)
                        continue
                    with data.open("rb") as source:
                        shutil.copyfileobj(source, out, PIECE)
            sync_tree(folder)
            put_in_place(store, temporary, parcel.part.folder, parcel.part.marker)

    @contextmanager
    def _present(self, path: str) -> Iterator[None]:
        """Raises FileNotFoundError for what is missing, behind a link, or not a regular file."""
        try:
            yield
        except (Refused, NotADirectoryError):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.root / path)) from None


def _content(data: LocalFile | Path | bytes) -> bytes:
    if isinstance(data, bytes):
        return data
    with data.open("rb") as file:
        return file.read()
