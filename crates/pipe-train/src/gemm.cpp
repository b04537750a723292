// The scheme of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008): panels of `b`, as wide as a tile, are
// laid out in the order in which they are read; a tile of `c` stays in registers while a block of the inner dimension is summed up.
//
// libtorch computes f32 products with MKL, which on processors of AMD takes its AVX2 kernels even where there is AVX-512: half the
// arithmetic that Zen 5 is capable of.
#include "gemm.h"

#if defined(__x86_64__)
#include <ATen/Parallel.h>
#include <immintrin.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#define AVX512 __attribute__((target("avx512f")))

namespace {
using pipe::Matrix;

// A tile of `c`: 28 of the 32 registers, beside two of `b`.
constexpr int64_t kTileRows = 14, kTileColumns = 32;
// Of the inner dimension, summed up at once: with it a panel of `b` is 48 KiB.
constexpr int64_t kInner = 384;
// Tiles of rows that a panel meets before the next one: their part of `a` stays in the second cache.
constexpr int64_t kBlockTiles = 34;
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

__mmask16 first(int64_t count) { return static_cast<__mmask16>(count >= 16 ? 0xffff : (1u << std::max<int64_t>(count, 0)) - 1); }

// to[j * kTileColumns + i] = from[i * stride + j] for 16 rows and columns, of which some are there; rows that are not are zeros.
AVX512 void transpose16(const float* from, int64_t stride, int64_t rows, int64_t columns, float* to) {
  const __mmask16 mask = first(columns);
  __m512 r[16], t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = i < rows ? _mm512_maskz_loadu_ps(mask, from + i * stride) : _mm512_setzero_ps();
  // Pairs, then quadruples of rows within lanes of four numbers, then the lanes.
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    const auto low = [](__m512 a, __m512 b) AVX512 { return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); };
    const auto high = [](__m512 a, __m512 b) AVX512 { return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); };
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
  for (int i = 0; i < 16; ++i)
    if (i < columns) _mm512_store_ps(to + i * kTileColumns, t[i]);
}

// A panel of `b`: `k` rows of `columns` numbers, filled up with zeros.
AVX512 void pack_panel(Matrix b, int64_t k, int64_t columns, float* to) {
  if (b.column == 1) {
    const __mmask16 left = first(columns), right = first(columns - 16);
    for (int64_t u = 0; u < k; ++u) {
      _mm512_store_ps(to + u * kTileColumns, _mm512_maskz_loadu_ps(left, b.data + u * b.row));
      _mm512_store_ps(to + u * kTileColumns + 16, _mm512_maskz_loadu_ps(right, b.data + u * b.row + 16));
    }
  } else {
    for (int64_t u = 0; u < k; u += 16) {
      for (int64_t half = 0; half < kTileColumns; half += 16)
        transpose16(b.data + half * b.column + u, b.column, std::clamp<int64_t>(columns - half, 0, 16), std::min<int64_t>(16, k - u),
                    to + u * kTileColumns + half);
    }
  }
}

// A tile's rows of an `a` that is stored by columns: `k` times its numbers, with gaps where rows are missing.
AVX512 void pack_rows(Matrix a, int64_t k, int64_t rows, float* to) {
  const __mmask16 mask = first(rows);
  for (int64_t u = 0; u < k; ++u) _mm512_mask_storeu_ps(to + u * kTileRows, mask, _mm512_maskz_loadu_ps(mask, a.data + u * a.column));
}

// What the sums of a tile are added to.
enum class Base { Nothing, Bias, Tile };

// c[Rows, columns] = base + a[Rows, k] · panel[k, columns]
template <int Rows>
AVX512 void multiply_tile(int64_t k, Matrix a, const float* panel, int64_t columns, Base base, const float* bias, float* c, int64_t c_row) {
  const __mmask16 left = first(columns), right = first(columns - 16);
  __m512 sums[Rows][2];
#pragma GCC unroll 14
  for (int i = 0; i < Rows; ++i) sums[i][0] = sums[i][1] = _mm512_setzero_ps();
  const float* values = a.data;
  for (int64_t u = 0; u < k; ++u, values += a.column, panel += kTileColumns) {
    const __m512 b0 = _mm512_load_ps(panel), b1 = _mm512_load_ps(panel + 16);
#pragma GCC unroll 14
    for (int i = 0; i < Rows; ++i) {
      const __m512 value = _mm512_set1_ps(values[i * a.row]);
      sums[i][0] = _mm512_fmadd_ps(value, b0, sums[i][0]);
      sums[i][1] = _mm512_fmadd_ps(value, b1, sums[i][1]);
    }
  }
  // Only now: a long sum loses less where its blocks are added to one another.
#pragma GCC unroll 14
  for (int i = 0; i < Rows; ++i) {
    float* to = c + i * c_row;
    if (base != Base::Nothing) {
      const float* from = base == Base::Tile ? to : bias;
      sums[i][0] = _mm512_add_ps(sums[i][0], _mm512_maskz_loadu_ps(left, from));
      sums[i][1] = _mm512_add_ps(sums[i][1], _mm512_maskz_loadu_ps(right, from + 16));
    }
    _mm512_mask_storeu_ps(to, left, sums[i][0]);
    _mm512_mask_storeu_ps(to + 16, right, sums[i][1]);
  }
}

