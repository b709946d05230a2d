// Atomic functions: the engine is told of each, and what it does is done at once.

#pragma once

#define EMULATION_UNWATCHED __attribute__((no_sanitize("thread", "undefined"), noinline))

template <class T, class F> EMULATION_UNWATCHED T emulation_updated(T* address, F change) {
    T before = *address;
    *address = change(before);
    return before;
}
template <class T, class F> inline T emulation_update(T* address, F change) {
    emulation::emulation_atomic(const_cast<const std::remove_cv_t<T>*>(address), sizeof(T));
    return emulation_updated(address, change);
}

#define EMULATION_ATOMIC(NAME, RESULT)                                                     \
    template <class T> inline T NAME(T* address, std::common_type_t<T> value) {            \
        return emulation_update(address, [=](T old) -> T { return RESULT; });              \
    }                                                                                      \
    template <class T> inline T NAME##_block(T* address, std::common_type_t<T> value) {    \
        return NAME(address, value);                                                       \
    }                                                                                      \
    template <class T> inline T NAME##_system(T* address, std::common_type_t<T> value) {   \
        return NAME(address, value);                                                       \
    }
EMULATION_ATOMIC(atomicAdd, old + value)
EMULATION_ATOMIC(atomicSub, old - value)
EMULATION_ATOMIC(atomicExch, value)
EMULATION_ATOMIC(atomicMin, old < value ? old : value)
EMULATION_ATOMIC(atomicMax, old > value ? old : value)
EMULATION_ATOMIC(atomicAnd, old & value)
EMULATION_ATOMIC(atomicOr, old | value)
EMULATION_ATOMIC(atomicXor, old ^ value)
EMULATION_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
EMULATION_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1)
#undef EMULATION_ATOMIC

template <class T>
inline T atomicCAS(T* address, std::common_type_t<T> compare, std::common_type_t<T> value) {
    return emulation_update(address, [=](T old) -> T { return old == compare ? value : old; });
}
