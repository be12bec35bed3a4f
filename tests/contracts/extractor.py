"""What every extractor and all that can be frozen keeps."""

import torch


def check_extractor(extractor, x):
    """`x`: four or more inputs."""
    assert isinstance(extractor.feat_dim, int)
    found = extractor.extract(x)
    assert found.shape == (len(x), extractor.feat_dim) and found.dtype == torch.float32
    assert not found.requires_grad and found.isfinite().all()
    torch.testing.assert_close(extractor.extract(x[1:3]), found[1:3], rtol=1e-4, atol=1e-5)


def check_freezable(freezable, parameters):
    """`parameters`: gives those of the freezable, at any time."""
    assert parameters()
    for _ in range(2):
        freezable.freeze()
        assert not any(parameter.requires_grad for parameter in parameters())
    for _ in range(2):
        freezable.unfreeze()
        assert all(parameter.requires_grad for parameter in parameters())
