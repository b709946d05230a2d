// The watch over memory: what is called before every access, and what it finds wrong.

#include "watching.h"

#include <link.h>

#include <cstdio>
#include <cstring>
#include <map>

#include "state.h"

namespace emulation {
namespace {

enum Access { kRead, kWrite, kVolatileRead, kVolatileWrite, kUpdate };

struct Region {
    const Span* span = nullptr;
    Shadow shadow;
    // Of an element: the last pass of a warp that loaded it, by which lane how often, at most.
    struct Loads { std::uint64_t pass; std::uint16_t lane, here, most; };
    std::vector<Loads> loads;
};

// What atomics do to an address.
struct Variable {
    Knowledge knowledge;
    Stamp writers[2] = {0, 0};
    unsigned updates = 0;
};

struct Suspect {
    bool there = false;
    std::uint64_t address, place, other;
    unsigned size;
    unsigned char before[16];
    std::string told;
};

// Objects in memory: where a library and its thread-local storage lie.
struct Library { std::uintptr_t start, size, shared, shared_size; };

std::vector<std::unique_ptr<Region>> regions;
Region* recent;
Shadow shared_shadow, library_shadow;
std::unordered_map<std::uint64_t, Variable> variables;
bool any_known;  // whether anything was learnt through atomics
Suspect suspect;

std::uint64_t place_of(const void* address) {
    return reinterpret_cast<std::uint64_t>(address) - machine.library;
}

std::string owner_told(Stamp s) {
    unsigned number = block_of(s);
    const Triple& grid = machine.launch->grid;
    return described(thread_of(s),
                     {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y});
}
std::string myself() { return described(machine.now->number, machine.block); }

bool learnt(Stamp s) { return machine.now->known.includes(s) || machine.known.includes(s); }

// Whether what has this stamp lies behind the thread that runs.
bool ordered(Stamp s) {
    s &= ~kAtomic;
    if ((s ^ machine.stamp) >> 32 == 0) return true;
    if ((s ^ machine.stamp) >> 42 == 0) {
        if (time_of(s) >> 16 < (machine.epoch & 0xffff)) return true;
        unsigned thread = thread_of(s);
        if (thread / kWarp == machine.now->number / kWarp &&
            (s & 0xffff) < machine.now->seen[thread % kWarp]) {
            return true;
        }
    }
    return any_known && learnt(s);
}

const char* verb(Access access) {
    if (access == kUpdate) return " updates ";
    return access == kRead || access == kVolatileRead ? " reads " : " writes ";
}

std::string bytes(std::uint64_t count) {
    return std::to_string(count) + (count == 1 ? " byte" : " bytes");
}

std::string memory_at(const Region* region, std::uint64_t address) {
    if (region != nullptr) {
        return std::string(region->span->name) + ", byte " +
               std::to_string(address - region->span->start);
    }
    if (address - machine.shared < machine.shared_size) {
        return "shared memory, byte " + std::to_string(address - machine.shared);
    }
    return "a variable of the source";
}

[[noreturn]] void race(Access access, unsigned size, const std::string& where, Stamp other,
                       const char* did, std::uint64_t place, std::uint64_t other_place) {
    fault(place, other_place,
          "has a race: " + myself() + verb(access) + bytes(size) + " of " + where + ", which " +
              owner_told(other) + " " + did + ", and nothing orders the two");
}

[[noreturn]] void stray(Access access, std::uint64_t address, unsigned size, std::uint64_t place) {
    std::string where = "in no tensor that the launch was given";
    std::uint64_t least = 1 << 24;
    for (auto& region : regions) {
        const Span& span = *region->span;
        if (address >= span.start && address - span.start < least && address < span.stop) {
            where = "across the end of " + std::string(span.name);
            least = 0;
        } else if (address >= span.stop && address - span.stop < least) {
            least = address - span.stop;
            where = bytes(least) + " past the end of " + span.name;
        } else if (address < span.start && span.start - address < least) {
            least = span.start - address;
            where = bytes(least) + " before the beginning of " + span.name;
        }
    }
    if (address - machine.shared < machine.shared_size) {
        where = "beyond the " + bytes(machine.launch->shared) + " of dynamic shared memory";
    }
    if (address < 4096) where = "at a null pointer";
    fault(place, 0, "is out of bounds: " + myself() + verb(access) + bytes(size) + " " + where);
}

void count(Region& region, std::uint64_t address, unsigned size) {
    const Span& span = *region.span;
    std::uint64_t pass = std::uint64_t(machine.block_number + 1) << 40 |
                         std::uint64_t(machine.now->number / kWarp) << 32 |
                         (machine.epoch + machine.meetings);
    std::uint16_t lane = machine.now->number % kWarp + 1;
    std::uint64_t first = (address - span.start) / span.element;
    std::uint64_t last = (address - span.start + size - 1) / span.element;
    for (std::uint64_t i = first; i <= last; ++i) {
        Region::Loads& loads = region.loads[i];
        if (loads.pass != pass) loads = {pass, 0, 0, 0};
        loads.here = loads.lane == lane ? loads.here + 1 : 1;
        loads.lane = lane;
        // Lanes that load the same at once load it once.
        if (loads.here > loads.most) {
            loads.most = loads.here;
            ++span.counts[i];
        }
    }
}

bool contains(const Span& span, std::uint64_t address, unsigned size) {
    return address >= span.start && address + size <= span.stop;
}

Region* find(std::uint64_t address, unsigned size) {
    if (recent != nullptr && contains(*recent->span, address, size)) return recent;
    for (auto& region : regions) {
        if (contains(*region->span, address, size)) return recent = region.get();
    }
    return nullptr;
}

bool in_shared(std::uint64_t address, unsigned size) {
    if (address - machine.shared >= machine.shared_size) return false;
    if (machine.dynamic == 0 || address + size <= machine.dynamic ||
        address >= machine.dynamic + kDynamic) {
        return true;
    }
    return address >= machine.dynamic &&
           address + size <= machine.dynamic + machine.launch->shared;
}

Stamp unordered_update(std::uint64_t address, Stamp last) {
    if (!ordered(last)) return last;
    auto found = variables.find(address);
    if (found == variables.end()) return 0;
    for (Stamp s : found->second.writers) {
        if (s != 0 && !ordered(s)) return s;
    }
    return 0;
}

// The access is to `size` bytes at `address`; the cell is that of `at`.
void check_write(Cell& cell, std::uint64_t at, Access access, std::uint64_t address, unsigned size,
                 const Region* region, std::uint64_t place) {
    for (Stamp read : cell.reads) {
        if (read != 0 && !ordered(read)) {
            race(access, size, memory_at(region, at), read, "reads", place, 0);
        }
    }
    bool atomic = access != kWrite;
    Stamp last = cell.write;
    if (last == 0) return;
    if (atomic && last & kAtomic) return;
    if (last & kAtomic) last = unordered_update(at, last);
    if (last == 0 || ordered(last)) return;
    std::string where = memory_at(region, at);
    if (atomic || last & kAtomic || size > sizeof suspect.before) {
        race(access, size, where, last, "writes", place, cell.place);
    }
    suspect.there = true;
    suspect.address = address;
    suspect.size = size;
    suspect.place = place;
    suspect.other = cell.place;
    std::memcpy(suspect.before, reinterpret_cast<const void*>(address), size);
    suspect.told = "has a race: " + myself() + " writes " + bytes(size) + " of " + where +
                   ", where " + owner_told(last) + " writes another value, and nothing orders the two";
}

void record(Shadow& shadow, Region* region, std::uint64_t address, unsigned size, Access access,
            std::uint64_t place) {
    auto [first, last] = shadow.cells(address, size);
    for (Cell* cell = first; cell != last; ++cell) {
        std::uint64_t at = shadow.address(cell);
        if (access == kRead || access == kVolatileRead) {
            if (cell->write == 0) {
                if (region == nullptr && &shadow == &shared_shadow) ++machine.launch->uninitialised;
            } else {
                Stamp other = cell->write;
                if (other & kAtomic) {
                    other = access == kRead ? unordered_update(at, other) : 0;
                }
                if (other != 0 && !ordered(other)) {
                    race(access, size, memory_at(region, at), other, "writes", place, cell->place);
                }
            }
            if (access == kVolatileRead) continue;
            Stamp* reads = cell->reads;
            if (reads[0] == 0 || ordered(reads[0])) {
                reads[0] = machine.stamp;
            } else if (reads[1] == 0 || ordered(reads[1]) ||
                       warp_of(reads[1]) == warp_of(reads[0])) {
                reads[1] = machine.stamp;  // of the two that are kept, rather of two warps
            }
            continue;
        }
        if (!suspect.there) check_write(*cell, at, access, address, size, region, place);
        cell->write = machine.stamp | (access == kWrite ? 0 : kAtomic);
        cell->place = place;
        if (access == kWrite) cell->reads[0] = cell->reads[1] = 0;
    }
}

void access(const void* pointer, unsigned size, Access access, const void* from) {
    if (machine.launch == nullptr) return;
    auto address = reinterpret_cast<std::uintptr_t>(pointer);
    if (address - machine.stack < kStack) return;
    if (suspect.there) settle_suspect();
    std::uint64_t place = place_of(from);
    if (in_shared(address, size)) {
        record(shared_shadow, nullptr, address, size, access, place);
    } else if (Region* region = find(address, size)) {
        const Span& span = *region->span;
        bool writes = access == kWrite || access == kVolatileWrite || access == kUpdate;
        if (span.elements != nullptr && writes && !span.elements[address - span.start]) {
            fault(place, 0, "is out of bounds: " + myself() + " writes between the rows of " +
                                span.name);
        }
        if (span.counts != nullptr && (access == kRead || access == kVolatileRead)) {
            count(*region, address, size);
        }
        record(region->shadow, region, address, size, access, place);
    } else if (address - machine.library < machine.library_size) {
        record(library_shadow, nullptr, address, size, access, place);
    } else {
        stray(access, address, size, place);
    }
}

void learn(const Variable& variable) {
    if (variable.knowledge.empty()) return;
    machine.now->known.add(variable.knowledge);
    any_known = true;
}

void tell(Variable& variable) {
    if (machine.now->fenced) variable.knowledge.add(machine.now->published);
    if (!machine.published.empty()) variable.knowledge.add(machine.published);
}

void volatile_access(const void* pointer, unsigned size, bool write, const void* from) {
    access(pointer, size, write ? kVolatileWrite : kVolatileRead, from);
    auto address = reinterpret_cast<std::uintptr_t>(pointer);
    if (machine.launch == nullptr || address - machine.stack < kStack) return;
    if (write) {
        tell(variables[address]);
    } else {
        be_patient();
        auto found = variables.find(address);
        if (found != variables.end()) learn(found->second);
    }
}

Library library_with(const void* anchor, const void* code) {
    struct Search { std::uintptr_t anchor, code; Library found; } search{
        reinterpret_cast<std::uintptr_t>(anchor), reinterpret_cast<std::uintptr_t>(code), {}};
    dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* data) {
            auto& search = *static_cast<Search*>(data);
            std::uintptr_t end = 0;
            bool ours = false;
            Library found{info->dlpi_addr, 0, 0, 0};
            for (int i = 0; i < info->dlpi_phnum; ++i) {
                const auto& header = info->dlpi_phdr[i];
                std::uintptr_t start = info->dlpi_addr + header.p_vaddr;
                if (header.p_type == PT_LOAD) {
                    end = std::max(end, start + header.p_memsz);
                    ours |= search.code - start < header.p_memsz;
                } else if (header.p_type == PT_TLS) {
                    found.shared = reinterpret_cast<std::uintptr_t>(info->dlpi_tls_data);
                    found.shared_size = header.p_memsz;
                }
            }
            if (!ours) return 0;
            found.size = end - info->dlpi_addr;
            search.found = found;
            return 1;
        },
        &search);
    return search.found;
}

}  // namespace

