"""PlantDoc: leaves of crops by plant and disease."""

from bb.probe.tasks.families.folders.class_folders import ClassFolders
from bb.probe.tasks.family import About

PLANTDOC = ClassFolders(
    "PlantDoc: leaves by plant and disease",
    About(
        needs="train/CLASS/*.jpg and test/CLASS/*.jpg",
        size="2,598 images, 27 classes",
        home="https://github.com/pratikkayal/PlantDoc-Dataset",
        citation="""@inproceedings{singh2020plantdoc,
  title = {PlantDoc: A Dataset for Visual Plant Disease Detection},
  author = {Singh, Davinder and Jain, Naman and Jain, Pranjali and Kayal, Pratik and Kumawat, Sudhakar and Batra,
    Nipun},
  booktitle = {CoDS COMAD},
  year = {2020}
}""",
        classifier="simpleshot",
        metrics=("accuracy",),
        published="BioCLIP 2: SimpleShot of 1 shot, 5 draws, train to test, accuracy",
    ),
    {"train": ("train", "TRAIN"), "test": ("test", "TEST")},
)
