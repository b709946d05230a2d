"""Kernels made of torch operators: they run everywhere and save no work."""