void settle_suspect() {
    if (!suspect.there) return;
    suspect.there = false;
    if (std::memcmp(suspect.before, reinterpret_cast<const void*>(suspect.address),
                    suspect.size) != 0) {
        fault(suspect.place, suspect.other, suspect.told);
    }
}

void Machine::begin(Launch* given, Body given_body, const void* given_closure, const void* anchor,
                    const void* given_dynamic) {
    Library found = library_with(anchor, reinterpret_cast<const void*>(given_body));
    body = given_body;
    closure = given_closure;
    library = found.start;
    library_size = found.size;
    shared = found.shared;
    shared_size = found.shared_size;
    dynamic = reinterpret_cast<std::uintptr_t>(given_dynamic);
    shared_shadow.cover(shared, shared + shared_size, 4);
    library_shadow.cover(library, library + library_size, 4);
    regions.clear();
    recent = nullptr;
    for (unsigned i = 0; i < given->spans; ++i) {
        auto region = std::make_unique<Region>();
        region->span = given->span + i;
        region->shadow.cover(region->span->start, region->span->stop, region->span->granule);
        if (region->span->counts != nullptr) {
            region->loads.resize((region->span->stop - region->span->start) /
                                 region->span->element);
        }
        regions.push_back(std::move(region));
    }
    variables.clear();
    any_known = false;
    suspect.there = false;
    threads.resize(given->block.x * given->block.y * given->block.z);
    launch = given;
}

