"""Build every architecture of open_clip and timm, and check what it promises against what it gives.

    python scripts/soak/backbones.py [PATTERN] [--json FILE] [--quick]        (an hour for all on one core, 5 GB)

Networks are built and run on the meta device, which has shapes but no numbers. One line of JSON per
architecture goes to standard output; the exit status is 1 where one fails that `bb models` does not list as
lacking something, or the other way round.
"""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

import torch

from bb.extract.backbones.catalog import entries
from bb.extract.backbones.name import BackboneName
from bb.extract.embedding.backbone import Backbone
from bb.extract.embedding.decoder import DecodeOptions


def meta_backbone(name: BackboneName) -> Backbone:
    """The backbone as `load` makes it, but on the meta device and without its weights."""
    with torch.device("meta"):
        if name.org == "timm":
            import timm

            from bb.extract.embedding.timm import TimmBackbone

            network = timm.create_model(name.architecture, num_classes=1)
            network.reset_classifier(0)
            headless = timm.create_model(name.architecture, num_classes=0)
            if network.state_dict().keys() != headless.state_dict().keys():
                raise AssertionError("taking the classifier off is not building without one")
            return TimmBackbone(network)
        from bb.extract.backbones import load_open_clip
        from bb.extract.embedding import open_clip

        recipe = load_open_clip.resolve(name)
        return open_clip.OpenClipBackbone(open_clip.build(recipe), recipe)


def check(name: BackboneName) -> dict[str, object]:
    backbone = meta_backbone(name)
    with torch.inference_mode():
        encoded = backbone.img_encode(torch.empty(2, 3, *backbone.view.crop, device="meta"))
    assert encoded.img_features.shape == (2, backbone.feat_dim), encoded.img_features.shape
    assert backbone.img_output["pooling"] != "", backbone.img_output
    assert (encoded.patch_features is None) == (backbone.patch_output is None)
    if backbone.patch_output is not None and encoded.patch_features is not None:
        output = backbone.patch_output
        assert encoded.patch_features.shape == (2, output["patches"], output["dim"]), encoded.patch_features.shape
        assert output["grid"][0] * output["grid"][1] == output["patches"], output
    json.dumps(
        [
            backbone.architecture,
            backbone.view.record(DecodeOptions("pillow")),
            backbone.img_output,
            backbone.patch_output,
        ]
    )
    return {
        "img": backbone.img_output,
        "patch": backbone.patch_output,
        "view": backbone.view.record(DecodeOptions("pillow")),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pattern", nargs="*", metavar="PATTERN", help="as `bb models` takes it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one flat object")
    parser.add_argument("--quick", action="store_true", help="timm's test networks alone")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    lacks = {}
    for entry in entries(*(["timm:test_*"] if options.quick else options.pattern)):
        parsed = BackboneName.parse(entry["name"])
        lacks[BackboneName(parsed.org, parsed.architecture, untrained=True)] = entry["lacks"]
    failed = 0
    for name, lacking in lacks.items():
        start = time.perf_counter()
        try:
            result = check(name)
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        result |= {"name": str(name), "lacks": lacking, "seconds": round(time.perf_counter() - start, 2)}
        failed += ("error" in result) != bool(lacking)
        print(json.dumps(result), flush=True)
    print(f"{len(lacks)} architectures, {failed} not as listed", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps({"architectures": len(lacks), "not_as_listed": failed}) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
