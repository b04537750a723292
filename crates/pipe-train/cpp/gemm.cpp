// The scheme of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008): panels of `b`, as wide as a tile, are
// laid out in the order in which they are read; a tile of `c` stays in registers while a block of the inner dimension is summed up.
//
// libtorch computes f32 products with MKL, which on processors of AMD takes its AVX2 kernels even where there is AVX-512, half the
// arithmetic that Zen 5 is capable of; and those reach less of a core than these.
#include "gemm.h"

// clang has no `#pragma GCC target`.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <ATen/Parallel.h>
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

namespace {
using pipe::Matrix;

// Of the inner dimension, summed up at once: with it a panel of `b` is 24 or 48 KiB.
constexpr int64_t kInner = 384;
// What is laid out at once, in numbers: 4 MiB of `a`, and of `b`.
constexpr int64_t kPacked = 1 << 20;
// Multiplications, and numbers to lay out, that are worth a thread of their own.
constexpr int64_t kGrain = 1 << 18, kPackGrain = 1 << 14;

// Memory that is kept from one product to the next.
class Buffer {
 public:
  float* at_least(int64_t size) {
    if (size > size_) {
      data_.reset();
      size_ = 0;
      data_.reset(static_cast<float*>(std::aligned_alloc(64, (static_cast<size_t>(size) * sizeof(float) + 63) / 64 * 64)));
      if (!data_) throw std::bad_alloc();
      size_ = size;
    }
    return data_.get();
  }

 private:
  struct Free {
    void operator()(float* data) const { std::free(data); }
  };
  std::unique_ptr<float, Free> data_;
  int64_t size_ = 0;
};

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// In each namespace: to[j * to_row + i] = from[i * from_row + j] for as many rows and columns as a vector has numbers. Pairs of rows are
// interleaved within lanes of four numbers, then pairs of pairs, then the lanes are put in order.

#pragma GCC push_options
#pragma GCC target("avx512f")
namespace avx512 {
// 28 of the 32 registers, beside two of `b`.
constexpr int64_t kLanes = 16, kTileRows = 14;
// Rows of `a` that a panel meets before the next one: this part of them stays in the second cache, here of 1 MiB.
constexpr int64_t kBlockRows = 476;

void transpose_block(const float* from, int64_t from_row, float* to, int64_t to_row) {
  const auto low = [](__m512 a, __m512 b) { return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); };
  const auto high = [](__m512 a, __m512 b) { return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); };
  __m512 r[16], t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_ps(from + i * from_row);
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    r[i] = low(t[i], t[i + 2]);
    r[i + 1] = high(t[i], t[i + 2]);
    r[i + 2] = low(t[i + 1], t[i + 3]);
    r[i + 3] = high(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512 a = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88), b = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
    const __m512 c = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88), d = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    t[i] = _mm512_shuffle_f32x4(a, c, 0x88);
    t[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
    t[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
    t[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm512_storeu_ps(to + i * to_row, t[i]);
}

#include "gemm_tiles.h"
}  // namespace avx512
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
// 12 of the 16 registers, beside two of `b` and one of `a`.
constexpr int64_t kLanes = 8, kTileRows = 6;
// Of 512 KiB.
constexpr int64_t kBlockRows = 240;

void transpose_block(const float* from, int64_t from_row, float* to, int64_t to_row) {
  const auto low = [](__m256 a, __m256 b) { return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b))); };
  const auto high = [](__m256 a, __m256 b) { return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b))); };
  __m256 r[8], t[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(from + i * from_row);
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    r[i] = low(t[i], t[i + 2]);
    r[i + 1] = high(t[i], t[i + 2]);
    r[i + 2] = low(t[i + 1], t[i + 3]);
    r[i + 3] = high(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(to + i * to_row, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_storeu_ps(to + (i + 4) * to_row, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}

#include "gemm_tiles.h"
}  // namespace avx2
#pragma GCC pop_options

bool can(pipe::Vectors vectors) {
  switch (vectors) {
    case pipe::Vectors::Avx512: return __builtin_cpu_supports("avx512f");
    case pipe::Vectors::Avx2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    default: return true;
  }
}

// MKL has kernels of its own for each processor of Intel.
std::atomic<pipe::Vectors> chosen{!__builtin_cpu_is("amd")        ? pipe::Vectors::None
                                  : can(pipe::Vectors::Avx512) ? pipe::Vectors::Avx512
                                  : can(pipe::Vectors::Avx2)   ? pipe::Vectors::Avx2
                                                               : pipe::Vectors::None};
}  // namespace

bool pipe::has_gemm() { return chosen != Vectors::None; }

bool pipe::force_gemm(Vectors vectors) {
  if (!can(vectors)) return false;
  chosen = vectors;
  return true;
}

void pipe::gemm(int64_t m, int64_t n, int64_t k, Matrix a, Matrix b, const float* bias, float* c) {
  (chosen == Vectors::Avx512 ? avx512::gemm : avx2::gemm)(m, n, k, a, b, bias, c);
}

#else
bool pipe::has_gemm() { return false; }
bool pipe::force_gemm(Vectors vectors) { return vectors == Vectors::None; }
void pipe::gemm(int64_t, int64_t, int64_t, Matrix, Matrix, const float*, float*) {}
#endif
