// What the kernels use of CUDA, under the names that emulator.h gives the same things on a processor.
#pragma once
#include <cuda_bf16.h>

#include <cstdint>

using bf16 = __nv_bfloat16;

static __device__ __forceinline__ float widen(float value) { return value; }
static __device__ __forceinline__ float widen(bf16 value) { return __bfloat162float(value); }
template <class S> static __device__ __forceinline__ S narrow(float value);
template <> __device__ __forceinline__ float narrow<float>(float value) { return value; }
template <> __device__ __forceinline__ bf16 narrow<bf16>(float value) { return __float2bfloat16_rn(value); }

// Memory that a block's threads share: `count` elements, unset at the start of a block.
#define SHARED(type, name, count) __shared__ type name[count]
// The most threads of a block, which bounds what registers a thread takes.
#define LAUNCHED(threads) __launch_bounds__(threads)
#define KERNEL extern "C" __global__ void
