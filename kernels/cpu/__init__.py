"""Kernels compiled by numba: serial, without the interpreter's lock, for one CPU core each."""
