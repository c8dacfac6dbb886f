// All kernels: one translation unit, for a GPU (nvcc) or for a processor (a C++ compiler and emulator.h).
#ifdef __CUDACC__
#include "on_gpu.h"
#else
#include "emulator.h"
#endif
#include "common.h"
#include "plain.inc"

#define S float
#define NAME(name) name##_f32
#include "stream.inc"
#include "layer.inc"
#include "head.inc"
#include "optimizer.inc"
#undef S
#undef NAME

#define S bf16
#define NAME(name) name##_bf16
#include "stream.inc"
#include "layer.inc"
#include "head.inc"
#include "optimizer.inc"
