// CUDA, as far as kernels.cu needs it, on one thread of a CPU.
//
// The threads of a block are fibers.  A barrier passes control to the next fiber, so that all of
// them come to the barrier before one goes on; a forgotten barrier lets the first fiber read what
// the others have not written yet.  Blocks run one after the other.

#include <ucontext.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#define __device__ static
#define __global__
#define __shared__ static
#define __launch_bounds__(...)

struct alignas(16) uint4 { unsigned x, y, z, w; };
struct Place { unsigned x = 0, y = 0; };
static Place threadIdx, blockIdx, blockDim;

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(1 << 16);
    bool done = false;
};
static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static unsigned current;
static std::function<void()> body;

inline void __syncthreads() { swapcontext(&fibers[current].context, &scheduler); }

inline float __shfl_xor_sync(unsigned, float value, int other) {
    static float slots[1024];
    slots[current] = value;
    __syncthreads();
    float result = slots[current ^ other];
    __syncthreads();
    return result;
}

inline float __uint_as_float(unsigned word) {
    float value;
    std::memcpy(&value, &word, 4);
    return value;
}
inline unsigned __float_as_uint(float value) {
    unsigned word;
    std::memcpy(&word, &value, 4);
    return word;
}
inline float half_to_float(unsigned short bits) {
    _Float16 value;
    std::memcpy(&value, &bits, 2);
    return value;
}
inline unsigned short float_to_half(float value) {
    _Float16 rounded = value;
    unsigned short bits;
    std::memcpy(&bits, &rounded, 2);
    return bits;
}

inline void run_fiber() {
    body();
    fibers[current].done = true;
}

inline void run_block() {
    for (Fiber& fiber : fibers) {
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        fiber.context.uc_link = &scheduler;
        fiber.done = false;
        makecontext(&fiber.context, run_fiber, 0);
    }
    for (bool alive = true; alive;) {
        alive = false;
        for (current = 0; current < fibers.size(); ++current) {
            if (fibers[current].done) continue;
            alive = true;
            threadIdx = {current % blockDim.x, current / blockDim.x};
            swapcontext(&scheduler, &fibers[current].context);
        }
    }
}

template <class A> A argument(const long long* word) {
    A value;
    static_assert(sizeof value == 8, "launchers pass 64 bits");
    std::memcpy(&value, word, 8);
    return value;
}

template <class... A, std::size_t... I>
void run(void (*kernel)(A...), unsigned grid, unsigned width, unsigned height,
         const long long* words, std::index_sequence<I...>) {
    body = [=] { kernel(argument<A>(words + I)...); };
    blockDim = {width, height};
    fibers.resize(width * height);
    for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x) run_block();
}

#define EMULATE(NAME)                                                                       \
    extern "C" void emulate_##NAME(unsigned grid, unsigned width, unsigned height,          \
                                   const long long* words) {                                \
        run(NAME, grid, width, height, words);                                              \
    }

template <class... A>
void run(void (*kernel)(A...), unsigned grid, unsigned width, unsigned height,
         const long long* words) {
    run(kernel, grid, width, height, words, std::index_sequence_for<A...>{});
}
