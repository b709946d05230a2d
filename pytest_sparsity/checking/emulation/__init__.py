"""CUDA C++ kernels without a GPU: their threads run one after another on a CPU, under watch."""
