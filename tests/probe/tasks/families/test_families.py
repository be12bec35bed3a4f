"""Every family of bb's own: the contract's suite on a small copy, wrong layouts, and hostile tables."""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest

from bb.probe.tasks.families import json_file
from bb.probe.tasks.families.layout import IMAGES
from bb.probe.tasks.family import as_task_table
from bb.probe.tasks.registry import OWN, TASKS, family_labels, layout_problems
from bb.probe.tasks.splits import split_table
from bb.store.errors import BBError, UsageError
from tests.contracts.family import check_described
from tests.helpers.families import CLASSES, MADE, folders, picture, table, write


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Name → the folder of a copy, made once."""
    made = {}

    def of(name):
        if MADE[name] not in made:
            made[MADE[name]] = tmp_path_factory.mktemp(name)
            MADE[name](made[MADE[name]])
        return made[MADE[name]]

    return of


@pytest.fixture
def copy(copies, tmp_path):
    """A copy of one's own, to damage."""

    def of(name):
        return shutil.copytree(copies(name), tmp_path / "copy")

    return of


def labels(name, root):
    return as_task_table(family_labels(name, root), name)


def side(found, name="train", task=None):
    rows = found.frame.filter(pl.col("split") == name)
    return rows if task is None else rows.filter(pl.col("task") == task)


@pytest.mark.parametrize("name", MADE)
def test_contract(name, copies, tmp_path):
    check_described(TASKS.load(name), copies(name), tmp_path)


def test_every_family_has_a_copy():
    assert set(MADE) == set(OWN) - {"newt"}


SIDES = {
    "inat21": {"train": 12, "val": 6}, "herbarium19": {"train": 12, "val": 6}, "plantdoc": {"train": 12, "test": 6},
    "plantnet": {"train": 12, "val": 6, "test": 6}, "plantnet-val": {"train": 12, "val": 6},
    "plankton": {"train": 12, "val": 7}, "iwildcam": {"train": 30, "id_test": 15, "test": 15},
    "fungiclef": {"train": 12, "val": 7}, "ecdysis": {"train": 12, "test": 6}, "fishnet": {"train": 12, "test": 6},
    "kabr": {"train": 128, "val": 144}, "mammalnet": {"train": 288, "test": 256}, "imagenet1k": {"train": 12, "val": 6},
    "nabirds": {"train": 12, "test": 6}, "cub200": {"train": 12, "test": 6}, "awa2": {"train": 15, "test": 15},
    "cct": {"train": 34, "val": 35},
}  # fmt: skip


@pytest.mark.parametrize("name", SIDES)
def test_sides_and_images(name, copies):
    found = labels(name, copies(name))
    assert dict(found.frame["split"].value_counts().rows()) == SIDES[name]
    if name != "imagenet1k":
        assert all((copies(name) / image_id).is_file() for image_id in found.image_ids)
    assert split_table(found)


def test_classes_are_folders_names_and_the_same_on_each_side(copy):
    """A folder that only the validation side has shifts no class: numbers counted for each side would."""
    root = copy("plankton")
    picture(root / "phytoplankton_Utö_2021_labeled" / "Aphanizomenon" / "1.png", 0, 1)
    found = labels("plankton", root)
    expected = {image_id: image_id.split("/")[1] for image_id in found.image_ids}
    assert {i: c for i, c in found.frame.select("image_id", "label").iter_rows() if c} == {
        i: c for i, c in expected.items() if c != "Unclassifiable"
    }
    assert "1 image of folders for what is of no class have no label" in found.notes
    (split,) = split_table(found)
    assert "1 test image is of a class without a training image: 'Aphanizomenon'" in split.notes
    fold = split.folds[0]
    assert {split.task.classes[y] for y in fold.train_y} == set(CLASSES)


def test_names_alone_say_the_labels_of_folders(copies):
    for name in ("inat21", "plantdoc", "plantnet", "plankton"):
        found = labels(name, copies(name))
        named = family_labels(name, None, found.image_ids)
        assert named.frame.select("image_id", "label", "split").equals(found.frame.select("image_id", "label", "split"))
    with pytest.raises(UsageError, match="where are the labels of inat21"):
        family_labels("inat21", None, ["a/1.jpg", "train_mini/x/1.jpg"])


def test_of_two_training_folders_the_first_counts(tmp_path):
    folders(tmp_path, "train_mini", "val")
    folders(tmp_path, "train")
    found = labels("inat21", tmp_path)
    assert {image_id.split("/")[0] for image_id in found.image_ids} == {"train_mini", "val"}
    assert family_labels("inat21", None, [*found.image_ids, "train/Ara/0.jpg"]).image_ids == found.image_ids


