"""SYKE plankton: microscope images of phytoplankton; trained on one year's, tested on another's at the station Utö."""

from bb.probe.tasks.families.folders.class_folders import ClassFolders
from bb.probe.tasks.family import About

PLANKTON = ClassFolders(
    "SYKE plankton: phytoplankton under the microscope, by class",
    About(
        needs="labeled_20201020/CLASS/*.png (or train/) and phytoplankton_Utö_2021_labeled/CLASS/*.png (or val/)",
        size="50 classes",
        home="https://doi.org/10.23728/b2share.abf913e5a6ad47e6baa273ae0ed6617a",
        citation="""@article{kraft2022towards,
  title = {Towards operational phytoplankton recognition with automated high-throughput imaging, near-real-time data
    processing, and convolutional neural networks},
  author = {Kraft, Kaisa and Velhonoja, Otso and Eerola, Tuomas and Suikkanen, Sanna and Tamminen, Timo and Haraguchi,
    Lumi and Yl{\\"o}stalo, Pasi and Kielosto, Sami and Johansson, Milla and Lensu, Lasse and K{\\"a}lvi{\\"a}inen,
    Heikki and Haario, Heikki and Sepp{\\"a}l{\\"a}, Jukka},
  journal = {Frontiers in Marine Science},
  volume = {9},
  year = {2022},
  doi = {10.3389/fmars.2022.867695}
}""",
        metrics=("macro_f1@wilds", "macro_f1@biobench"),
        published="biobench: linear probe by AdamW, train to val, macro-F1, with classes numbered for each side",
        protocols=("biobench-linear",),
    ),
    {"train": ("labeled_20201020", "train"), "val": ("phytoplankton_Utö_2021_labeled", "val")},
    unknown=frozenset({"unclassifiable"}),
)
