// What a translation unit of kernels and the engine that runs it know of each other.
//
// The engine is a library of its own.  Kernels are compiled with the instrumentation that
// ThreadSanitizer uses (a call before every access to memory) and that UndefinedBehaviorSanitizer
// uses (a check of the alignment of every access), and the engine defines what is called.

#pragma once

#include <cstddef>
#include <cstdint>

struct uint3 { unsigned x, y, z; };

namespace emulation {

using Triple = uint3;

// An argument of a launch as Python has it.
enum Kind : std::int32_t { kPointer, kInteger, kReal, kBytes };
struct Argument {
    std::int32_t kind;
    std::int32_t size;   // of kBytes
    std::uint64_t bits;  // a pointer, an integer, a double, or where the bytes are
};

// Memory that a launch was given.
struct Span {
    const char* name;
    std::uint64_t start, stop;     // from the first to the last element
    const std::uint8_t* elements;  // a flag for each byte that is an element's; null: all are
    std::int32_t* counts;          // loads of each element, or null if nobody counts
    std::uint32_t element;         // bytes
    std::uint32_t granule;         // bytes that are told apart at first
};

struct Launch {
    Triple grid, block;
    std::uint32_t shared;    // bytes of dynamic shared memory
    std::uint32_t schedule;  // in which order threads and blocks are resumed
    std::uint32_t spans;
    const Span* span;
    // Set by the launch:
    std::uint32_t atomics;        // most atomic updates of one address
    std::uint32_t uninitialised;  // reads of shared memory that nobody had written
    std::uint64_t place, other;   // addresses in the library: of a fault, of what it collides with
    char message[1024];           // the fault
};

enum Collective : int { kShuffle, kBallot, kMatchAny, kMatchAll, kReduce, kSyncWarp, kActive };
enum Reduction : int { kAdd, kMin, kMax, kMinSigned, kMaxSigned, kAnd, kOr, kXor };
enum Counting : int { kPlain, kCount, kAll, kAny };

using Body = void (*)(const void*);

extern "C" {
// Runs the kernel, one at a time in a process; `anchor` is in the library's thread-local storage, its shared memory, and
// `dynamic` where dynamic shared memory begins there, or null.  0, or 1 after a fault.
int emulation_run(Launch* launch, Body body, const void* closure, const void* anchor,
                  const void* dynamic);
Triple emulation_thread() __attribute__((const));
Triple emulation_block() __attribute__((const));
Triple emulation_block_size() __attribute__((const));
Triple emulation_grid_size() __attribute__((const));
int emulation_barrier(int line, int counting, int predicate);
// Meets the lanes of the mask; returns what the caller gets of it.
std::uint64_t emulation_warp(int collective, unsigned mask, std::uint64_t value, int how, int line);
void emulation_atomic(const void* address, unsigned size);
void emulation_fence();
void emulation_yield();
void emulation_copy(void* to, const void* from, unsigned size, unsigned filled);
void emulation_commit();
void emulation_wait(unsigned groups);
void emulation_fault(const char* what, int line) __attribute__((noreturn));
char* emulation_shared();
}

}  // namespace emulation