def test_a_class_may_be_called_as_a_missing_value(tmp_path):
    for part in ("train", "test"):
        for name in ("None", "NA", "1"):
            picture(tmp_path / part / name / f"{part}.jpg", 0, 1)
    assert labels("plantdoc", tmp_path).classes("classify") == ("1", "NA", "None")


def test_observations_are_the_groups_of_plantnet(copy):
    root = copy("plantnet")
    assert side(labels("plantnet", root))["group"].unique().sort().to_list() == ["o0", "o1", "o2", "o3"]
    (root / "plantnet300K_metadata.json").unlink()
    found = labels("plantnet", root)
    assert "group" not in found.frame.columns and "images of one observation count as independent" in found.notes[-1]


def test_iwildcam_has_locations_for_groups(copies):
    found = labels("iwildcam", copies("iwildcam"))
    (split,) = split_table(found)
    assert [fold.name for fold in split.folds] == ["test", "id_test"]
    train = set(side(found)["group"])
    assert not train & set(side(found, "test")["group"]) and set(side(found, "id_test")["group"]) <= train
    assert found.frame["site"].equals(found.frame["group"]) and found.frame["date"][0].startswith("2013-06-0")


def test_fungi_of_unknown_species_have_no_label_and_names_are_those_on_disk(copies):
    found = labels("fungiclef", copies("fungiclef"))
    val = side(found, "val")
    assert val["label"].null_count() == 1 and "DF21_300/0-5.jpg" in found.image_ids
    assert val.filter(pl.col("label") == "0")["group"].to_list() == ["val0", "val0"]


def test_the_later_fifth_of_a_species_is_tested(copies):
    found = labels("ecdysis", copies("ecdysis"))
    assert sorted(side(found)["date"].unique()) == [f"20{y}-05-01" for y in (15, 16, 17, 18)]
    assert sorted(side(found, "test")["date"].unique()) == ["2019-05-01", "2020-05-01"]


def test_kabr_takes_sixteen_frames_in_the_middle(tmp_path):
    rows = ["original_vido_id video_id frame_id path labels"]
    for clip, n in ((1, 90), (2, 76), (3, 40), (4, 16), (5, 15)):
        rows += [f"f {clip} {k} {clip}/{k}.jpg {clip % 2}" for k in range(1, n + 1)]
    for part in ("train", "val"):
        write(tmp_path / "annotation" / f"{part}.csv", "\n".join(rows))
    (tmp_path / "dataset" / "image").mkdir(parents=True)
    with pytest.raises(BBError, match=r"image 'dataset/image/1/13.jpg' is on the sides train and val; keep it on one"):
        labels("kabr", tmp_path)  # a frame of both sides
    write(tmp_path / "annotation" / "val.csv", "\n".join(row.replace("/", "/v") for row in rows))
    found = labels("kabr", tmp_path)
    taken = {}
    for image_id, group in side(found).select("image_id", "group").iter_rows():
        taken.setdefault(group, []).append(int(image_id.split("/")[-1][:-4]))
    assert {group: sorted(frames) for group, frames in taken.items()} == {
        "train/1": list(range(8, 84, 5)),
        "train/2": list(range(1, 77, 5)),
        "train/3": list(range(5, 36, 2)),
        "train/4": list(range(1, 17)),
    }
    assert "2 clips of fewer than 16 frames left out" in found.notes


def test_clips_without_all_frames_are_left_out(copies):
    found = labels("mammalnet", copies("mammalnet"))
    assert "1 clip without all 32 frames left out" in found.notes
    assert set(found.frame["group"].value_counts()["count"]) == {32}


def test_traits(copies):
    found = labels("fishnet", copies("fishnet"))
    assert found.traits[0] == "FeedingPath" and len(found.traits) == 9
    rows = found.frame.filter(pl.col("image_id").str.contains("Ara/|Bubo/"))
    assert dict(rows.select("image_id", "label:FeedingPath").iter_rows())["Image_Library/Bubo/1-0.jpg"] == 1
    animals = labels("awa2", copies("awa2"))
    assert animals.traits == ("black", "furry", "big") and split_table(animals)[0].n_units == 5
    assert animals.frame.filter(pl.col("group") == "kind7").select(animals.label_columns).unique().row(0) == (1, 0, 0)


