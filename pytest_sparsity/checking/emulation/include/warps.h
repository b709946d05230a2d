// Barriers, and what the lanes of a warp do together.

#pragma once

inline void __syncthreads(int line = __builtin_LINE()) {
    emulation::emulation_barrier(line, emulation::kPlain, 0);
}
inline int __syncthreads_count(int predicate, int line = __builtin_LINE()) {
    return emulation::emulation_barrier(line, emulation::kCount, predicate);
}
inline int __syncthreads_and(int predicate, int line = __builtin_LINE()) {
    return emulation::emulation_barrier(line, emulation::kAll, predicate);
}
inline int __syncthreads_or(int predicate, int line = __builtin_LINE()) {
    return emulation::emulation_barrier(line, emulation::kAny, predicate);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) {
    emulation::emulation_warp(emulation::kSyncWarp, mask, 0, 0, line);
}
inline unsigned __activemask(int line = __builtin_LINE()) {
    return emulation::emulation_warp(emulation::kActive, 0, 0, 0, line);
}

inline unsigned emulation_lane() {
    emulation::Triple at = emulation::emulation_thread(), size = emulation::emulation_block_size();
    return (at.x + size.x * (at.y + size.y * at.z)) % 32;
}

// Lanes are numbered within groups of `width`; who would take from beyond its group keeps its own.
template <class T>
inline T emulation_shuffle(unsigned mask, T value, int source, int line) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    std::uint64_t bits = 0;
    __builtin_memcpy(&bits, &value, sizeof value);
    bits = emulation::emulation_warp(emulation::kShuffle, mask, bits, source, line);
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}
template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32,
                     int line = __builtin_LINE()) {
    int lane = emulation_lane();
    return emulation_shuffle(mask, value, (lane & -width) | (source & (width - 1)), line);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                        int line = __builtin_LINE()) {
    int lane = emulation_lane(), source = lane - int(delta);
    return emulation_shuffle(mask, value, source < (lane & -width) ? lane : source, line);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                          int line = __builtin_LINE()) {
    int lane = emulation_lane(), source = lane + int(delta);
    return emulation_shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, line);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int other, int width = 32,
                         int line = __builtin_LINE()) {
    int lane = emulation_lane(), source = lane ^ other;
    return emulation_shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return emulation::emulation_warp(emulation::kBallot, mask, predicate != 0, 0, line);
}
inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return __ballot_sync(mask, predicate, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return __ballot_sync(mask, !predicate, line) == 0;
}
template <class T>
inline unsigned __match_any_sync(unsigned mask, T value, int line = __builtin_LINE()) {
    std::uint64_t bits = 0;
    __builtin_memcpy(&bits, &value, sizeof value);
    return emulation::emulation_warp(emulation::kMatchAny, mask, bits, 0, line);
}
template <class T>
inline unsigned __match_all_sync(unsigned mask, T value, int* all, int line = __builtin_LINE()) {
    std::uint64_t bits = 0;
    __builtin_memcpy(&bits, &value, sizeof value);
    unsigned found = emulation::emulation_warp(emulation::kMatchAll, mask, bits, 0, line);
    *all = found != 0;
    return found;
}

#define EMULATION_REDUCE(NAME, T, HOW)                                                     \
    inline T NAME(unsigned mask, T value, int line = __builtin_LINE()) {                   \
        return T(emulation::emulation_warp(emulation::kReduce, mask, std::uint32_t(value), \
                                           emulation::HOW, line));                         \
    }
EMULATION_REDUCE(__reduce_add_sync, unsigned, kAdd)
EMULATION_REDUCE(__reduce_add_sync, int, kAdd)
EMULATION_REDUCE(__reduce_min_sync, unsigned, kMin)
EMULATION_REDUCE(__reduce_min_sync, int, kMinSigned)
EMULATION_REDUCE(__reduce_max_sync, unsigned, kMax)
EMULATION_REDUCE(__reduce_max_sync, int, kMaxSigned)
EMULATION_REDUCE(__reduce_and_sync, unsigned, kAnd)
EMULATION_REDUCE(__reduce_or_sync, unsigned, kOr)
EMULATION_REDUCE(__reduce_xor_sync, unsigned, kXor)
#undef EMULATION_REDUCE
