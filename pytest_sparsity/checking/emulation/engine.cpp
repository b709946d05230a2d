// Runs the threads of a launch as fibers, one after another.

#include "engine.h"

#include <cstdio>
#include <random>

#include "fibers.h"
#include "state.h"
#include "watching.h"

namespace emulation {

Machine machine;

namespace {

// After so many atomics in a row another thread is resumed: this one may wait for it.
constexpr unsigned kPatience = 16;
// After so many without anything else happening nobody will come.
constexpr unsigned kHopeless = 1 << 21;

const char* const kNames[] = {"a shuffle", "__ballot_sync", "__match_any_sync", "__match_all_sync",
                              "a reduction", "__syncwarp", "__activemask"};

std::string waiting_in(const Thread& thread) {
    char text[160];
    if (thread.state == kAtBarrier) {
        std::snprintf(text, sizeof text, " in __syncthreads(), line %d", thread.line);
    } else if (thread.collective == kActive) {
        std::snprintf(text, sizeof text, " in __activemask(), line %d", thread.line);
    } else {
        std::snprintf(text, sizeof text, " in %s with mask 0x%08x, line %d",
                      kNames[thread.collective], thread.mask, thread.line);
    }
    return described(thread.number, machine.block) + text;
}

[[noreturn]] void deadlock() {
    const Thread *first = nullptr, *other = nullptr;
    for (const Thread& thread : machine.threads) {
        if (thread.state == kDone) continue;
        if (first == nullptr) first = &thread;
        if (thread.state != first->state || thread.line != first->line ||
            thread.mask != first->mask) {
            other = other == nullptr ? &thread : other;
        }
    }
    std::string what = "lets threads wait for ever: " + waiting_in(*first);
    if (other != nullptr) what += ", " + waiting_in(*other);
    fault(0, 0, what);
}

void resume(Thread& next) {
    Thread& from = *machine.now;
    if (&from == &next) return;
    machine.now = &next;
    machine.stack = reinterpret_cast<std::uintptr_t>(stack_of(next.number));
    machine.restamp();
    change(from.context, next.context);
}

void settle_active(unsigned warp);

// On with the next thread in the order that can.
void proceed() {
    settle_active(machine.now->number / kWarp);
    unsigned count = machine.threads.size();
    for (unsigned i = 0; i < count; ++i) {
        if (++machine.position >= count) machine.position = 0;
        Thread& next = machine.threads[machine.order[machine.position]];
        if (next.state == kReady) return resume(next);
    }
    deadlock();
}

void release_barrier() {
    machine.idle = 0;
    ++machine.epoch;
    machine.waiting = 0;
    for (Thread& thread : machine.threads) {
        if (thread.state != kAtBarrier) continue;
        thread.result = thread.collective == kCount ? machine.counted
                        : thread.collective == kAll ? machine.counted == machine.alive
                                                    : machine.counted > 0;
        thread.state = kReady;
        thread.clock = 0;
        if (machine.synced) std::fill_n(thread.seen, kWarp, 0);
        if (!thread.known.empty()) machine.known.add(thread.known);
        if (thread.fenced) machine.published.add(thread.published);
    }
    machine.synced = false;
    machine.counted = 0;
    machine.position = machine.threads.size() - 1;
}

std::uint64_t reduced(int how, std::uint64_t a, std::uint64_t b) {
    auto x = std::uint32_t(a), y = std::uint32_t(b);
    auto s = std::int32_t(x), t = std::int32_t(y);
    switch (how) {
        case kAdd: return std::uint32_t(x + y);
        case kMin: return std::min(x, y);
        case kMax: return std::max(x, y);
        case kMinSigned: return std::uint32_t(std::min(s, t));
        case kMaxSigned: return std::uint32_t(std::max(s, t));
        case kAnd: return x & y;
        case kOr: return x | y;
        default: return x ^ y;
    }
}

Thread* lane_of(unsigned warp, unsigned lane) {
    unsigned number = warp * kWarp + lane;
    return number < machine.threads.size() ? &machine.threads[number] : nullptr;
}

void exchange(Thread* const (&lanes)[kWarp], unsigned mask, int collective) {
    unsigned ballot = 0;
    std::uint64_t total = 0;
    bool first = true, equal = true;
    for (unsigned i = 0; i < kWarp; ++i) {
        if (lanes[i] == nullptr) continue;
        ballot |= unsigned(lanes[i]->value != 0) << i;
        equal &= first || lanes[i]->value == lanes[__builtin_ctz(mask)]->value;
        total = first ? lanes[i]->value : reduced(lanes[i]->how, total, lanes[i]->value);
        first = false;
    }
    for (Thread* lane : lanes) {
        if (lane == nullptr) continue;
        if (collective == kShuffle) {
            const Thread* source = lanes[lane->how];
            lane->result = source == nullptr ? ~std::uint64_t(0) : source->value;  // undefined: NaN
        } else if (collective == kBallot) {
            lane->result = ballot;
        } else if (collective == kMatchAny) {
            lane->result = 0;
            for (unsigned i = 0; i < kWarp; ++i) {
                bool same = lanes[i] != nullptr && lanes[i]->value == lane->value;
                lane->result |= unsigned(same) << i;
            }
        } else if (collective == kMatchAll) {
            lane->result = equal ? mask : 0;
        } else {
            lane->result = total;
        }
        lane->state = kReady;
    }
}

// What was done before by any of them is known to all of them.
void publish(Thread* const (&lanes)[kWarp]) {
    unsigned seen[kWarp] = {};
    Knowledge known;
    machine.synced = true;
    for (Thread* lane : lanes) {
        if (lane == nullptr) continue;
        for (unsigned i = 0; i < kWarp; ++i) seen[i] = std::max(seen[i], lane->seen[i]);
        seen[lane->number % kWarp] = std::max(seen[lane->number % kWarp], lane->clock + 1);
        if (!lane->known.empty()) known.add(lane->known);
    }
    for (Thread* lane : lanes) {
        if (lane == nullptr) continue;
        std::copy_n(seen, kWarp, lane->seen);
        ++lane->clock;
        if (!known.empty()) lane->known.add(known);
    }
}

// Whether all lanes that this one waits for are there; then it and they can go on.
bool meet(Thread& thread) {
    Thread* lanes[kWarp] = {};
    unsigned present = 0;
    for (unsigned i = 0; i < kWarp; ++i) {
        Thread* lane = thread.mask >> i & 1 ? lane_of(thread.number / kWarp, i) : nullptr;
        if (lane == nullptr || lane->state == kDone) continue;
        if (lane->state != kAtWarp || lane->collective != thread.collective ||
            lane->mask != thread.mask) {
            return false;
        }
        lanes[i] = lane;
        present |= 1u << i;
    }
    machine.idle = 0;
    ++machine.meetings;
    exchange(lanes, present, thread.collective);
    if (thread.collective == kSyncWarp) {
        publish(lanes);
        machine.restamp();
    }
    return true;
}

// Lanes that ask which are active learn it when no lane of their warp can go on: those that ask in
// the same line, as where branches have come together again.
void settle_active(unsigned warp) {
    bool asked = false;
    for (unsigned i = 0; i < kWarp; ++i) {
        const Thread* lane = lane_of(warp, i);
        if (lane == nullptr) break;
        if (lane->state == kReady) return;
        asked |= lane->state == kAtWarp && lane->collective == kActive;
    }
    for (unsigned i = 0; asked && i < kWarp; ++i) {
        Thread* lane = lane_of(warp, i);
        if (lane == nullptr || lane->state != kAtWarp || lane->collective != kActive) continue;
        unsigned mask = 0;
        for (unsigned j = 0; j < kWarp; ++j) {
            Thread* other = lane_of(warp, j);
            bool same = other != nullptr && other->state == kAtWarp &&
                        other->collective == kActive && other->line == lane->line;
            mask |= unsigned(same) << j;
        }
        int line = lane->line;
        for (unsigned j = 0; j < kWarp; ++j) {
            if (!(mask >> j & 1) || lane_of(warp, j)->line != line) continue;
            lane_of(warp, j)->result = mask;
            lane_of(warp, j)->state = kReady;
        }
    }
}

void end_thread() {
    Thread& thread = *machine.now;
    settle_suspect();
    thread.state = kDone;
    machine.idle = 0;
    if (--machine.alive == 0) {
        change(thread.context, machine.home);
    }
    if (machine.waiting == machine.alive) release_barrier();
    for (unsigned i = 0; i < kWarp; ++i) {
        Thread* lane = lane_of(thread.number / kWarp, i);
        if (lane != nullptr && lane->state == kAtWarp && lane->collective != kActive) meet(*lane);
    }
    proceed();
}

void start_thread() {
    machine.body(machine.closure);
    end_thread();
    __builtin_unreachable();
}

void run_block(std::minstd_rand& random) {
    const Triple& size = machine.launch->block;
    unsigned count = size.x * size.y * size.z;
    machine.begin_block();
    machine.order.resize(count);
    for (unsigned i = 0; i < count; ++i) {
        Thread& thread = machine.threads[i];
        thread = Thread{};
        thread.number = i;
        thread.index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
        machine.order[i] = machine.launch->schedule == 1 ? count - 1 - i : i;
        begin(thread.context, stack_of(i), start_thread);
    }
    if (machine.launch->schedule > 1) {
        std::shuffle(machine.order.begin(), machine.order.end(), random);
    }
    machine.position = 0;
    Thread& first = machine.threads[machine.order[0]];
    machine.now = &first;
    machine.stack = reinterpret_cast<std::uintptr_t>(stack_of(first.number));
    machine.restamp();
    change(machine.home, first.context);
}

void run_blocks() {
    const Triple& grid = machine.launch->grid;
    std::minstd_rand random(machine.launch->schedule);
    std::vector<unsigned> blocks(grid.x * grid.y * grid.z);
    for (unsigned i = 0; i < blocks.size(); ++i) {
        blocks[i] = machine.launch->schedule == 1 ? blocks.size() - 1 - i : i;
    }
    if (machine.launch->schedule > 1) std::shuffle(blocks.begin(), blocks.end(), random);
    for (unsigned number : blocks) {
        machine.block_number = number;
        machine.block = {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
        run_block(random);
        if (machine.launch->message[0] != 0) return;
    }
}

}  // namespace

void yield() {
    if (++machine.idle > kHopeless) {
        fault(0, 0, described(machine.now->number, machine.block) +
                        " waits for ever for what another thread is to write; blocks run one after "
                        "another here, so that it cannot come from a block that has not begun");
    }
    proceed();
}

void be_patient() {
    if (++machine.now->atomics % kPatience == 0) yield();
}

void fault(std::uint64_t place, std::uint64_t other, const std::string& what) {
    Launch& launch = *machine.launch;
    std::snprintf(launch.message, sizeof launch.message, "%s", what.c_str());
    launch.place = place;
    launch.other = other;
    Context lost;
    change(lost, machine.home);
    __builtin_unreachable();
}

std::string described(unsigned thread, const Triple& block) {
    const Triple& size = machine.launch->block;
    char text[96];
    std::snprintf(text, sizeof text, "thread (%u, %u, %u) of block (%u, %u, %u)", thread % size.x,
                  thread / size.x % size.y, thread / size.x / size.y, block.x, block.y, block.z);
    return text;
}

extern "C" {

int emulation_run(Launch* launch, Body body, const void* closure, const void* anchor,
                  const void* dynamic) {
    machine.begin(launch, body, closure, anchor, dynamic);
    run_blocks();
    machine.end();
    return launch->message[0] != 0;
}

Triple emulation_thread() { return machine.now->index; }
Triple emulation_block() { return machine.block; }
Triple emulation_block_size() { return machine.launch->block; }
Triple emulation_grid_size() { return machine.launch->grid; }

int emulation_barrier(int line, int counting, int predicate) {
    settle_suspect();
    Thread& thread = *machine.now;
    for (const Thread& other : machine.threads) {
        if (other.state != kAtBarrier) continue;
        if (other.line != line) {
            fault(0, 0, "lets threads of a block meet at different barriers: " +
                            described(thread.number, machine.block) + " in line " +
                            std::to_string(line) + ", " + described(other.number, machine.block) +
                            " in line " + std::to_string(other.line));
        }
        break;
    }
    thread.state = kAtBarrier;
    thread.line = line;
    thread.mask = 0;
    thread.collective = counting;
    machine.counted += predicate != 0;
    if (++machine.waiting == machine.alive) release_barrier();
    proceed();
    return thread.result;
}

std::uint64_t emulation_warp(int collective, unsigned mask, std::uint64_t value, int how,
                             int line) {
    settle_suspect();
    Thread& thread = *machine.now;
    if (collective != kActive && !(mask >> thread.number % kWarp & 1)) {
        char text[160];
        std::snprintf(text, sizeof text,
                      " calls %s, line %d, with the mask 0x%08x, in which it is not itself",
                      kNames[collective], line, mask);
        fault(0, 0, described(thread.number, machine.block) + text);
    }
    thread.state = kAtWarp;
    thread.line = line;
    thread.collective = collective;
    thread.mask = mask;
    thread.value = value;
    thread.how = how;
    if (collective == kActive || !meet(thread)) proceed();
    return thread.result;
}

void emulation_yield() { yield(); }

void emulation_fault(const char* what, int line) {
    fault(0, 0, described(machine.now->number, machine.block) + " " + what + ", line " +
                    std::to_string(line));
}

char* emulation_shared() { return reinterpret_cast<char*>(machine.shared); }

}  // extern "C"
}  // namespace emulation
