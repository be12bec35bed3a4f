"""iNaturalist 2021: 10,000 species, each a folder of photographs named by its taxonomy."""

from bb.probe.tasks.families.folders.class_folders import ClassFolders
from bb.probe.tasks.family import About

INAT21 = ClassFolders(
    "iNat21: photographs of 10,000 species of plants, animals and fungi",
    About(
        needs="train_mini/CLASS/*.jpg (or train/) and val/CLASS/*.jpg",
        size="train_mini 500,000 images, 42 GB; val 100,000 images, 8.4 GB; 10,000 classes",
        home="https://github.com/visipedia/inat_comp",
        citation="""@inproceedings{vanhorn2021benchmarking,
  title = {Benchmarking Representation Learning for Natural World Image Collections},
  author = {Van Horn, Grant and Cole, Elijah and Beery, Sara and Wilber, Kimberly and Belongie, Serge and Mac Aodha,
    Oisin},
  booktitle = {CVPR},
  year = {2021}
}""",
        metrics=("accuracy",),
        published="biobench: linear probe by AdamW, train_mini to val, accuracy",
        protocols=("biobench-linear",),
    ),
    {"train": ("train_mini", "train"), "val": ("val",)},
)
