// What all kernels share. Every reduction has a fixed order, so that equal inputs give equal bits; there are no atomics.
//
// Rows of streams are `width` elements, a multiple of 8, and begin at addresses that are multiples of 16 bytes. A row is one
// warp's work, a block has WARPS of them. Kernels take rows in strides of the grid, so any grid gives right results; where rows
// are summed over, a block writes its partial sum, and `finish_sums` adds these up in order.
#pragma once

using u64 = unsigned long long;

// Warps of a block of the row kernels.
constexpr unsigned WARPS = 8;
// Elements that a lane takes at once: 16 bytes in bf16.
constexpr unsigned VECTOR = 8;
// The architecture's constants (nanochat/gpt.py).
constexpr float NORM_EPSILON = 1.1920928955078125e-07f;
constexpr float QK_SCALE = 1.2f;
constexpr float GATE_SCALE = 3.0f;
constexpr float LOGIT_CAP = 15.0f;

// What the host sets for every batch (`Header` in batch.rs).
struct Header {
  float factor;     // on the gradient of every loss
  unsigned number;  // of the micro-step
  unsigned counted; // targets that are not ignored
  unsigned pieces;  // of the embedding's gradient
  unsigned joins;   // tokens whose gradient has several pieces
  unsigned padding[3];
};

template <class T> static __device__ __forceinline__ T warp_sum(T value) {
  for (int other = 16; other; other /= 2) value += __shfl_xor_sync(~0u, value, other);
  return value;
}

static __device__ __forceinline__ unsigned lane() { return threadIdx.x % 32; }
static __device__ __forceinline__ unsigned warp() { return threadIdx.x / 32; }

// The first row of this warp, and how far it is to its next one.
static __device__ __forceinline__ u64 first_row() { return u64(blockIdx.x) * (blockDim.x / 32) + warp(); }
static __device__ __forceinline__ u64 row_step() { return u64(gridDim.x) * (blockDim.x / 32); }

struct alignas(16) Packed { unsigned words[4]; };
template <class S> struct alignas(2 * VECTOR) Vector { S at[VECTOR]; };

template <class S> static __device__ __forceinline__ void load(const S* from, float (&to)[VECTOR]) {
  const Vector<S> vector = *reinterpret_cast<const Vector<S>*>(from);
#pragma unroll
  for (unsigned i = 0; i < VECTOR; i++) to[i] = widen(vector.at[i]);
}

template <class S> static __device__ __forceinline__ void store(S* to, const float (&from)[VECTOR]) {
  Vector<S> vector;
#pragma unroll
  for (unsigned i = 0; i < VECTOR; i++) vector.at[i] = narrow<S>(from[i]);
  *reinterpret_cast<Vector<S>*>(to) = vector;
}

// The sum of one value a thread over a block, the same for all of them.
template <class T> static __device__ __forceinline__ T block_sum(T value) {
  SHARED(T, parts, 32);
  value = warp_sum(value);
  __syncthreads();
  if (lane() == 0) parts[warp()] = value;
  __syncthreads();
  T total = 0;
  for (unsigned i = 0; i < blockDim.x / 32; i++) total += parts[i];
  return total;
}

// Writes a block's sum of `COUNT` values a lane to `partials`.
template <unsigned COUNT> static __device__ __forceinline__ void partial_sums(const float (&values)[COUNT], float* partials) {
  SHARED(float, parts, COUNT * 32);
  for (unsigned i = 0; i < COUNT; i++) {
    const float sum = warp_sum(values[i]);
    if (lane() == 0) parts[i * 32 + warp()] = sum;
  }
  __syncthreads();
  if (threadIdx.x < COUNT) {
    float sum = 0.0f;
    for (unsigned i = 0; i < blockDim.x / 32; i++) sum += parts[threadIdx.x * 32 + i];
    partials[u64(blockIdx.x) * COUNT + threadIdx.x] = sum;
  }
}

static __device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
static __device__ __forceinline__ float norm_factor(float squares, unsigned width) {
  return 1.0f / sqrtf(squares / float(width) + NORM_EPSILON);
}
