"""Which file system a store is on, and whether it keeps what writing a store relies on.

A store is written aside, synced and renamed. That needs a rename that is atomic, that other machines then see whole,
and an fsync that reaches the disk. Linux: proc(5), /proc/self/mountinfo. Elsewhere the kind is not known.
"""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")

ONE_WRITER = "Write to it from one machine at a time, and run `bb store verify` afterwards."
SEEN_LATE = (
    "another machine may see a new segment late, or lose one that is removed while it reads, and a rename sent twice "
    f"after a lost answer may fail though it was done. {ONE_WRITER}"
)
UNSURE = (
    "whether a rename is atomic there, and whether what was synced outlives a crash, is not known. "
    "Better write to a local disk, then copy the store."
)
CAUTIONS = {
    **dict.fromkeys(("nfs", "nfs4"), SEEN_LATE),
    **dict.fromkeys(("cifs", "smb3", "smbfs", "ncpfs", "afs"), f"a name in use may not be renamed, and {SEEN_LATE}"),
    **dict.fromkeys(
        ("9p", "drvfs", "virtiofs", "vboxsf", "fuse.vmhgfs-fuse"),
        f"a host's folder in a virtual machine (as /mnt/c in WSL): {UNSURE}",
    ),
    "overlay": "a container's own layer, which goes when the container goes. Mount a folder of the host, or a volume.",
    **dict.fromkeys(("tmpfs", "ramfs"), "memory, which a restart empties. Give --store a folder on a disk."),
    **dict.fromkeys(("vfat", "msdos", "exfat"), f"a file system without a journal: {UNSURE}"),
}
PLAIN_FUSE = {"fuseblk", "fuse.zfs"}


@dataclass(frozen=True)
class FileSystem:
    """Its name as the system gives it ("ext4", "nfs4"), and what is not sure there and what to do; "" where all is."""

    name: str
    caution: str = ""


def filesystem_of(folder: Path, mountinfo: str | None = None) -> FileSystem | None:
    """The file system on which a folder is, or would be; None where the system does not say."""
    if mountinfo is None:
        try:
            mountinfo = MOUNTINFO.read_text(errors="surrogateescape")
        except OSError:
            return None
    path = os.path.realpath(folder)
    found = None
    for line in mountinfo.splitlines():
        left, dash, right = line.partition(" - ")
        fields = left.split(" ")
        if not dash or len(fields) < 5:
            continue
        mount = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and (found is None or len(mount) >= len(found[0])):  # of equal ones the later covers the earlier
            found = (mount, right.split(" ")[0])
    if found is None:
        return None
    name = found[1]
    unknown_fuse = name.startswith("fuse") and name not in PLAIN_FUSE
    return FileSystem(name, CAUTIONS.get(name, f"a file system in a program: {UNSURE}" if unknown_fuse else ""))


def caution(folder: Path) -> str:
    """The file system's name and what is not sure about it, in a sentence; "" where nothing is said against it."""
    found = filesystem_of(folder)
    return f"{found.name}, {found.caution}" if found and found.caution else ""


def free_bytes(path: Path) -> int:
    """Free space where `path` is or would be made."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
