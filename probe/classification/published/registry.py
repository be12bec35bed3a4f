"""Published protocols by name: bb's own and those of plug-ins. Each is a record of protocol.py."""

from typing import Any

from bb.store.plugins import Registry

_HERE = "bb.probe.classification.published"

PROTOCOLS: Registry[Any] = Registry(
    "bb.protocols",
    "protocol",
    {
        "biobench-simpleshot": f"{_HERE}.biobench_simpleshot:PROTOCOL",
        "biobench-linear": f"{_HERE}.biobench_linear:PROTOCOL",
        "biobench-fishnet": f"{_HERE}.multilabel:BIOBENCH_FISHNET",
        "biobench-fungiclef": f"{_HERE}.biobench_fungiclef:PROTOCOL",
        "bioclip2-fishnet": f"{_HERE}.multilabel:FISHNET",
        "bioclip2-awa2": f"{_HERE}.multilabel:AWA2",
        "aim-attentive": f"{_HERE}.aim_attentive:PROTOCOL",
        "bioclip2-fewshot": f"{_HERE}.bioclip2_fewshot:PROTOCOL",
        "dinov2-knn": f"{_HERE}.dinov2_knn:PROTOCOL",
        "dinov2-logreg": f"{_HERE}.dinov2_logreg:PROTOCOL",
        "dinov3-logreg": f"{_HERE}.dinov3_logreg:PROTOCOL",
        "clip-linear": f"{_HERE}.clip_linear:PROTOCOL",
        "mieb-linear": f"{_HERE}.mieb_linear:PROTOCOL",
        "bigvision-fewshot": f"{_HERE}.bigvision_fewshot:PROTOCOL",
    },
    needs=("grid", "draw_split", "record"),
)