def test_names_of_classes_that_several_numbers_have(copy):
    root = copy("nabirds")
    found = labels("nabirds", root)
    assert found.classes("classify") == ("Hawk (adult)", "Hawk (young)", "Owl")
    assert found.frame["crop"][0].to_list() == [1.0, 2.0, 5.0, 6.0]
    write(root / "classes.txt", "0 Hawk\n1 Hawk\n2 Owl\n")
    assert labels("nabirds", root).classes("classify") == ("Hawk (0)", "Hawk (1)", "Owl")


def test_camera_traps_have_two_tasks(copies):
    found = labels("cct", copies("cct"))
    assert found.tasks == ("empty", "species")
    assert found.classes("empty") == ("animal", "empty") and found.classes("species") == ("bobcat", "coyote", "deer")
    assert not set(side(found)["site"]) & set(side(found, "val")["site"])


def test_individuals_without_a_name_or_of_several_are_left_out(copy):
    root = copy("beluga")
    found = family_labels("beluga", root)
    assert found.columns == ["image_id", "label"] and found.height == 17
    path = root / "beluga.coco" / "annotations" / "instances_train2022.json"
    value = json.loads(path.read_text())
    value["annotations"].append({"image_id": 1, "name": "Corvus"})
    path.write_text(json.dumps(value))
    assert family_labels("coco-reid", root / "beluga.coco").height == 16


def test_tables_of_images_have_the_ids_of_extraction(tmp_path, copies):
    found = labels("imagenet1k", copies("imagenet1k"))
    assert found.image_ids[0] == "train-00000-of-00001/0" and found.classes("classify") == ("0", "1", "2")
    names = [(label, n, f"n0000000{label}_{n}_n0000000{label}.JPEG") for label in range(3) for n in range(3)]
    table(tmp_path / "train-0.parquet", names)
    val = [(label, 9, f"ILSVRC2012_val_0000000{label}_n0000000{label}.JPEG") for label in range(3)]
    table(tmp_path / "validation-0.parquet", val)
    table(tmp_path / "test-0.parquet", [(0, 1, "ILSVRC2012_test_00000001.JPEG")])
    found = labels("imagenet1k", tmp_path)
    assert found.image_ids[0] == "ILSVRC2012_val_00000000_n00000000.JPEG" and len(found) == 12
    named = family_labels("imagenet1k", None, [*found.image_ids, "ILSVRC2012_test_00000001.JPEG"])
    assert named.classes("classify") == ("n00000000", "n00000001", "n00000002")
    assert dict(named.frame["split"].value_counts().rows()) == {"train": 9, "val": 3, "unlabeled": 1}
    folders(tmp_path / "folders", "train", "val")
    assert labels("imagenet1k", tmp_path / "folders").classes("classify") == CLASSES


def test_taxonomy_of_few_shot_sets(tmp_path):
    write(tmp_path / "metadata.csv", "filepath,class,genus,species,split\na/1.jpg,Aves,Ara,macao,train\n"
          "a/2.jpg,Aves,Bubo,bubo,test\n")  # fmt: skip
    found = labels("meta-album", tmp_path)
    assert found.classes("classify") == ("Ara macao", "Bubo bubo") and set(found.frame["split"]) == {"train", "test"}


# Family, what is taken away, and what is said then.
ABSENT = [
    ("inat21", "val", r"it has train_mini/ but no val/ \(a folder for each class\)"),
    ("inat21", "train_mini", r"it has val/ but no train_mini/ or train/"),
    ("herbarium19", "validation", "it has train/ but no validation/ or val/"),
    ("plantnet", "images/test", "it has images/train/ and images/val/ but no images/test/ or images_test/ or test/"),
    ("plantnet-val", "images/val", "it has images/train/ but no images/val/"),
    ("plankton", "labeled_20201020", "but no labeled_20201020/ or train/"),
    ("plantdoc", "test", "it has train/ but no test/"),
    ("iwildcam", "iwildcam_v2.0/metadata.csv", r"it has train/ but no metadata.csv \(split, y and location"),
    ("iwildcam", "iwildcam_v2.0/train", "it has metadata.csv but no train/"),
    ("fungiclef", "DF21_300", r"no DF21_300/ or DF21/ \(validation images\)"),
    ("fungiclef", "FungiCLEF2023_val_metadata_PRODUCTION.csv", "no FungiCLEF2023_val_metadata_PRODUCTION.csv"),
    ("ecdysis", "images", "it has metadata.csv but no images/"),
    ("fishnet", "test.csv", "it has train.csv and Image_Library/ but no test.csv"),
    ("kabr", "annotation/val.csv", "it has annotation/train.csv and dataset/image/ but no annotation/val.csv"),
    ("mammalnet", "frames", "no frames/ .* cut from the videos"),
    ("beluga", "beluga.coco/images", "has annotations/ but no images/"),
    ("coco-reid", "beluga.coco/annotations/instances_train2022.json", "but no annotations/instances_"),
    ("imagenet1k", "data/validation-00000-of-00001.parquet", "it has train-00000-of-00001.parquet but no validation-"),
    ("nabirds", "train_test_split.txt", "but no train_test_split.txt"),
    ("cub200", "CUB_200_2011/classes.txt", "but no classes.txt"),
    ("awa2", "predicate-matrix-binary.txt", "but no predicate-matrix-binary.txt"),
    ("cct", "CaltechCameraTrapsSplits_v0.json", "but no CaltechCameraTrapsSplits_v0.json"),
    ("meta-album", "metadata.csv", r"no metadata.csv \(filepath and class, or species, of each image\), only images/"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "part", "message"), ABSENT)
