// Asynchronous copies into shared memory: there after the wait, undefined until then.

#pragma once

inline void __pipeline_memcpy_async(void* to, const void* from, std::size_t size,
                                    std::size_t zeros = 0) {
    emulation::emulation_copy(to, from, size, size - zeros);
}
inline void __pipeline_commit() { emulation::emulation_commit(); }
inline void __pipeline_wait_prior(std::size_t groups) { emulation::emulation_wait(groups); }
