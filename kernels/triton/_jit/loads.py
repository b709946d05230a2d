"""Loads of floats that kernels multiply: as float32, and 0 where they are masked off."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_activations(at, mask):
    return tl.load(at, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def load_weights(at, mask):
    # A weight is read once: the cache is for what is read again.
    return tl.load(at, mask=mask, other=0.0, eviction_policy="evict_first").to(tl.float32)