def test_what_is_absent_is_named(name, part, message, copy):
    root = copy(name)
    shutil.rmtree(root / part) if (root / part).is_dir() else (root / part).unlink()
    with pytest.raises(UsageError, match=rf"does not have the layout of {name}: .*{message}.* It needs "):
        family_labels(name, root)
    assert layout_problems(name, root)


def test_every_family_has_a_wrong_layout():
    assert {name for name, _, _ in ABSENT} == set(MADE)


def test_a_folder_too_high_or_without_classes(tmp_path):
    folders(tmp_path / "unpacked" / "PlantDoc", "train", "test")
    (problem,) = layout_problems("plantdoc", tmp_path / "unpacked")
    assert problem == f"PlantDoc/ in it has the right layout: name {tmp_path}/unpacked/PlantDoc itself"
    picture(tmp_path / "flat" / "train" / "1.jpg", 0, 1)
    (tmp_path / "flat" / "test" / "a").mkdir(parents=True)
    (tmp_path / "flat" / "test" / "b").mkdir(parents=True)
    assert layout_problems("plantdoc", tmp_path / "flat") == [
        "train/ has 0 folders and 1 file, where it needs a folder for each of two or more classes",
        "no folder of a class in test/ has an image",
    ]
    assert layout_problems("plantdoc", tmp_path / "flat" / "train" / "1.jpg")[0].endswith("1.jpg is not a folder")


