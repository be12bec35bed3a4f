"""torch.manual_seed and torch.randperm on a CPU, to the bit and without torch.

torch's generator is the 32-bit Mersenne Twister with Knuth's initialisation, as NumPy's legacy seeding has it, and
below 2^32 / 20 entries randperm swaps entry i with entry i + r mod (n - i), r being the next 32 bits
(pytorch, aten/src/ATen/native/TensorFactories.cpp, randperm_cpu).
"""

import numpy as np
from jaxtyping import Int64


class TorchGenerator:
    """The state that torch.manual_seed(seed) sets; each permutation draws from where the last one ended."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.MT19937()
        self._bits._legacy_seeding(seed)

    def randperm(self, n: int) -> Int64[np.ndarray, " n"]:
        """torch.randperm(n), for n below 2^32 / 20."""
        order = list(range(n))
        draws = self._bits.random_raw(max(n - 1, 0)).tolist()
        for i, bits in enumerate(draws):
            other = i + bits % (n - i)
            order[i], order[other] = order[other], order[i]
        return np.array(order, np.int64)
