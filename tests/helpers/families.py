"""Small copies of published data sets as they are on a disk, three classes of six images each, and damaged ones."""

import io
import json
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

CLASSES = ("Ara", "Bubo", "Corvus")
IMAGES = 6  # of each class; the first four train


def picture(path: Path, label: int, n: int) -> Path:
    """A small JPEG or PNG whose colour says its class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1000 * label + n)
    pixels = rng.integers(0, 90, (12, 12, 3), dtype=np.uint8)
    pixels[..., label % 3] += 140
    Image.fromarray(pixels).save(path)
    return path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def folders(root: Path, train: str, *others: str, end: str = "jpg") -> None:
    """train/CLASS/*, and two images of each class in each other side."""
    for label, name in enumerate(CLASSES):
        for n in range(IMAGES - 2):
            picture(root / train / name / f"{n}.{end}", label, n)
        for place, side in enumerate(others, 1):
            for n in range(2):
                picture(root / side / name / f"{10 * place + n}.{end}", label, 10 * place + n)


def inat21(root: Path) -> None:
    folders(root, "train_mini", "val")


def herbarium19(root: Path) -> None:
    folders(root, "train", "validation")


def plantnet(root: Path) -> None:
    folders(root, "images/train", "images/val", "images/test")
    found = {p.stem: {"species_id": p.parent.name, "obs_id": f"o{p.stem}"} for p in root.rglob("*.jpg")}
    write(root / "plantnet300K_metadata.json", json.dumps(found))


def plankton(root: Path) -> None:
    folders(root, "labeled_20201020", "phytoplankton_Utö_2021_labeled", end="png")
    picture(root / "phytoplankton_Utö_2021_labeled" / "Unclassifiable" / "9.png", 1, 9)


def plantdoc(root: Path) -> None:
    folders(root, "train", "test")


def iwildcam(root: Path) -> None:
    """Locations 0 to 4 train and are of id_test, 5 to 9 of test."""
    rows = ["split,location_remapped,sequence_remapped,y,datetime,filename"]
    for label in range(3):
        for n in range(20):
            split = "train" if n < 10 else "id_test" if n < 15 else "test"
            place = n % 5 + 5 * (split == "test")
            name = f"{label}-{n}.jpg"
            picture(root / "iwildcam_v2.0" / "train" / name, label, n)
            rows.append(f"{split},{place},{label}{n},{label},2013-06-0{n % 9 + 1} 13:45:00.000,{name}")
    write(root / "iwildcam_v2.0" / "metadata.csv", "\n".join(rows))


def fungiclef(root: Path) -> None:
    """Two photographs of each validation observation; the last observation is of an unknown species."""
    header = "observationID,image_path,class_id"
    sides: dict[str, list[str]] = {"train": [header], "val": [header]}
    for label in range(3):
        for n in range(IMAGES):
            side, folder = ("train", "DF20_300") if n < 4 else ("val", "DF21_300")
            name = f"{label}-{n}.JPG"
            picture(root / folder / (name.lower() if n == 5 else name), label, n)
            sides[side].append(f"{side}{label}{n if side == 'train' else ''},{name},{label}")
    picture(root / "DF21_300" / "x.JPG", 0, 99)
    sides["val"].append("unknown,x.JPG,-1")
    for side, rows in sides.items():
        write(root / f"FungiCLEF2023_{side}_metadata_PRODUCTION.csv", "\n".join(rows))


def ecdysis(root: Path) -> None:
    ranks = "gbif_class,gbif_order,gbif_family,gbif_genus,gbif_species"
    rows = [f"id,image_thumbnail_large,visit_date,{ranks}"]
    for label, name in enumerate(CLASSES):
        for n in range(IMAGES):
            picture(root / "images" / f"{label}-{n}.jpg", label, n)
            rows.append(
                f"{label}{n},https://x.org/a/{label}-{n}.jpg,20{20 - n}-05-01,Insecta,O,F,{name},{name} vulgaris"
            )
    rows.append("99,,2001-01-01,Insecta,O,F,G,G s")
    write(root / "metadata.csv", "\n".join(rows))


def fishnet(root: Path) -> None:
    traits = "FeedingPath,Tropical,Temperate,Subtropical,Boreal,Polar,freshwater,saltwater,brackish"
    header = f",a,b,image,c,d,e,f,g,h,i,j,Folder,k,{traits}"
    sides = {"train": [header], "test": [header]}
    for label in range(3):
        for n in range(IMAGES):
            name = f"{label}-{n}.jpg"
            picture(root / "Image_Library" / CLASSES[label] / name, label, n)
            values = ["pelagic" if label else "benthic", *(str(int((label + k) % 3 == 0)) for k in range(8))]
            row = f"{n},x,x,./lib/{name},x,x,x,x,x,x,x,x,{CLASSES[label]},x,{','.join(values)}"
            sides["train" if n < 4 else "test"].append(row)
    sides["train"].append(f"7,x,x,./lib/none.jpg,x,x,x,x,x,x,x,x,Ara,x,,{','.join('0' * 8)}")
    for side, rows in sides.items():
        write(root / f"{side}.csv", "\n".join(rows))


def kabr(root: Path) -> None:
    """Clips of 18 frames, three of each class and side, one too short."""
    for side in ("train", "val"):
        rows = ["original_vido_id video_id frame_id path labels"]
        for clip in range(9):
            label = clip % 3
            for n in range(18 if clip or side == "val" else 3):
                name = f"{side}{clip}/{n + 1}.jpg"
                picture(root / "dataset" / "image" / name, label, n)
                rows.append(f'flight{clip // 3} {clip} {n + 1} {name} "{label}"')
        write(root / "annotation" / f"{side}.csv", "\n".join(rows))


def mammalnet(root: Path) -> None:
    """Three clips of each behaviour and side; one of the last side has no frames."""
    for side in ("train", "test"):
        rows = []
        for clip in range(9):
            rows.append(f"trimmed_videos/{side}{clip}.mp4 {clip % 3} {clip}")
            for n in range(0 if (side, clip) == ("test", 8) else 32):
                picture(root / "frames" / f"{side}{clip}" / f"frame_{n + 1:02}.jpg", clip % 3, n)
        write(root / "annotation" / "composition" / f"{side}.csv", "\n".join(rows))


def beluga(root: Path) -> None:
    base, images, annotations = root / "beluga.coco", [], []
    for label, name in enumerate(CLASSES):
        for n in range(IMAGES):
            file = f"{label}-{n}.jpg"
            picture(base / "images" / "train2022" / file, label, n)
            images.append({"id": len(images) + 1, "file_name": file, "width": 12, "height": 12})
            annotations.append({"id": len(images), "image_id": len(images), "bbox": [0, 0, 12, 12], "name": name})
    annotations[-1]["name"] = "____"
    text = json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 0, "name": "whale"}]})
    write(base / "annotations" / "instances_train2022.json", text)


def imagenet1k(root: Path) -> None:
    """Tables with the labels 0 to 2 and no paths."""
    for side, numbers in (("train", range(4)), ("validation", range(4, 6))):
        table(
            root / "data" / f"{side}-00000-of-00001.parquet", [(label, n, None) for label in range(3) for n in numbers]
        )


def table(path: Path, rows: list[tuple[int, int, str | None]], label: str = "label") -> None:
    """An image table of (class, number, path)."""
    cells = []
    for of, n, name in rows:
        buffer = io.BytesIO()
        pixels = np.full((12, 12, 3), 20 * n, np.uint8)
        pixels[..., of] = 230
        Image.fromarray(pixels).save(buffer, "png")
        cells.append({"bytes": buffer.getvalue(), "path": name})
    kind = pl.Struct({"bytes": pl.Binary(), "path": pl.String()})
    path.parent.mkdir(parents=True, exist_ok=True)
    images = pl.Series("image", cells, dtype=kind)
    pl.DataFrame([images, pl.Series(label, [of for of, _, _ in rows])]).write_parquet(path, row_group_size=5)


def numbered(root: Path) -> None:
    """The lists of CUB-200 and NABirds, with boxes; a class that no image has."""
    lists: dict[str, list[str]] = {
        name: [] for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes")
    }
    for label in range(len(CLASSES)):
        for n in range(IMAGES):
            image = f"{label}{n}"
            picture(root / "images" / f"{label:03}" / f"{n}.jpg", label, n)
            lists["images"].append(f"{image} {label:03}/{n}.jpg")
            lists["image_class_labels"].append(f"{image} {label}")
            lists["train_test_split"].append(f"{image} {int(n < 4)}")
            lists["bounding_boxes"].append(f"{image} 1.0 2.0 5.0 6.0")
    for name, rows in lists.items():
        write(root / f"{name}.txt", "\n".join(rows))
    write(root / "classes.txt", "0 Hawk (adult)\n1 Hawk (young)\n2 Owl\n7 Birds of prey\n")


def cub200(root: Path) -> None:
    numbered(root / "CUB_200_2011")


def awa2(root: Path) -> None:
    """Five classes of each side."""
    names = [f"kind{k}" for k in range(10)]
    for label, name in enumerate(names):
        for n in range(3):
            picture(root / "JPEGImages" / name / f"{name}_{n}.jpg", label, n)
    write(root / "classes.txt", "\n".join(f"  {k + 1}\t{name}" for k, name in enumerate(names)))
    write(root / "predicates.txt", "1\tblack\n2\tfurry\n3\tbig\n")
    write(
        root / "predicate-matrix-binary.txt",
        "\n".join(f"{k % 2} {int(k % 3 == 0)} {int(k % 5 < 2)}" for k in range(10)),
    )
    write(root / "trainclasses.txt", "\n".join(names[:5]))
    write(root / "testclasses.txt", "\n".join(names[5:]))


def cct(root: Path) -> None:
    """Locations 0 to 4 train, 5 to 9 validate; one image of two categories, and one of another location."""
    images, annotations = [], []
    for label in range(4):
        for n in range(10):
            image = f"{label}-{n}"
            picture(root / "cct_images" / f"{image}.jpg", label, n)
            images.append(
                {"id": image, "file_name": f"{image}.jpg", "location": str(n), "date_captured": "2012-05-01 10:00:00"}
            )
            annotations.append({"id": image, "image_id": image, "category_id": label})
    annotations.append({"id": "z", "image_id": "1-0", "category_id": 2})
    images.append({"id": "far", "file_name": "far.jpg", "location": "77", "date_captured": "11 11"})
    categories = [{"id": k, "name": name} for k, name in enumerate(["empty", "coyote", "bobcat", "deer"])]
    value = {"images": images, "annotations": annotations, "categories": categories}
    write(root / "caltech_images_20210113.json", json.dumps(value))
    splits = {"splits": {"train": [str(k) for k in range(5)], "val": [str(k) for k in range(5, 10)]}}
    write(root / "CaltechCameraTrapsSplits_v0.json", json.dumps(splits))


def meta_album(root: Path) -> None:
    rows = [",filepath,class"]
    for label, name in enumerate(CLASSES):
        for n in range(IMAGES):
            picture(root / "images" / f"{label}-{n}.jpg", label, n)
            rows.append(f"{len(rows) - 1},images/{label}-{n}.jpg,{name}")
    write(root / "metadata.csv", "\n".join(rows))


MADE = {
    "inat21": inat21, "herbarium19": herbarium19, "plantnet": plantnet, "plantnet-val": plantnet, "iwildcam": iwildcam,
    "fungiclef": fungiclef, "plankton": plankton, "ecdysis": ecdysis, "fishnet": fishnet, "kabr": kabr,
    "mammalnet": mammalnet, "beluga": beluga, "coco-reid": beluga, "imagenet1k": imagenet1k, "nabirds": numbered,
    "cub200": cub200, "awa2": awa2, "cct": cct, "plantdoc": plantdoc, "meta-album": meta_album,
}  # fmt: skip
