"""Herbarium 2019: pressed plants, the challenge of FGVC6."""

from bb.probe.tasks.families.folders.class_folders import ClassFolders
from bb.probe.tasks.family import About

HERBARIUM19 = ClassFolders(
    "Herbarium19: pressed plants by species",
    About(
        needs="train/CLASS/*.jpg and validation/CLASS/*.jpg",
        size="34,225 training and 2,679 validation images",
        home="https://github.com/visipedia/herbarium_comp",
        citation="""@article{tan2019herbarium,
  title = {The Herbarium Challenge 2019 Dataset},
  author = {Tan, Kiat Chuan and Liu, Yulong and Ambrose, Barbara and Tulig, Melissa and Belongie, Serge},
  journal = {arXiv preprint arXiv:1906.05372},
  year = {2019}
}""",
        metrics=("macro_f1@wilds", "macro_f1@biobench"),
        published="biobench: linear probe by AdamW, train to validation, macro-F1",
        protocols=("biobench-linear",),
    ),
    {"train": ("train", "small-train"), "val": ("validation", "val", "small-validation")},
)
