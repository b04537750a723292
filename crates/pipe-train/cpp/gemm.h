// Matrix products in f32 on processors that libtorch's library makes little of.
#pragma once
#include <cstdint>

namespace pipe {
// Where element (i, j) is `data[i * row + j * column]`; one of the strides is 1.
struct Matrix {
  const float* data;
  int64_t row, column;
};

// What `gemm` computes with.
enum class Vectors { None, Avx2, Avx512 };

// Whether `gemm` runs on this processor, and is worth it there.
bool has_gemm();

// Computes with `vectors` from now on, for tests; whether the processor can.
bool force_gemm(Vectors vectors);

// c[m, n] = a[m, k] · b[k, n] + bias[n] (none: null), where there is a `gemm` and m, n and k are above 0; `c` is row-major without gaps.
// Each number is summed up in an order that depends on `k` and the kind of vectors alone, not on how many threads there are.
void gemm(int64_t m, int64_t n, int64_t k, Matrix a, Matrix b, const float* bias, float* c);
}  // namespace pipe
