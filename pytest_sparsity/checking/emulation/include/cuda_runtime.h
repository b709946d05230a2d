// What kernels need of this is there already; of the host's side only names, so that a launcher
// beside a kernel compiles.

#pragma once

enum cudaError_t { cudaSuccess = 0 };
using cudaStream_t = struct EmulationStream*;
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaPeekAtLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return ""; }
