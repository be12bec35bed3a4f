"""NABirds: photographs of North American birds, by species, plumage and age."""

from bb.probe.tasks.families.lists.numbered_images import NumberedImages
from bb.probe.tasks.family import About

NABIRDS = NumberedImages(
    "NABirds: North American birds by species, plumage and age",
    About(
        needs="images/, images.txt, image_class_labels.txt, train_test_split.txt and classes.txt",
        size="48,562 images, 555 classes",
        home="https://dl.allaboutbirds.org/nabirds",
        citation="""@inproceedings{vanhorn2015building,
  title = {Building a bird recognition app and large scale dataset with citizen scientists: The fine print in
    fine-grained dataset collection},
  author = {Van Horn, Grant and Branson, Steve and Farrell, Ryan and Haber, Scott and Barry, Jessie and Ipeirotis, Panos
    and Perona, Pietro and Belongie, Serge},
  booktitle = {CVPR},
  year = {2015}
}""",
        classifier="knn",
        metrics=("accuracy",),
        published="birder: nearest neighbours, k of 10, 20 and 100, train to test, accuracy",
    ),
    unpacked="nabirds",
)
