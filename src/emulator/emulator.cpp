// The kernels by name, for the emulated device.
#include "kernels.cu"

#include <utility>

namespace {
using Word = unsigned long long;

template <class T> T from_word(Word word) {
  static_assert(sizeof(T) <= sizeof(Word));
  T value;
  std::memcpy(&value, &word, sizeof value); // a processor that keeps the low bytes first
  return value;
}

template <class... A> constexpr size_t arity(void (*)(A...)) { return sizeof...(A); }
template <class... A, size_t... I> void call(void (*kernel)(A...), const Word* words, std::index_sequence<I...>) {
  kernel(from_word<A>(words[I])...);
}

struct Entry {
  const char* name;
  size_t arity;
  void (*run)(const void*);
};

#define ENTRY(kernel)                                                                                        \
  {                                                                                                          \
    #kernel, arity(kernel), [](const void* words) {                                                          \
      call(kernel, static_cast<const Word*>(words), std::make_index_sequence<arity(kernel)>{});                 \
    }                                                                                                        \
  }
#define BOTH(kernel) ENTRY(kernel##_f32), ENTRY(kernel##_bf16)

// Two faults that the tests must see.
void planted_race(float* out) {
  SHARED(float, parts, 64);
  parts[threadIdx.x] = float(threadIdx.x);
  out[threadIdx.x] = parts[63 - threadIdx.x]; // without a barrier
}
void planted_split_barrier(float* out) {
  if (threadIdx.x < 32) __syncthreads();
  out[threadIdx.x] = 1.0f;
}
void planted_overrun(float* out, Word count) { out[count] = 1.0f; }

const Entry ENTRIES[] = {
    BOTH(embed), BOTH(norm), BOTH(mix), BOTH(backout), BOTH(norm_backward), BOTH(mix_backward), BOTH(backout_backward),
    BOTH(smear_slopes), BOTH(embed_backward), BOTH(add), BOTH(heads), BOTH(heads_backward), BOTH(gate_input), BOTH(gate_sums),
    BOTH(square), BOTH(square_backward), BOTH(cross_entropy), BOTH(sum_rows), BOTH(muon_lookahead), BOTH(scale_rows),
    BOTH(row_squares), BOTH(column_squares), BOTH(muon_update), BOTH(adamw), BOTH(copy_weights), ENTRY(finish_sums),
    ENTRY(mean_loss), ENTRY(join_rows), ENTRY(equilibrate), ENTRY(muon_second), ENTRY(planted_race),
    ENTRY(planted_split_barrier), ENTRY(planted_overrun),
};
}  // namespace

extern "C" {
// Runs a kernel on `count` words of arguments. Gives back null, or what went wrong.
const char* emulator_launch(const char* name, unsigned grid, unsigned threads, unsigned order, const Word* words, size_t count) {
  for (const Entry& entry : ENTRIES) {
    if (std::strcmp(entry.name, name) != 0) continue;
    if (entry.arity != count) {
      std::snprintf(emulator::problem, sizeof emulator::problem, "%s takes %zu arguments, not %zu", name, entry.arity, count);
      return emulator::problem;
    }
    emulator::order = order;
    return emulator::launch(name, grid, threads, entry.run, words) ? nullptr : emulator::problem;
  }
  std::snprintf(emulator::problem, sizeof emulator::problem, "there is no kernel %s", name);
  return emulator::problem;
}
}
