"""Kernels in Triton, for NVIDIA GPUs; under Triton's interpreter they run on the CPU."""
