// The one machine that is emulated: its launch, the block that runs, its threads.

#pragma once

#include <memory>
#include <string>

#include "engine.h"
#include "fibers.h"
#include "memory.h"

namespace emulation {

constexpr unsigned kWarp = 32;
// Bytes that symbols of dynamic shared memory have; compiling.py defines them.
constexpr unsigned kDynamic = 227 * 1024;

enum State : std::uint8_t { kReady, kAtBarrier, kAtWarp, kDone };

// Of cp.async: `size` bytes, zeros from `filled` on.
struct Copy {
    void* to;
    const void* from;
    unsigned size, filled;
};

struct Thread {
    Context context;
    Triple index = {};
    unsigned number = 0;
    State state = kReady;
    unsigned clock = 0, atomics = 0;
    // What it waits in, and with what:
    int line = 0, collective = 0, how = 0;
    unsigned mask = 0;
    std::uint64_t value = 0, result = 0;
    // Up to which clock accesses of each lane of its warp lie behind it, in this epoch.
    unsigned seen[kWarp] = {};
    Knowledge known, published;  // published: by its last fence
    bool fenced = false;
    std::vector<Copy> copies;
    std::vector<std::vector<Copy>> groups;
};

struct Machine {
    Launch* launch = nullptr;  // null: no kernel runs, nothing is watched
    Body body = nullptr;
    const void* closure = nullptr;
    Context home;

    std::vector<Thread> threads;
    std::vector<unsigned> order;  // in which threads are resumed
    unsigned position = 0;        // of the one that runs
    Thread* now = nullptr;
    Stamp stamp = 0;
    std::uintptr_t stack = 0;  // of the one that runs

    Triple block = {};
    unsigned block_number = 0, epoch = 0, alive = 0, waiting = 0, counted = 0;
    unsigned meetings = 0;   // of warps in this block
    unsigned idle = 0;       // times that a thread gave way since something happened
    bool synced = false;     // by __syncwarp, in this epoch
    Knowledge known;         // by all threads of the block
    Knowledge published;     // by fences of its threads before its last barrier

    std::uintptr_t shared = 0, shared_size = 0, dynamic = 0;
    std::uintptr_t library = 0, library_size = 0;

    void begin(Launch* launch, Body body, const void* closure, const void* anchor,
               const void* dynamic);
    void end();
    void begin_block();
    void restamp() { stamp = stamped(block_number, now->number, epoch, now->clock); }
};
extern Machine machine;

[[noreturn]] void fault(std::uint64_t place, std::uint64_t other, const std::string& what);
std::string described(unsigned thread, const Triple& block);
void yield();
// Called where a thread may wait for another one: once in a while that is resumed.
void be_patient();

}  // namespace emulation