void Machine::end() {
    for (auto& [address, variable] : variables) {
        launch->atomics = std::max(launch->atomics, variable.updates);
    }
    launch = nullptr;
    regions.clear();
}

void Machine::begin_block() {
    epoch = waiting = counted = meetings = idle = 0;
    alive = threads.size();
    synced = false;
    known = published = Knowledge();
    // What nobody has written yet is NaN, and -1.  Of dynamic memory only what was asked for.
    std::uintptr_t stop = shared + shared_size;
    std::uintptr_t before = dynamic == 0 ? stop : dynamic;
    auto poison = [](std::uintptr_t from, std::uintptr_t to) {
        std::memset(reinterpret_cast<void*>(from), 0xff, to - from);
        shared_shadow.clear(from, to);
    };
    poison(shared, before);
    if (dynamic != 0) {
        poison(dynamic, dynamic + launch->shared);
        poison(dynamic + kDynamic, stop);
    }
}

extern "C" {

void emulation_atomic(const void* pointer, unsigned size) {
    auto address = reinterpret_cast<std::uintptr_t>(pointer);
    if (address % size != 0) {
        fault(place_of(__builtin_return_address(0)), 0,
              myself() + " updates " + bytes(size) + " at an address that is no multiple of it");
    }
    access(pointer, size, kUpdate, __builtin_return_address(0));
    Variable& variable = variables[address];
    Stamp (&writers)[2] = variable.writers;
    Stamp& mine = writers[0] == 0 || owner_of(writers[0]) == owner_of(machine.stamp) ? writers[0]
                                                                                    : writers[1];
    mine = machine.stamp;
    ++variable.updates;
    learn(variable);
    tell(variable);
    be_patient();
}

void emulation_fence() {
    Thread& thread = *machine.now;
    thread.published = thread.known;
    thread.published.add(machine.known);
    thread.published.add_thread(owner_of(machine.stamp), time_of(machine.stamp) + 1);
    thread.published.add_block(machine.block_number, machine.epoch);
    for (unsigned i = 0; i < kWarp; ++i) {
        if (thread.seen[i] == 0) continue;
        unsigned number = thread.number / kWarp * kWarp + i;
        Stamp other = stamped(machine.block_number, number, machine.epoch, thread.seen[i]);
        thread.published.add_thread(owner_of(other), time_of(other));
    }
    thread.fenced = true;
    ++thread.clock;
    machine.restamp();
}

// cp.async: what it writes is there when it was waited for, and undefined until then.
void emulation_copy(void* to, const void* from, unsigned size, unsigned filled) {
    const void* caller = __builtin_return_address(0);
    auto target = reinterpret_cast<std::uintptr_t>(to);
    if (size != 4 && size != 8 && size != 16) {
        fault(place_of(caller), 0, myself() + " copies " + bytes(size) +
                                       " asynchronously, which must be 4, 8 or 16");
    }
    if (target % size != 0 || reinterpret_cast<std::uintptr_t>(from) % size != 0) {
        fault(place_of(caller), 0, "is misaligned: " + myself() + " copies " + bytes(size) +
                                       " asynchronously, and not both addresses are multiples of it");
    }
    if (target - machine.shared >= machine.shared_size) {
        fault(place_of(caller), 0, myself() + " copies asynchronously to what is not shared memory");
    }
    if (filled > 0) access(from, filled, kRead, caller);
    access(to, size, kWrite, caller);
    std::memset(to, 0xff, size);
    machine.now->copies.push_back({to, from, size, filled});
}

void emulation_commit() {
    machine.now->groups.push_back(std::move(machine.now->copies));
    machine.now->copies.clear();
}

void emulation_wait(unsigned groups) {
    const void* caller = __builtin_return_address(0);
    auto& pending = machine.now->groups;
    while (pending.size() > groups) {
        for (const Copy& copy : pending.front()) {
            access(copy.to, copy.size, kWrite, caller);
            std::memset(copy.to, 0, copy.size);
            std::memcpy(copy.to, copy.from, copy.filled);
        }
        pending.erase(pending.begin());
    }
}

// What memcpy, memmove and memset of a kernel are.
void* emulation_memcpy(void* to, const void* from, std::size_t size) {
    const void* caller = __builtin_return_address(0);
    if (size > 0) access(from, size, kRead, caller);
    if (size > 0) access(to, size, kWrite, caller);
    return std::memmove(to, from, size);
}
void* emulation_memset(void* to, int value, std::size_t size) {
    if (size > 0) access(to, size, kWrite, __builtin_return_address(0));
    return std::memset(to, value, size);
}

#define ACCESSES(SIZE)                                                                    \
    void __tsan_read##SIZE(void* at) {                                                    \
        access(at, SIZE, kRead, __builtin_return_address(0));                             \
    }                                                                                     \
    void __tsan_write##SIZE(void* at) {                                                   \
        access(at, SIZE, kWrite, __builtin_return_address(0));                            \
    }                                                                                     \
    void __tsan_volatile_read##SIZE(void* at) {                                           \
        volatile_access(at, SIZE, false, __builtin_return_address(0));                    \
    }                                                                                     \
    void __tsan_volatile_write##SIZE(void* at) {                                          \
        volatile_access(at, SIZE, true, __builtin_return_address(0));                     \
    }
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)

