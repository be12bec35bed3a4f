"""Parts of a store as parcels, and a store laid into a place."""

import hashlib

from bb.store.files.paths import StorePart, published
from bb.store.local.segment import encode_segment
from bb.store.storage.base import Upload
from bb.store.storage.local import Folder
from tests.helpers.stores import features, images, space


def groups():
    """Parcels of the root's and a feature space's groups."""
    root, where = StorePart("root", "", "zarr.json"), StorePart("space", f"spaces/{space().key}", "zarr.json")
    return [
        Upload(root, {"zarr.json": b"root", "spaces/zarr.json": b"spaces"}),
        Upload(where, {"zarr.json": b"space", "segments/zarr.json": b"segments"}),
    ]


def segment(n=3, seed=0):
    """A real segment's parcel."""
    digest, objects = encode_segment(
        space(), images(n).all_digests(), [f"pics/{i}" for i in range(n)], features(space(), n, seed), {}
    )
    folder = f"spaces/{space().key}/segments/{digest}"
    return Upload(StorePart("segment", folder, "zarr.json"), {path: bytes(data) for path, data in objects.items()})


def collection(data=b"a table"):
    digest = hashlib.sha256(data).hexdigest()
    return Upload(StorePart("collection", "collections/pics", f"{digest}.parquet"), {f"{digest}.parquet": data})


def listed(place, prefix=""):
    return {item.path: item.size for item in place.list(prefix)}


def files_of(*parcels):
    return {parcel.part.at(file): data for parcel in parcels for file, data in parcel.files.items()}


def copy(root, place):
    """Lays all that a local store has published into a place, as plainly as can be."""
    folder = Folder(root)
    parcels = [
        Upload(part, {file: root / part.at(file) for file in files})
        for part, files in published(item.path for item in folder.list()).items()
    ]
    for start in range(0, len(parcels), place.at_once):
        place.publish(parcels[start : start + place.at_once])
