// Entries of the watch over memory that the engine itself uses.

#pragma once

namespace emulation {

// Two threads wrote to one place: a fault unless it was the same value, known only afterwards.
void settle_suspect();

}  // namespace emulation
