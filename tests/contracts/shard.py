"""What every shard keeps."""

import hashlib

from bb.extract.data.shard import Shard


def check_shard(shard, images):
    """`images`: the bytes that it holds, by path, in order; no other file is in it."""
    assert isinstance(shard, Shard)
    found = list(shard.find())
    assert found == list(shard.find()), "read again, it holds the same"
    assert [image.name for image in found] == list(images) and not any(image.fault for image in found)
    for image, data in zip(found, images.values(), strict=True):
        assert shard.source(image).read() == data
        assert (image.digest, image.n_bytes) == (hashlib.sha256(data).digest(), len(data))
        assert shard.blob.url in shard.source(image).describe()
    assert len({shard.own_name(image) for image in found}) == len(found)
