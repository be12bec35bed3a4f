"""What a forger or chance puts into a store."""

import json

from bb.store.files.canonical_json import canonical_json, sha256_hex
from bb.store.local.segment import encode_segment
from tests.helpers.stores import features, images, space

N = 4


X = features(space(), N)


IDS = [f"pics/{i:03d}.png" for i in range(N)]


OBJECTS = {
    zstd: {
        path: bytes(data)
        for path, data in encode_segment(space(), images(N).all_digests(), IDS, X, {}, zstd=zstd)[1].items()
    }
    for zstd in (False, True)
}


NASTY = [
    None, True, False, -1, 0, 1, 3, 5, 2**31, 2**63, 10**30, 1e308, 0.5, "", "..", "../../x", "/etc/passwd", "\u0000",
    "\ud800", "uint8", "object", "pickle", "gzip", "big", [], {}, [[]], [4, 6], [2**40, 6], [4, 6, 1], [-4, -6],
    {"a": 1}, [{"name": "bytes"}], [{"name": "zstd"}], ["bytes"], {"name": "regular"}, [[[[]]]],
]  # fmt: skip


def lay(root, objects, *, sealed):
    """Lays a segment's files into a store; `sealed` mends the manifest's digests, as a deliberate forger would."""
    objects = dict(objects)
    if sealed:
        try:
            manifest = json.loads(objects["zarr.json"])
            listed = manifest["attributes"]["bb"]["objects"]
            for path in listed:
                if path in objects:
                    listed[path] = [len(objects[path]), sha256_hex(objects[path])]
            objects["zarr.json"] = canonical_json(manifest)
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
    digest = sha256_hex(objects["zarr.json"])
    folder = root / "spaces" / space().key / "segments" / digest
    for path, data in objects.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return folder


def paths_in(value, path=()):
    """Where in a JSON value something could be put."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths_in(inner, (*path, key))


def replaced(value, path, new):
    if not path:
        return new
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], new)
    return changed
