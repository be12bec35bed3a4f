"""What every backbone keeps, of whichever library."""

import json

import pytest
import torch
from PIL import Image

from bb.extract.embedding.backbone import Backbone
from bb.extract.embedding.decoder import DecodeOptions
from bb.store.files.canonical_json import digest_of


class BackboneSuite:
    """Fixture: `backbone`."""

    @pytest.fixture(scope="class")
    def batch(self, backbone) -> torch.Tensor:
        return torch.randn(3, 3, *backbone.view.crop, generator=torch.Generator().manual_seed(0))

    @pytest.fixture(scope="class")
    def encoded(self, backbone, batch):
        with torch.inference_mode():
            return backbone.img_encode(batch)

    def test_keeps_the_contract(self, backbone):
        assert isinstance(backbone, Backbone)
        assert len(digest_of(backbone.architecture)) == 64
        for record in (
            backbone.architecture,
            backbone.img_output,
            backbone.patch_output,
            backbone.view.record(DecodeOptions("pillow")),
        ):
            assert json.loads(json.dumps(record)) == record

    def test_is_frozen_float32_and_in_eval_mode(self, backbone):
        assert not any(module.training for module in backbone.modules())
        assert not any(parameter.requires_grad for parameter in backbone.parameters())
        assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}

    def test_shapes_are_as_announced(self, backbone, encoded):
        assert encoded.img_features.shape == (3, backbone.feat_dim)
        assert backbone.img_output["kind"] == "img"
        assert backbone.img_output["dim"] == backbone.feat_dim
        assert torch.isfinite(encoded.img_features).all()
        if backbone.patch_output is None:
            assert encoded.patch_features is None
        else:
            output = backbone.patch_output
            assert encoded.patch_features.shape == (3, output["patches"], output["dim"])
            assert output["grid"][0] * output["grid"][1] == output["patches"]

    def test_patches_lie_row_by_row(self, backbone, batch):
        """What changes in one patch of the picture changes that patch's token most."""
        if backbone.patch_output is None:
            pytest.skip("has no patches")
        rows, columns = backbone.patch_output["grid"]
        height, width = backbone.view.crop[0] // rows, backbone.view.crop[1] // columns
        row, column = rows // 3, columns - 2
        changed = batch[:1].clone()
        changed[:, :, row * height : (row + 1) * height, column * width : (column + 1) * width] += 3
        with torch.inference_mode():
            before, after = backbone.img_encode(batch[:1]), backbone.img_encode(changed)
        moved = (after.patch_features - before.patch_features).norm(dim=-1)[0]
        assert moved.argmax() == row * columns + column

    def test_extract_and_call_give_the_same(self, backbone, batch, encoded):
        with torch.inference_mode():
            assert torch.equal(backbone.extract(batch), encoded.img_features)
            assert torch.equal(backbone(batch).img_features, encoded.img_features)

    def test_features_do_not_depend_on_batch_mates(self, backbone, batch, encoded):
        with torch.inference_mode():
            alone = backbone.img_encode(batch[1:2])
            beside = backbone.img_encode(torch.cat([1000 * batch[2:], batch[1:2], 0 * batch[:1]]))
        for found in (alone.img_features[0], beside.img_features[1]):
            torch.testing.assert_close(found, encoded.img_features[1], rtol=1e-3, atol=1e-4)
        if encoded.patch_features is not None:
            torch.testing.assert_close(alone.patch_features[0], encoded.patch_features[1], rtol=1e-3, atol=1e-4)

    def test_features_tell_images_apart(self, encoded):
        assert (encoded.img_features[0] - encoded.img_features[1]).abs().max() > 1e-6

    def test_transform_makes_its_input(self, backbone):
        picture = Image.effect_noise((300, 200), 50).convert("RGB")
        tensor = backbone.make_img_transform()(picture)
        assert tensor.shape == (3, *backbone.view.crop)
        assert tensor.dtype == torch.float32

    def test_state_covers_every_tensor(self, backbone):
        """No parameter stays outside the digest."""
        state = backbone.vision_state()
        covered = {tensor.data_ptr() for tensor in state.values()}
        assert {parameter.data_ptr() for parameter in backbone.parameters()} <= covered
