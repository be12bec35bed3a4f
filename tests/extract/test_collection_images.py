"""Images of a stored collection as pictures, thumbnails and rows, as a user of Python asks for them."""

import numpy as np
import pytest
from PIL import Image

import bb.extract
from bb.extract.collection_images import OtherImage
from bb.extract.embedding.images import UnreadableImage
from bb.extract.scan_collection import find_files, hash_images
from bb.store import BBError, Collection, Store, UsageError

SIZES = {"a.png": (40, 20), "b.png": (300, 200), "c.png": (40, 20)}


@pytest.fixture
def store(tmp_path):
    pics = tmp_path / "pics"
    pics.mkdir()
    for i, (name, size) in enumerate(SIZES.items()):
        Image.new("RGB", size, (40 * i, 0, 0)).save(pics / name)
    store = Store.create(tmp_path / "s.bb")
    scan = hash_images("pics", find_files(pics), read_only=True)
    store.put_collection(Collection.from_entries("pics", scan.entries))
    return store


@pytest.fixture
def images(store, tmp_path):
    return bb.extract.open_images(store, "pics", tmp_path / "pics")


def test_a_picture_is_the_image(images):
    assert images.image_ids == sorted(SIZES) and len(images) == 3 and not images.missing
    picture = images.picture("c.png")
    assert (picture.mode, picture.size, picture.getpixel((0, 0))) == ("RGB", (40, 20), (80, 0, 0))
    assert repr(images) == "CollectionImages(3 images of pics)"


def test_images_are_named_in_the_order_asked_for(store, tmp_path):
    images = bb.extract.open_images(store, None, str(tmp_path / "pics"))
    assert images.image_ids == sorted(SIZES)
    images = bb.extract.open_images(store, "pics", tmp_path / "pics", image_ids=["c.png", "a.png"])
    assert images.image_ids == ["c.png", "a.png"]
    with pytest.raises(UsageError, match="unknown image 'b.png': it is not among these 2 images."):
        images.picture("b.png")
    with pytest.raises(BBError, match="d.png"):
        bb.extract.open_images(store, "pics", tmp_path / "pics", image_ids=["d.png"])


def test_a_thumbnail_is_small_and_has_no_frame_unless_asked_for(images):
    small = images.thumbnail("b.png")
    assert (small.shape, small.dtype) == ((128, 192, 3), np.uint8)
    assert (small == [40, 0, 0]).all()
    assert images.thumbnail("a.png", size=500).shape == (20, 40, 3)


@pytest.mark.parametrize("colour", ["blue", "#0000ff", (0, 0, 255)])
def test_a_frame_has_the_colour_that_one_chooses(images, colour):
    framed = images.thumbnail("b.png", size=96, colour=colour)
    blue = (framed == [0, 0, 255]).all(axis=-1)
    assert blue[[0, -1]].all() and blue[:, [0, -1]].all() and not blue[2:-2, 2:-2].any()


def test_a_box_is_framed_where_it_is(images):
    framed = images.thumbnail("b.png", size=150, colour="lime", box=(100, 50, 200, 150))
    lime = (framed == [0, 255, 0]).all(axis=-1)
    rows, columns = np.nonzero(lime)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (25, 74, 50, 99)
    assert not lime[30:70, 55:95].any()
    yellow = images.thumbnail("b.png", box=(0, 0, 1, 1))
    assert (yellow[0, 0] == [255, 214, 10]).all() and (yellow[5:] == [40, 0, 0]).all()


@pytest.mark.parametrize("colour", ["sky", (1, 2), (0, 0, 256), ""])
def test_an_unknown_colour_is_named(images, colour):
    with pytest.raises(UsageError, match="unknown colour .*: give a name, '#rrggbb' or"):
        images.thumbnail("a.png", colour=colour)


def test_a_box_beyond_the_image_and_a_size_of_nothing_are_refused(images):
    with pytest.raises(UsageError, match="the box 0, 0, 41, 20 is not within 40 x 20 pixels: give x1, y1"):
        images.thumbnail("a.png", box=(0, 0, 41, 20))
    with pytest.raises(UsageError, match="thumbnails of 0 pixels can't be made: give a size of at least 1."):
        images.thumbnail("a.png", size=0)


def test_images_that_are_gone_or_changed_are_named(store, tmp_path):
    pics = tmp_path / "pics"
    images = bb.extract.open_images(store, "pics", pics)
    (pics / "b.png").unlink()
    with pytest.raises(UnreadableImage, match="b.png: No such file"):
        images.picture("b.png")
    later = bb.extract.open_images(store, "pics", pics)
    assert later.image_ids == ["a.png", "c.png"] and later.missing == {"b.png": "no file"}
    assert repr(later) == "CollectionImages(2 images of pics, 1 images left out)"
    with pytest.raises(UsageError, match="unknown image 'b.png'"):
        later.picture("b.png")
    Image.new("RGB", (40, 20), "white").save(pics / "a.png")
    with pytest.raises(OtherImage, match="a.png: its file is not the one that collection pics lists"):
        later.picture("a.png")


def test_rows_are_what_a_transform_makes_of_images(images):
    opened = []

    def transform(picture):
        opened.append(picture.size)
        return np.full((3, 2, 2), picture.getpixel((0, 0))[0], np.float32)

    rows = images.transformed(transform)
    assert rows.shape == (3, 3, 2, 2) and rows.image_ids == images.image_ids and len(rows) == 3
    opened.clear()
    batch = rows[np.array([2, 0, 2])]
    assert batch.shape == (3, 3, 2, 2) and batch[:, 0, 0, 0].tolist() == [80, 0, 80]
    assert len(opened) == 2  # an image is opened once, however often it is named


def test_rows_of_no_images_have_no_shape(store, tmp_path):
    (tmp_path / "none").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "none" / "z.png")
    rows = bb.extract.open_images(store, "pics", tmp_path / "none").transformed(np.asarray)
    with pytest.raises(UsageError, match="no image of collection pics has a file here."):
        _ = rows.shape
