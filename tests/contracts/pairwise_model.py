"""The suite that whatever keeps the contract of a pairwise model passes."""

import numpy as np

from bb.probe.retrieval.pairwise_model import PairwiseModel, Separable


def check_pairwise_model(model, dim):
    """`dim`: length of the features that it compares."""
    assert isinstance(model, PairwiseModel)
    x1, x2 = np.random.default_rng(0).normal(size=(2, 9, dim)).astype(np.float32)
    found = model.predict(x1, x2)
    assert found.shape == (9,) and found.dtype == np.float32 and np.isfinite(found).all()
    assert np.array_equal(found, model.predict(x1, x2))
    # Pairs do not depend on each other, and there may be one or none.
    np.testing.assert_allclose(model.predict(x1[4:5], x2[4:5]), found[4:5], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.predict(x1[::-1], x2[::-1]), found[::-1], rtol=1e-5, atol=1e-6)
    assert model.predict(x1[:0], x2[:0]).shape == (0,)
    # Less is more alike.
    assert (model.predict(x1, x1) < found).all()
    # float16 stores work; a row of zeros, equal rows and long ones have a distance.
    np.testing.assert_allclose(model.predict(x1.astype(np.float16), x2.astype(np.float16)), found, atol=2e-2)
    for odd in (np.zeros_like(x1), x1, 1e4 * x1):
        assert np.isfinite(model.predict(odd, x1)).all()
    # What is trained is what is used.
    np.testing.assert_allclose(forward(model, x1, x2), found, rtol=1e-4, atol=1e-5)
    if isinstance(model, Separable):
        np.testing.assert_allclose(model.compare(model.project(x1), model.project(x2)), found, rtol=1e-6)


def forward(model, x1, x2):
    """`forward` in torch, whose gradients reach the features, as an array."""
    import torch

    a, b = (torch.from_numpy(x).requires_grad_() for x in (x1, x2))
    distances = model.forward(a, b)
    assert distances.shape == (len(x1),)
    distances.sum().backward()
    assert all(x.grad.isfinite().all() and x.grad.abs().sum() > 0 for x in (a, b))
    return distances.detach().numpy()
