// Comes before the kernel's call that compiling.py appends: arguments from Python to parameters.

#pragma once

namespace emulation {

thread_local char anchor;  // in the library's shared memory, as its address is found by

template <class T> const char* convert(const Argument& from, T& to) {
    if constexpr (std::is_pointer<T>::value) {
        if (from.kind == kReal) return "a number for a pointer";
        if (from.kind == kBytes) return "bytes for a pointer";
        if (from.kind == kInteger && from.bits != 0) return "a number for a pointer";
        to = reinterpret_cast<T>(from.bits);
    } else if constexpr (std::is_same<T, bool>::value) {
        if (from.kind != kInteger) return "no integer for a bool";
        to = from.bits != 0;
    } else if constexpr (std::is_integral<T>::value || std::is_enum<T>::value) {
        if (from.kind != kInteger) return "no integer for an integer";
        to = static_cast<T>(from.bits);
        auto given = static_cast<std::int64_t>(from.bits);
        if constexpr (sizeof(T) < 8) {
            if (static_cast<std::int64_t>(to) != given) return "an integer that its type cannot hold";
        }
    } else if constexpr (std::is_convertible<float, T>::value) {
        if (from.kind == kReal) to = static_cast<T>(emulation_bits<double>(from.bits));
        else if (from.kind == kInteger) to = static_cast<T>(double(std::int64_t(from.bits)));
        else return from.kind == kPointer ? "a tensor for a number" : "bytes for a number";
    } else {
        static_assert(std::is_trivially_copyable<T>::value, "parameters are copied");
        if (from.kind != kBytes || from.size != int(sizeof(T))) {
            return "no bytes of the size of a struct that is passed by value";
        }
        std::memcpy(&to, reinterpret_cast<const void*>(from.bits), sizeof(T));
    }
    return nullptr;
}

template <class... P, std::size_t... I>
int call(void (*kernel)(P...), Launch* launch, const Argument* given, int count,
         const void* dynamic, std::index_sequence<I...>) {
    std::tuple<std::remove_cv_t<P>...> values;
    const char* wrong = nullptr;
    int which = 0;
    if (count != int(sizeof...(P))) {
        std::snprintf(launch->message, sizeof launch->message, "takes %d arguments, not %d",
                      int(sizeof...(P)), count);
        return 2;
    }
    (void)std::initializer_list<int>{
        (wrong == nullptr ? (which = I, wrong = convert(given[I], std::get<I>(values)), 0) : 0)...};
    if (wrong != nullptr) {
        std::snprintf(launch->message, sizeof launch->message, "was given %s, as argument %d", wrong,
                      which + 1);
        return 2;
    }
    struct Closure {
        void (*kernel)(P...);
        std::tuple<std::remove_cv_t<P>...>* values;
    } closure{kernel, &values};
    Body body = [](const void* at) __attribute__((no_sanitize("thread"))) {
        auto& closure = *static_cast<const Closure*>(at);
        closure.kernel(std::get<I>(*closure.values)...);
    };
    return emulation_run(launch, body, &closure, &anchor, dynamic);
}
template <class... P>
int call(void (*kernel)(P...), Launch* launch, const Argument* given, int count,
         const void* dynamic) {
    return call(kernel, launch, given, count, dynamic, std::index_sequence_for<P...>{});
}

}  // namespace emulation
