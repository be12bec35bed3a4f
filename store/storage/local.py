"""A directory as a place for a store."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from store.errors import BBError
from store.place import Look, Object, Parcel
from store.publish import make_folder, publish_file, put_in_place, sync, sync_tree

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
        if self.root.exists() and not self.root.is_dir():
            raise BBError(f"{self.root} is no folder: name one.")
        if prefix and self._mode(prefix) is None:
            return
        for folder, _, files in os.walk(self.root / prefix, onerror=_raise_unless_gone):
            for name in files:
                try:
                    found = os.lstat(path := os.path.join(folder, name))
                except FileNotFoundError:  # moved or removed since
                    continue
                if stat.S_ISREG(found.st_mode):
                    yield Object(Path(path).relative_to(self.root).as_posix(), found.st_size)

    def read(self, path: str, most: int) -> bytes:
        with open(self._file(path), "rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise BBError(f"{self.url}/{path} is larger than the {most} bytes that it can be.")
        return data

    def stream(self, path: str, start: int = 0) -> Iterator[bytes]:
        with open(self._file(path), "rb") as file:
            file.seek(start)
            while piece := file.read(PIECE):
                yield piece

    def look(self, paths: Sequence[str]) -> dict[str, Look]:
        found = {}
        for path in paths:
            try:
                status = os.stat(self._file(path))
            except FileNotFoundError:
                continue
            found[path] = Look(status.st_size, f"{status.st_mtime_ns}:{status.st_ctime_ns}")
        return found

    def read_range(self, path: str, start: int, size: int) -> bytes:
        with open(self._file(path), "rb") as file:
            file.seek(start)
            return file.read(size)

    def publish(self, parcels: Sequence[Parcel]) -> None:
        for parcel in parcels:
            if parcel.part.kind in ("segment", "run"):
                self._publish_folder(parcel)
                continue
            marker = parcel.part.marker
            for path in [*(path for path in parcel.files if path != marker), marker]:
                data = parcel.files[path]
                data = data.read_bytes() if isinstance(data, Path) else data
                publish_file(self.root, data, self.root / parcel.part.at(path))

    def replace(self, path: str, data: bytes) -> None:
        aside = self.root / "tmp" / secrets.token_hex(16)
        publish_file(self.root, data, aside)
        target = self.root / path
        make_folder(target.parent, self.root)
        os.replace(aside, target)
        sync(target.parent)

    def _publish_folder(self, parcel: Parcel) -> None:
        if (self.root / parcel.part.path).exists():
            return
        aside = self.root / "tmp" / secrets.token_hex(16)
        try:
            for path, data in parcel.files.items():
                file = aside / path
                file.parent.mkdir(parents=True, exist_ok=True)
                with open(file, "xb") as out:
                    if isinstance(data, Path):
                        with open(data, "rb") as source:
                            shutil.copyfileobj(source, out, PIECE)
                    else:
                        out.write(data)
            sync_tree(aside)
            put_in_place(self.root, aside, self.root / parcel.part.folder, parcel.part.marker)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _file(self, path: str) -> Path:
        """Where a file lies. Raises FileNotFoundError for what is missing, behind a link, or no plain file."""
        mode = self._mode(path)
        if mode is None or not stat.S_ISREG(mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.root / path))
        return self.root / path

    def _mode(self, path: str) -> int | None:
        """Mode of a file or folder in the store; None for what is not there, or behind a link: it could lead out."""
        step, mode = self.root, None
        for name in path.split("/"):
            step = step / name
            try:
                mode = os.lstat(step).st_mode
            except (FileNotFoundError, NotADirectoryError):
                return None
            if stat.S_ISLNK(mode):
                return None
        return mode


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