void __tsan_read_range(void* at, std::size_t size) {
    if (size > 0) access(at, size, kRead, __builtin_return_address(0));
}
void __tsan_write_range(void* at, std::size_t size) {
    if (size > 0) access(at, size, kWrite, __builtin_return_address(0));
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}

// Of UndefinedBehaviorSanitizer: the layout of what its calls are told.
struct Place { const char* file; std::uint32_t line, column; };
struct Type { std::uint16_t kind, info; char name[1]; };
struct Mismatch { Place place; const Type* type; unsigned char alignment, kind; };
struct OutOfBounds { Place place; const Type *array, *index; };

void __ubsan_handle_type_mismatch_v1(Mismatch* what, std::uintptr_t) {
    if (machine.launch == nullptr) return;
    fault(place_of(__builtin_return_address(0)), 0,
          "is misaligned: " + myself() + " uses " + what->type->name +
              " at an address that is no multiple of " + std::to_string(1u << what->alignment));
}
void __ubsan_handle_out_of_bounds(OutOfBounds* what, std::uintptr_t index) {
    if (machine.launch == nullptr) return;
    fault(place_of(__builtin_return_address(0)), 0,
          "is out of bounds: " + myself() + " takes element " + std::to_string(std::intptr_t(index)) +
              " of " + what->array->name);
}

}  // extern "C"
}  // namespace emulation
