// Runs CUDA kernels on a processor, for tests: blocks one after another, a block's threads as fibers of one thread.
//
// Barriers and shuffles switch between fibers. Between two of them a fiber runs alone, in an order that `order` decides, so that
// a kernel with a missing barrier gives other results in another order. Shared memory holds NaN patterns at the start of a
// block. A barrier that not all threads of a block reach is an error that names it.
#pragma once
#include <ucontext.h>

#include <csetjmp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#define __global__ static
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define LAUNCHED(threads)
#define KERNEL static void

struct dim3 { unsigned x = 1, y = 1, z = 1; };
static thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

struct bf16 { uint16_t bits; };
static inline float widen(float value) { return value; }
static inline float widen(bf16 value) {
  const uint32_t bits = uint32_t(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, 4);
  return wide;
}
template <class S> static inline S narrow(float value);
template <> inline float narrow<float>(float value) { return value; }
// To the nearest, ties to even.
template <> inline bf16 narrow<bf16>(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if (value != value) return {0x7fff};
  return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

namespace emulator {
constexpr unsigned MOST_THREADS = 1024, STACK = 64 << 10;
enum class State { Ready, AtBarrier, AtShuffle, Done };

struct Fiber {
  jmp_buf at;
  ucontext_t start;
  State state;
  bool begun = false;
  std::unique_ptr<char[]> stack;
};

// Memory that a block's threads share; all of it is known, to be filled before a block begins.
struct AnyShared {
  unsigned char* bytes;
  size_t size;
};
static thread_local std::vector<AnyShared> all_shared;
template <class T, unsigned COUNT> struct Shared {
  T at[COUNT];
  Shared() {
    all_shared.push_back({reinterpret_cast<unsigned char*>(at), sizeof at});
    std::memset(at, 0xff, sizeof at);
  }
};

static thread_local std::vector<Fiber> fibers;
static thread_local jmp_buf scheduler;
static thread_local unsigned running, order;
static thread_local void (*body)(const void*);
static thread_local const void* body_arguments;
static thread_local unsigned char values[MOST_THREADS][16]; // on their way between the lanes of a warp

static inline void wait(State state) {
  fibers[running].state = state;
  if (!_setjmp(fibers[running].at)) _longjmp(scheduler, 1);
}

// A fiber runs the body of one thread after another, block after block, and never returns.
static void run_fiber() {
  for (;;) {
    body(body_arguments);
    wait(State::Done);
  }
}

static void resume(unsigned thread) {
  running = thread;
  threadIdx.x = thread;
  if (_setjmp(scheduler)) return;
  Fiber& fiber = fibers[thread];
  if (fiber.begun) _longjmp(fiber.at, 1);
  fiber.begun = true;
  setcontext(&fiber.start);
}

// Lets threads from `first` to `last` go on if all of them have arrived; one that is done never will.
static bool release(unsigned first, unsigned last, State state) {
  for (unsigned thread = first; thread < last; thread++)
    if (fibers[thread].state != state) return false;
  for (unsigned thread = first; thread < last; thread++) fibers[thread].state = State::Ready;
  return true;
}

// False where some threads wait at a barrier that others never reach.
static bool run_block() {
  const unsigned count = blockDim.x;
  for (unsigned thread = 0; thread < count; thread++) fibers[thread].state = State::Ready;
  for (const AnyShared& shared : all_shared) std::memset(shared.bytes, 0xff, shared.size);
  for (;;) {
    // A step that shares no factor with the number of threads visits all of them; threads are powers of two times 32.
    const unsigned step = 2 * (order % 16) + 1;
    for (unsigned i = 0; i < count; i++) {
      const unsigned thread = order ? (count - 1 - i) * step % count : i;
      if (fibers[thread].state == State::Ready) resume(thread);
    }
    for (unsigned i = 0; i < count; i++) // where the step does share one
      if (fibers[i].state == State::Ready) resume(i);
    bool freed = false, done = true;
    for (unsigned warp = 0; warp < count; warp += 32) freed |= release(warp, warp + 32 < count ? warp + 32 : count, State::AtShuffle);
    if (!freed) freed = release(0, count, State::AtBarrier);
    for (unsigned i = 0; i < count; i++) done &= fibers[i].state == State::Done;
    if (done) return true;
    if (!freed) return false;
  }
}

// What went wrong with the last launch.
static thread_local char problem[160];

static void prepare(unsigned threads) {
  while (fibers.size() < threads) fibers.emplace_back();
  for (unsigned i = 0; i < threads; i++) {
    Fiber& fiber = fibers[i];
    if (fiber.stack) continue;
    fiber.stack = std::make_unique<char[]>(STACK);
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.get();
    fiber.start.uc_stack.ss_size = STACK;
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, run_fiber, 0);
  }
}

static bool launch(const char* name, unsigned grid, unsigned threads, void (*kernel)(const void*), const void* arguments) {
  if (threads == 0 || threads > MOST_THREADS || threads % 32 != 0) {
    std::snprintf(problem, sizeof problem, "%s: a block of %u threads", name, threads);
    return false;
  }
  prepare(threads);
  gridDim.x = grid, blockDim.x = threads;
  body = kernel, body_arguments = arguments;
  for (blockIdx.x = 0; blockIdx.x < grid; blockIdx.x++) {
    if (run_block()) continue;
    std::snprintf(problem, sizeof problem, "%s: not all threads of block %u reach a barrier", name, blockIdx.x);
    fibers.clear(); // their stacks hold half of a block
    return false;
  }
  return true;
}

template <class T> static inline T exchange(T value, unsigned source) {
  static_assert(sizeof(T) <= sizeof values[0]);
  std::memcpy(values[running], &value, sizeof value);
  wait(State::AtShuffle);
  T other;
  std::memcpy(&other, values[running / 32 * 32 + source % 32], sizeof other);
  wait(State::AtShuffle);
  return other;
}
}  // namespace emulator

#define SHARED(type, name, count)                                  \
  static thread_local emulator::Shared<type, (count)> name##_memory; \
  type* name = name##_memory.at

static inline void __syncthreads() { emulator::wait(emulator::State::AtBarrier); }
template <class T> static inline T __shfl_xor_sync(unsigned, T value, int other) {
  return emulator::exchange(value, emulator::running % 32 ^ unsigned(other));
}