constexpr decltype(&multiply_tile<1>) kTiles[] = {
    multiply_tile<1>, multiply_tile<2>, multiply_tile<3>,  multiply_tile<4>,  multiply_tile<5>,  multiply_tile<6>,  multiply_tile<7>,
    multiply_tile<8>, multiply_tile<9>, multiply_tile<10>, multiply_tile<11>, multiply_tile<12>, multiply_tile<13>, multiply_tile<14>,
};

// A part of a product: `columns` of `c`, from a stretch `k` of the inner dimension.
struct Part {
  int64_t rows, columns, k;
  Matrix a;
  // In panels.
  const float* b;
  const float* bias;
  bool first;
  float* c;
  int64_t c_row;
};

void multiply(const Part& part, float* packed) {
  const int64_t panels = divide_up(part.columns, kTileColumns), all_tiles = divide_up(part.rows, kTileRows);
  const bool by_columns = part.a.column != 1;
  // An `a` by columns is laid out as far as there is room.
  const int64_t at_once = by_columns ? std::clamp<int64_t>(kPacked / (kTileRows * part.k), 1, all_tiles) : all_tiles;
  for (int64_t begin = 0; begin < all_tiles; begin += at_once) {
    const int64_t tiles = std::min(at_once, all_tiles - begin);
    const auto rows_of = [&](int64_t tile) { return std::min(kTileRows, part.rows - (begin + tile) * kTileRows); };
    const auto of_a = [&](int64_t tile) { return part.a.data + (begin + tile) * kTileRows * part.a.row; };
    if (by_columns) {
      at::parallel_for(0, tiles, std::max<int64_t>(1, kPackGrain / (kTileRows * part.k)), [&](int64_t from, int64_t to) {
        for (int64_t tile = from; tile < to; ++tile) {
          pack_rows({of_a(tile), part.a.row, part.a.column}, part.k, rows_of(tile), packed + tile * kTileRows * part.k);
        }
      });
    }
    const int64_t grain = std::max<int64_t>(1, kGrain / (kTileRows * kTileColumns * part.k));
    at::parallel_for(0, panels * tiles, grain, [&](int64_t from, int64_t to) {
      for (int64_t k = 0; k < part.k; k += kInner) {
        for (int64_t at = from; at < to; ++at) {
          const int64_t block = at / (kBlockTiles * panels), in_block = at - block * kBlockTiles * panels;
          const int64_t tiles_of_block = std::min(kBlockTiles, tiles - block * kBlockTiles);
          const int64_t panel = in_block / tiles_of_block, tile = block * kBlockTiles + in_block % tiles_of_block;
          const Matrix a = by_columns ? Matrix{packed + tile * kTileRows * part.k + k * kTileRows, 1, kTileRows}
                                      : Matrix{of_a(tile) + k, part.a.row, 1};
          const int64_t column = panel * kTileColumns;
          const Base base = k > 0 || !part.first ? Base::Tile : part.bias == nullptr ? Base::Nothing : Base::Bias;
          kTiles[rows_of(tile) - 1](std::min(kInner, part.k - k), a, part.b + panel * kTileColumns * part.k + k * kTileColumns,
                                    std::min(kTileColumns, part.columns - column), base, part.bias == nullptr ? nullptr : part.bias + column,
                                    part.c + (begin + tile) * kTileRows * part.c_row + column, part.c_row);
        }
      }
    });
  }
}
}  // namespace

bool pipe::has_gemm() {
  // MKL has AVX-512 kernels of its own for the processors of Intel.
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_is("amd");
  return has;
}

void pipe::gemm(int64_t m, int64_t n, int64_t k, Matrix a, Matrix b, const float* bias, float* c) {
  thread_local Buffer of_a, of_b;
  if (m == 0 || n == 0) return;
  const int64_t inner = std::min(k, kPacked / (8 * kTileColumns));
  const int64_t columns = std::min(divide_up(n, kTileColumns), kPacked / (kTileColumns * inner)) * kTileColumns;
  // A whole register is stored past a tile's last numbers.
  float* rows = a.column == 1 ? nullptr : of_a.at_least(std::min(kPacked, divide_up(m, kTileRows) * kTileRows * inner) + 16);
  float* panels = of_b.at_least(columns * inner);
  for (int64_t j = 0; j < n; j += columns) {
    const int64_t width = std::min(columns, n - j);
    for (int64_t u = 0; u < k; u += inner) {
      const int64_t depth = std::min(inner, k - u);
      const Matrix part_of_b{b.data + u * b.row + j * b.column, b.row, b.column};
      at::parallel_for(0, divide_up(width, kTileColumns), std::max<int64_t>(1, kPackGrain / (kTileColumns * depth)), [&](int64_t from, int64_t to) {
        for (int64_t panel = from; panel < to; ++panel) {
          const int64_t column = panel * kTileColumns;
          pack_panel({part_of_b.data + column * b.column, b.row, b.column}, depth, std::min(kTileColumns, width - column),
                     panels + column * depth);
        }
      });
      multiply({m, width, depth, {a.data + u * a.column, a.row, a.column}, panels, bias == nullptr ? nullptr : bias + j, u == 0, c + j, n}, rows);
    }
  }
}

#else
bool pipe::has_gemm() { return false; }
void pipe::gemm(int64_t, int64_t, int64_t, Matrix, Matrix, const float*, float*) {}
#endif
