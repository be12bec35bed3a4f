"""torch's permutations without torch are torch's."""

import torch

from bb.probe.classification.published.torch_random import TorchGenerator


def test_permutations_are_those_of_torch():
    for seed in (0, 1, 17, 2**31 + 5):
        torch.manual_seed(seed)
        generator = TorchGenerator(seed)
        for n in (0, 1, 2, 7, 1000, 30_000):
            assert generator.randperm(n).tolist() == torch.randperm(n).tolist()


def test_a_generator_of_torch_has_the_same_stream():
    generator = torch.Generator()
    generator.manual_seed(3)
    assert TorchGenerator(3).randperm(500).tolist() == torch.randperm(500, generator=generator).tolist()