KABR = "original_vido_id video_id frame_id path labels\n"
IWILDCAM = "split,filename,y,location_remapped\n"
FUNGI = "image_path,class_id,observationID\n"
COCO = '{"images": [%s], "annotations": [%s]}'
ONE = '{"id": 1, "file_name": "a.jpg"}'
CCT = '{"images": [%s], "annotations": [%s], "categories": [{"id": 1, "name": "deer"}]}'
TRAITS = "FeedingPath,Tropical,Temperate,Subtropical,Boreal,Polar,freshwater,saltwater,brackish\n"
FISH = f",a,b,image,c,d,e,f,g,h,i,j,Folder,k,{TRAITS}"
RANKS = "gbif_class,gbif_order,gbif_family,gbif_genus,gbif_species"
WHALES = "beluga.coco/annotations/instances_train2022.json"
CAMERAS = "iwildcam_v2.0/metadata.csv"
CLIPS = "annotation/composition/test.csv"
SPECIES = "FungiCLEF2023_val_metadata_PRODUCTION.csv"
TRAPS, PLACES = "caltech_images_20210113.json", "CaltechCameraTrapsSplits_v0.json"
# Family, file, what it holds, and what is said.
HOSTILE = [
    ("iwildcam", CAMERAS, IWILDCAM + "train,a.jpg,0,1\ntrain,../x.jpg,1,1\n",
     r"metadata.csv, line 3: filename is '../x.jpg'; it must be a path below the folder"),
    ("iwildcam", CAMERAS, IWILDCAM + "train,/etc/x.jpg,0,1\n", "line 2: filename is '/etc/x.jpg'"),
    ("iwildcam", CAMERAS, IWILDCAM + "train,a.jpg,nan,1\n", "line 2: y is 'nan', which stands for"),
    ("iwildcam", CAMERAS, IWILDCAM + "train,a.jpg,1.5,1\n", "line 2: y is '1.5'; it must be a whole"),
    ("iwildcam", CAMERAS, IWILDCAM + "train,a.jpg,puma,1\n", "line 2: y is 'puma'; it must be a numb"),
    ("iwildcam", CAMERAS, IWILDCAM + "trian,a.jpg,1,1\n", "line 2: split is 'trian'; it must be train"),
    ("iwildcam", CAMERAS, IWILDCAM + "train,a.jpg,1,1\ntest,a.jpg,2,1\n",
     "line 3: filename 'a.jpg' stands on an earlier line already; keep one"),
    ("iwildcam", CAMERAS, "split,filename,y\ntrain,a.jpg,1\n", "have the column location_remapped; it"),
    ("fungiclef", SPECIES, FUNGI + "a.jpg,-2,1\n", "class_id is '-2'; it must be a whole"),
    ("fungiclef", SPECIES, FUNGI + "C:\\\\x.jpg,1,1\n", "line 2: image_path is 'C:"),
    ("ecdysis", "metadata.csv", f"image_thumbnail_large,visit_date,{RANKS}\n"
     ",,,,,,\nx/a.jpg,,a,b,c,d,e\ny/a.jpg,,a,b,c,d,e\n", "line 4: name 'a.jpg' stands on an earlier line already"),
    ("fishnet", "test.csv", FISH + "0,1,1,a.jpg,1,1,1,1,1,1,1,1,Ara,1,middle,0,0,0,0,0,0,0,0\n",
     "test.csv, line 2: FeedingPath is 'middle'; it must be 0 or 1, pelagic or benthic, or empty"),
    ("fishnet", "test.csv", FISH + "0,1,1,a.jpg,1,1,1,1,1,1,1,1,..,1,pelagic,0,0,0,0,0,0,0,0\n",
     "Folder is '..'; it must be"),
    ("fishnet", "train.csv", "a,b\n1,2\n", "does not have the columns FeedingPath, Tropical"),
    ("kabr", "annotation/val.csv", KABR + "f 1 1 a/1.jpg\n",
     "val.csv, line 2: it has 4 words, where it needs original_"),
    ("kabr", "annotation/val.csv", KABR + 'f 1 1 a/1.jpg "0,1"\n', "val.csv, line 2: labels is '0,1'; it must be a"),
    ("kabr", "annotation/val.csv", KABR + "f 1 1 a/../../1.jpg 0\n", "val.csv, line 2: path is 'a/../../1.jpg'"),
    ("kabr", "annotation/val.csv", KABR, "val.csv has no lines below its header"),
    ("kabr", "annotation/val.csv", "a\0b", "holds NUL characters"),
    ("mammalnet", CLIPS, "trimmed_videos/../../x.mp4 1 2\n", "line 1: video is 'trimmed_videos/"),
    ("mammalnet", CLIPS, "trimmed_videos/...mp4 1 2\n", "it must be trimmed_videos/NAME.mp4"),
    ("mammalnet", CLIPS, "trimmed_videos/x.mp4 eat 2\n", "line 1: behaviour is 'eat'; it must"),
    ("nabirds", "images.txt", "00 ../../x.jpg\n", "images.txt, line 1: path is '../../x.jpg'; it must be"),
    ("nabirds", "images.txt", "00 a.jpg\n00 b.jpg\n",
     "images.txt, line 2: image '00' stands on an earlier line already"),
    ("nabirds", "images.txt", "zz a.jpg\n", "image_class_labels.txt has no line for image 'zz' of images.txt"),
    ("nabirds", "image_class_labels.txt", "00 12\n",
     "image_class_labels.txt, line 1: class is '12'; classes.txt has no"),
    ("nabirds", "train_test_split.txt", "00 yes\n", "train_test_split.txt, line 1: trains is 'yes'; it must be 0 or 1"),
    ("nabirds", "bounding_boxes.txt", "00 1 2 wide 4\n",
     "bounding_boxes.txt, line 1: width is 'wide'; it must be a number"),
    ("awa2", "predicate-matrix-binary.txt", "1 0 0\n" * 9 + "1 0 2\n",
     "line 10: it has '2', where it needs 3 numbers 0 or"),
    ("awa2", "predicate-matrix-binary.txt", "1 0 0\n" * 9, "has 9 lines, and classes.txt 10"),
    ("awa2", "testclasses.txt", "yeti\n", "testclasses.txt, line 1: class 'yeti' is not in classes.txt"),
    ("beluga", WHALES, "[1, 2", r"can't be read as JSON: .* line 1 column 6"),
    ("beluga", WHALES, '{"images": {}}', "has no list 'images'"),
    ("beluga", WHALES, COCO % ("1", ""), r"images\[0\] is not an object but '1'"),
    ("beluga", WHALES, COCO % ('{"id": true, "file_name": "a"}', ""),
     r"images\[0\] has True for id, where it needs a whole number or a text"),
    ("beluga", WHALES, COCO % ('{"id": 1}', ""), "has nothing for file_name"),
    ("beluga", WHALES, COCO % ('{"id": 1, "file_name": "../a"}', ""),
     r"images\[0\] has file_name '../a'; it must be a path below images/"),
    ("beluga", WHALES, COCO % (f"{ONE}, {ONE}", ""), r"images\[1\] has the id 1"),
    ("beluga", WHALES, COCO % (ONE, '{"image_id": 7, "name": "a"}'),
     r"annotations\[0\] is of image 7, which is not there"),
    ("beluga", WHALES, COCO % (ONE, '{"image_id": 1, "name": [1]}'),
     r"annotations\[0\] has the name '\[1\]'; it must be a text"),
    ("beluga", WHALES, COCO % (ONE, '{"image_id": 1}'), "no annotation has a name"),
    ("beluga", WHALES, '{"images": [NaN]}', "it holds the number NaN"),
    ("beluga", WHALES, "[" * 9000, "it nests deeper than 32"),
    ("cct", TRAPS, CCT % ('{"id": 1, "file_name": "/a", "location": 1}', ""), "has file_name '/a'"),
    ("cct", TRAPS, CCT % ("", '{"image_id": 1, "category_id": 9}'), "category_id 9, which no category"),
    ("cct", TRAPS, CCT % ('{"id": 1, "file_name": "a", "location": 99}', ""), "no image is of a loc"),
    ("cct", PLACES, '{"splits": {"train": ["1"]}}', "has no list of locations splits.val"),
    ("cct", PLACES, '{"splits": {"train": [1], "val": ["1"]}}', "location '1' is both of train"),
    ("plantnet", "plantnet300K_metadata.json", "[]", "holds a list, where it needs an object for each image"),
    ("plantnet", "plantnet300K_metadata.json", '{"a": {}}', "image 'a' has no obs_id that is a text or number"),
    ("imagenet1k", "data/train-0.parquet", "PAR1", "train-0.parquet can't be read: "),
    ("meta-album", "metadata.csv", "filepath,class\n~/a.jpg,Ara\n",
     "line 2: filepath is '~/a.jpg'; it must be a path below"),
    ("meta-album", "metadata.csv", "filepath,class\na.jpg,\nb.jpg,x\n",
     "line 2: class is empty; every row needs one"),
    ("meta-album", "metadata.csv", "filepath,name\na.jpg,x\n",
     "has neither a column class nor species; it has filepath"),
    ("meta-album", "metadata.csv", "filepath,class\na.jpg,x\na.jpg,y\n",
     "line 3: filepath 'a.jpg' stands on an earlier line"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "text", "message"), HOSTILE)
