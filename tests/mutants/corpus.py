"""All mutants."""

from __future__ import annotations

import mutants_alone
import mutants_compiled
import mutants_cpu
import mutants_cuda
import mutants_formats
import mutants_numbers
import mutants_sizes
import mutants_state
import mutants_torch
import mutants_triton
import mutants_triton_formats

MUTANTS = (
    *mutants_triton.MUTANTS,
    *mutants_triton_formats.MUTANTS,
    *mutants_cpu.MUTANTS,
    *mutants_compiled.MUTANTS,
    *mutants_torch.MUTANTS,
    *mutants_cuda.MUTANTS,
    *mutants_alone.MUTANTS,
    *mutants_state.MUTANTS,
    *mutants_numbers.MUTANTS,
    *mutants_sizes.MUTANTS,
    *mutants_formats.MUTANTS,
)
