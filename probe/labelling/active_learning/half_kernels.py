"""The compiled conversion of float16 to float32, which decides how long a pass takes: NumPy's is ten times slower."""

# mypy: disallow-untyped-defs=False
# numba infers the types of what it compiles.

import numpy as np
from jaxtyping import Float, Float32

from bb.probe.numba_cache import compiled

SHIFT = np.float32(2.0**112)  # between the biases of the two exponents, 127 - 15


@compiled()
def _widen(half_N, single_N):
    """Moves sign, exponent and fraction of each half to their places in a single, which is then off by SHIFT."""
    for i in range(half_N.size):
        word = np.uint32(half_N[i])
        single_N[i] = ((word & np.uint32(0x7FFF)) << np.uint32(13)) | ((word & np.uint32(0x8000)) << np.uint32(16))


def to_single(x: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    """Finite numbers as float32, exactly for float16 (as `astype`); the caller's own array where it is float32."""
    if x.dtype != np.float16:
        return x.astype(np.float32, copy=False)
    out = np.empty(x.shape, np.uint32)
    _widen(np.ascontiguousarray(x).view(np.uint16).reshape(-1), out.reshape(-1))
    single = out.view(np.float32)
    single *= SHIFT
    return single
