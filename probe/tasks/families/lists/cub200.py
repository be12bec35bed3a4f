"""CUB-200-2011: photographs of birds of 200 species."""

from bb.probe.tasks.families.lists.numbered_images import NumberedImages
from bb.probe.tasks.family import About

CUB200 = NumberedImages(
    "CUB-200: birds of 200 species",
    About(
        needs="images/, images.txt, image_class_labels.txt, train_test_split.txt and classes.txt",
        size="200 classes",
        home="https://www.vision.caltech.edu/datasets/cub_200_2011/",
        citation="""@techreport{wah2011caltech,
  title = {The Caltech-UCSD Birds-200-2011 Dataset},
  author = {Wah, Catherine and Branson, Steve and Welinder, Peter and Perona, Pietro and Belongie, Serge},
  institution = {California Institute of Technology},
  year = {2011}
}""",
        metrics=("accuracy",),
        published="birder: retrieval, test images among those of training",
    ),
    unpacked="CUB_200_2011",
)
