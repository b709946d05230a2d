"""Kernels in CUDA C++, compiled on the machine they run on and launched on torch's stream."""
