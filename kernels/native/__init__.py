"""Kernels in C++, compiled on the machine they run on and called through ctypes."""
