// Threads as fibers: a stack each, and a switch from one to another that is no call of the system.

#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

namespace emulation {

constexpr std::size_t kStack = 128 << 10;  // bytes; memory is taken only as far as it is touched
constexpr unsigned kMostThreads = 1024;

// Where the program goes on: its stack, with the registers that a call must keep on top of it.
#if defined(__x86_64__) || defined(__aarch64__)
struct Context { void* stack = nullptr; };

extern "C" void emulation_switch(void** from, void* to);
#if defined(__x86_64__)
asm(R"(
.text
.weak emulation_switch
.type emulation_switch, @function
emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulation_switch, .-emulation_switch
)");
constexpr unsigned kKept = 6, kReturn = 6;
#else
asm(R"(
.text
.weak emulation_switch
.type emulation_switch, %function
emulation_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x2, sp
    str x2, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size emulation_switch, .-emulation_switch
)");
constexpr unsigned kKept = 20, kReturn = 11;
#endif

inline void begin(Context& context, char* bottom, void (*entry)()) {
    auto top = reinterpret_cast<std::uintptr_t>(bottom + kStack) & ~std::uintptr_t(63);
    // One word more than what is kept and the return address: a function begins as after a call.
    void** words = reinterpret_cast<void**>(top) - kKept - 2;
    for (unsigned i = 0; i < kKept + 2; ++i) words[i] = nullptr;
    words[kReturn] = reinterpret_cast<void*>(entry);
    context.stack = words;
}
inline void change(Context& from, Context& to) { emulation_switch(&from.stack, to.stack); }
#else
struct Context { ucontext_t state; };

inline void begin(Context& context, char* bottom, void (*entry)()) {
    getcontext(&context.state);
    context.state.uc_stack.ss_sp = bottom;
    context.state.uc_stack.ss_size = kStack;
    context.state.uc_link = nullptr;
    makecontext(&context.state, entry, 0);
}
inline void change(Context& from, Context& to) { swapcontext(&from.state, &to.state); }
#endif

// The stack of thread i; all of them are kept for later launches.
inline char* stack_of(unsigned i) {
    static char* all = static_cast<char*>(mmap(nullptr, kStack * kMostThreads,
                                               PROT_READ | PROT_WRITE,
                                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (all == MAP_FAILED) std::abort();
    return all + i * kStack;
}

}  // namespace emulation