def test_what_can_not_be_read_is_named_with_its_place(name, file, text, message, copy):
    root = copy(name)
    write(root / file, text)
    with pytest.raises((BBError, UsageError), match=message):
        family_labels(name, root)


@pytest.mark.parametrize("name", MADE)
def test_a_pipe_in_place_of_a_table_is_never_opened(name, copy):
    """Nobody writes to it, so reading it would never end."""
    root = copy(name)
    for path in [path for path in root.rglob("*") if path.is_file() and path.suffix.lower() not in IMAGES]:
        path.unlink()
        os.mkfifo(path)
    with suppress(BBError, UsageError):  # of Pl@ntNet the folders are enough
        family_labels(name, root)


def test_tables_of_images_without_labels(tmp_path):
    for part in ("train", "validation"):
        table(tmp_path / f"{part}-0.parquet", [(0, 1, None), (1, 2, None)], label="target")
    with pytest.raises(
        BBError, match=r"has no column label of whole numbers; next to the images it has target \(Int64\)"
    ):
        family_labels("imagenet1k", tmp_path)


def test_large_json_is_refused_before_it_is_read(copy, monkeypatch):
    monkeypatch.setattr(json_file, "MOST", 100)
    with pytest.raises(BBError, match=r"has [\d,]+ bytes, and at most 100 are read"):
        family_labels("beluga", copy("beluga"))


def test_the_page_has_every_family():
    page = (Path(__file__).parents[4] / "docs" / "families.md").read_text()
    assert [name for name in OWN if f"\n| `{name}` |" not in page] == []
