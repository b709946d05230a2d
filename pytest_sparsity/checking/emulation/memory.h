// What threads do to memory: whether it is theirs, and whether others do something to it unordered.
//
// Every access carries a stamp: block, thread, how many barriers of the block came before, and how
// many times the thread has published what it did (__syncwarp, fences).  An access is ordered
// after an earlier one if it is of the same thread, of the same block after a later barrier, or if
// what the thread has learnt from others, by __syncwarp or through atomics, includes it.  This is
// the happens-before relation of FastTrack (Flanagan and Freund, PLDI 2009), with the last write
// and two reads of each granule kept.

#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <unordered_map>
#include <vector>

namespace emulation {

using Stamp = std::uint64_t;  // atomic 1, block 21, thread 10, epoch 16, clock 16 bits
constexpr Stamp kAtomic = Stamp(1) << 63;

inline Stamp stamped(unsigned block, unsigned thread, unsigned epoch, unsigned clock) {
    return Stamp(block + 1) << 42 | Stamp(thread) << 32 | Stamp(epoch & 0xffff) << 16 |
           (clock & 0xffff);
}
inline unsigned block_of(Stamp s) { return unsigned(s >> 42 & 0x1fffff) - 1; }
inline unsigned thread_of(Stamp s) { return unsigned(s >> 32 & 0x3ff); }
inline unsigned time_of(Stamp s) { return unsigned(s & 0xffffffff); }  // epoch and clock
inline unsigned warp_of(Stamp s) { return unsigned((s & ~kAtomic) >> 37); }  // and its block
inline unsigned owner_of(Stamp s) { return unsigned((s & ~kAtomic) >> 32); }

// What of others a thread knows to lie behind it: accesses of a thread before a time, of a block
// before an epoch.
struct Knowledge {
    std::unordered_map<unsigned, unsigned> threads, blocks;

    bool empty() const { return threads.empty() && blocks.empty(); }
    void add(const Knowledge& other) {
        for (auto& [owner, time] : other.threads) add_thread(owner, time);
        for (auto& [block, epoch] : other.blocks) add_block(block, epoch);
    }
    void add_thread(unsigned owner, unsigned time) {
        auto& known = threads[owner];
        known = std::max(known, time);
    }
    void add_block(unsigned block, unsigned epoch) {
        auto& known = blocks[block];
        known = std::max(known, epoch);
    }
    bool includes(Stamp s) const {
        auto block = blocks.find(block_of(s));
        if (block != blocks.end() && (time_of(s) >> 16) < block->second) return true;
        auto thread = threads.find(owner_of(s));
        return thread != threads.end() && time_of(s) < thread->second;
    }
};

struct Cell {
    Stamp write, reads[2];
    std::uint64_t place;  // of the write
};

// Accesses to a stretch of memory, told apart by granules.
class Shadow {
public:
    Shadow() = default;
    Shadow(const Shadow&) = delete;
    ~Shadow() { release(); }

    void cover(std::uint64_t start, std::uint64_t stop, unsigned granule) {
        release();
        start_ = start;
        stop_ = stop;
        shift_ = 0;
        while ((1u << shift_) < granule && shift_ < 4 && start % (2u << shift_) == 0) ++shift_;
        allocate();
    }
    // Forgets what was done there; for shared memory, from block to block.
    void clear(std::uint64_t start, std::uint64_t stop) {
        Cell* first = cells_ + ((start - start_) >> shift_);
        std::memset(static_cast<void*>(first), 0, ((stop - start) >> shift_) * sizeof(Cell));
    }

    std::pair<Cell*, Cell*> cells(std::uint64_t address, unsigned size) {
        unsigned mask = (1u << shift_) - 1;
        if ((address - start_) & mask || size & mask) refine();
        std::uint64_t first = (address - start_) >> shift_;
        return {cells_ + first, cells_ + first + std::max<std::uint64_t>(size >> shift_, 1)};
    }
    std::uint64_t address(const Cell* cell) const {
        return start_ + (std::uint64_t(cell - cells_) << shift_);
    }
    unsigned granule() const { return 1u << shift_; }

private:
    std::uint64_t start_ = 0, stop_ = 0;
    unsigned shift_ = 0;
    Cell* cells_ = nullptr;
    std::size_t bytes_ = 0;

    void allocate() {
        bytes_ = (((stop_ - start_) >> shift_) + 1) * sizeof(Cell);
        void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) std::abort();
        cells_ = static_cast<Cell*>(memory);
    }
    void release() {
        if (cells_ != nullptr) munmap(static_cast<void*>(cells_), bytes_);
        cells_ = nullptr;
    }
    // To single bytes: somebody uses parts of what is an element to others.
    void refine() {
        Cell* coarse = cells_;
        std::size_t bytes = bytes_, count = bytes_ / sizeof(Cell) - 1;
        unsigned times = 1u << shift_;
        shift_ = 0;
        allocate();
        for (std::size_t i = 0; i < count; ++i) {
            const Cell& cell = coarse[i];
            if ((cell.write | cell.reads[0]) == 0) continue;
            for (unsigned j = 0; j < times && i * times + j < stop_ - start_; ++j) {
                cells_[i * times + j] = cell;
            }
        }
        munmap(static_cast<void*>(coarse), bytes);
    }
};

}  // namespace emulation
