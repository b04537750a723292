// Fused operations of training on a CPU, differentiable: what libtorch does in many passes over memory, and partly on one
// core (the generator of its dropout), done here in one pass on all of them.
//
// Dropout keeps no mask: whether an element is kept follows from its index and a key of 64 bits, drawn from libtorch's
// generator once per call, and is worked out again in the backward pass. So one seed gives one result, as before.
#include "clones.h"
#include "gemm.h"
#include "guard.h"
#include "step.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <optional>
#include <vector>

namespace {
using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// Rows of a pass that are worth a thread of their own.
constexpr int64_t kGrain = 16;

// Which elements of a call are dropped.
struct Dropout {
  uint32_t key[2];
  // Elements whose number is below it are dropped: p · 2³².
  uint32_t threshold;
  // 1 / (1 − p)
  float scale;

  Dropout(double p, int64_t bits)
      : key{static_cast<uint32_t>(bits), static_cast<uint32_t>(static_cast<uint64_t>(bits) >> 32)},
        threshold(static_cast<uint32_t>(std::min<long long>(std::llround(p * 4294967296.0), UINT32_MAX))),
        scale(static_cast<float>(1.0 / (1.0 - p))) {}
};

// A key for one call; none is drawn where nothing is dropped, so that runs without dropout do not depend on it.
int64_t draw_key(double p) {
  if (p == 0) return 0;
  auto generator = at::detail::getDefaultCPUGenerator();
  std::lock_guard<std::mutex> lock(generator.mutex());
  return static_cast<int64_t>(at::check_generator<at::CPUGeneratorImpl>(generator)->random64());
}

// A bijection of 32 bits that leaves little of its input's order: `lowbias32` of Wellons' hash prospector (2018).
inline uint32_t mix(uint32_t x) {
  x = (x ^ x >> 16) * 0x7feb352du;
  x = (x ^ x >> 15) * 0x846ca68bu;
  return x ^ x >> 16;
}

inline uint32_t number(uint32_t index, uint32_t key0, uint32_t key1) { return mix(mix(index ^ key0) + key1); }

// e^x for x <= 0, within two units in the last place: the reduction and polynomial of Cephes' expf (Moshier).
// What is smaller than any normal number is 0, as masked probabilities are to be: numbers that are not slow down what follows.
inline float exponential(float x) {
  const bool vanishes = x < -87.0f;
  x = vanishes ? -87.0f : x;
  float n = __builtin_rintf(x * 1.44269504088896341f);
  float r = __builtin_fmaf(n, -0.693359375f, x);
  r = __builtin_fmaf(n, 2.12194440e-4f, r);
  float y = 1.9875691500e-4f;
  y = __builtin_fmaf(y, r, 1.3981999507e-3f);
  y = __builtin_fmaf(y, r, 8.3334519073e-3f);
  y = __builtin_fmaf(y, r, 4.1665795894e-2f);
  y = __builtin_fmaf(y, r, 1.6666665459e-1f);
  y = __builtin_fmaf(y, r, 5.0000001201e-1f);
  y = __builtin_fmaf(y, r * r, r) + 1.0f;
  int32_t bits;
  std::memcpy(&bits, &y, sizeof bits);
  bits += static_cast<int32_t>(n) << 23;
  std::memcpy(&y, &bits, sizeof y);
  return vanishes ? 0.0f : y;
}

// c[m, n] += a[m, k] · b[k, n] in row-major order; `a` is read with any strides, so that it may be a transpose. For matrices
// of some dozens of rows, which a library of matrix products spends more time on calling than on computing.
CLONES void multiply_add(int64_t m, int64_t n, int64_t k, const float* a, int64_t a_row, int64_t a_column, const float* b, int64_t b_row,
                         float* c, int64_t c_row) {
  for (int64_t i = 0; i < m; i += 2) {
    const bool two = i + 1 < m;
    float* __restrict c0 = c + i * c_row;
    float* __restrict c1 = two ? c0 + c_row : c0;
    const float* a0 = a + i * a_row;
    const float* a1 = two ? a0 + a_row : a0;
    int64_t u = 0;
    for (; u + 4 <= k; u += 4) {
      const float x0 = a0[u * a_column], x1 = a0[(u + 1) * a_column], x2 = a0[(u + 2) * a_column], x3 = a0[(u + 3) * a_column];
      const float* b0 = b + u * b_row;
      const float *b1 = b0 + b_row, *b2 = b1 + b_row, *b3 = b2 + b_row;
      if (two) {
        const float y0 = a1[u * a_column], y1 = a1[(u + 1) * a_column], y2 = a1[(u + 2) * a_column], y3 = a1[(u + 3) * a_column];
#pragma omp simd
        for (int64_t j = 0; j < n; ++j) {
          c0[j] += x0 * b0[j] + x1 * b1[j] + x2 * b2[j] + x3 * b3[j];
          c1[j] += y0 * b0[j] + y1 * b1[j] + y2 * b2[j] + y3 * b3[j];
        }
      } else {
#pragma omp simd
        for (int64_t j = 0; j < n; ++j) c0[j] += x0 * b0[j] + x1 * b1[j] + x2 * b2[j] + x3 * b3[j];
      }
    }
    for (; u < k; ++u) {
      const float x = a0[u * a_column], y = a1[u * a_column];
      const float* b0 = b + u * b_row;
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) c0[j] += x * b0[j];
      if (two) {
#pragma omp simd
        for (int64_t j = 0; j < n; ++j) c1[j] += y * b0[j];
      }
    }
  }
}

// One row of layer_norm(dropout(x) + residual): the output, the normalised row and its inverse deviation.
CLONES float norm_row(const float* x, const float* residual, const float* weight, const float* bias, int64_t size, float eps, Dropout dropout,
                      uint32_t first, float* normed, float* out) {
  float sum = 0;
  if (dropout.threshold == 0) {
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < size; ++c) {
      normed[c] = residual[c] + x[c];
      sum += normed[c];
    }
  } else {
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < size; ++c) {
      bool keep = number(first + static_cast<uint32_t>(c), dropout.key[0], dropout.key[1]) >= dropout.threshold;
      normed[c] = residual[c] + (keep ? x[c] * dropout.scale : 0.0f);
      sum += normed[c];
    }
  }
  const float mean = sum / static_cast<float>(size);
  float squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t c = 0; c < size; ++c) squares += (normed[c] - mean) * (normed[c] - mean);
  const float inverse = 1.0f / std::sqrt(squares / static_cast<float>(size) + eps);
#pragma omp simd
  for (int64_t c = 0; c < size; ++c) {
    normed[c] = (normed[c] - mean) * inverse;
    out[c] = normed[c] * weight[c] + bias[c];
  }
  return inverse;
}

// The gradients of one such row; those of weight and bias are added to what is there.
CLONES void norm_row_backward(const float* grad, const float* normed, const float* weight, float inverse, int64_t size, Dropout dropout,
                              uint32_t first, float* grad_x, float* grad_residual, float* grad_weight, float* grad_bias) {
  float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
  for (int64_t c = 0; c < size; ++c) {
    const float g = grad[c] * weight[c];
    sum += g;
    product += g * normed[c];
    grad_weight[c] += grad[c] * normed[c];
    grad_bias[c] += grad[c];
  }
  const float a = sum / static_cast<float>(size), b = product / static_cast<float>(size);
  if (dropout.threshold == 0) {
#pragma omp simd
    for (int64_t c = 0; c < size; ++c) {
      grad_residual[c] = inverse * (grad[c] * weight[c] - a - normed[c] * b);
      grad_x[c] = grad_residual[c];
    }
  } else {
#pragma omp simd
    for (int64_t c = 0; c < size; ++c) {
      bool keep = number(first + static_cast<uint32_t>(c), dropout.key[0], dropout.key[1]) >= dropout.threshold;
      grad_residual[c] = inverse * (grad[c] * weight[c] - a - normed[c] * b);
      grad_x[c] = keep ? grad_residual[c] * dropout.scale : 0.0f;
    }
  }
}

CLONES void drop(const float* x, int64_t size, Dropout dropout, uint32_t first, float* out) {
#pragma omp simd
  for (int64_t c = 0; c < size; ++c) {
    bool keep = number(first + static_cast<uint32_t>(c), dropout.key[0], dropout.key[1]) >= dropout.threshold;
    out[c] = keep ? x[c] * dropout.scale : 0.0f;
  }
}

CLONES void add_to(const float* from, int64_t size, float* to) {
#pragma omp simd
  for (int64_t c = 0; c < size; ++c) to[c] += from[c];
}

// scores → softmax(scores · scale + mask), in place.
CLONES void softmax_row(float* scores, const float* mask, int64_t size, float scale) {
  float highest = -INFINITY;
#pragma omp simd reduction(max : highest)
  for (int64_t j = 0; j < size; ++j) {
    scores[j] = scores[j] * scale + mask[j];
    highest = scores[j] > highest ? scores[j] : highest;
  }
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < size; ++j) {
    scores[j] = exponential(scores[j] - highest);
    sum += scores[j];
  }
  const float inverse = 1.0f / sum;
#pragma omp simd
  for (int64_t j = 0; j < size; ++j) scores[j] *= inverse;
}

// From the gradient of dropped probabilities to that of scaled scores: p · (g − Σ g · p), in place.
CLONES void softmax_row_backward(float* grad, const float* probabilities, int64_t size, Dropout dropout, uint32_t first, float scale) {
  if (dropout.threshold != 0) drop(grad, size, dropout, first, grad);
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < size; ++j) sum += grad[j] * probabilities[j];
#pragma omp simd
  for (int64_t j = 0; j < size; ++j) grad[j] = probabilities[j] * (grad[j] - sum) * scale;
}

// A row in f32, whatever its type.
template <class T>
void load(const T* from, int64_t size, float* to) {
  for (int64_t c = 0; c < size; ++c) to[c] = static_cast<float>(from[c]);
}

template <class T>
void store(const float* from, int64_t size, T* to) {
  for (int64_t c = 0; c < size; ++c) to[c] = static_cast<T>(from[c]);
}

template <class F>
auto by_type(const Tensor& x, F f) {
  TORCH_CHECK(x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16, "of another type than f32 and bf16");
  return x.scalar_type() == at::kFloat ? f(float()) : f(at::BFloat16());
}

// As many pieces of about one size as threads are worth having.
int64_t pieces(int64_t rows, int64_t grain) { return std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), rows / grain)); }

struct ResidualNorm : torch::autograd::Function<ResidualNorm> {
  // x, residual [.., H], weight, bias [H] → [.., H] in f32
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias, double p,
                        double eps) {
    const int64_t size = weight.numel(), rows = residual.numel() / size;
    const Tensor xs = x.contiguous(), rs = residual.contiguous(), w = weight.contiguous(), b = bias.contiguous();
    Tensor out = at::empty_like(rs), normed = at::empty_like(rs), inverse = at::empty({rows}, rs.options());
    const int64_t key = draw_key(p);
    const Dropout dropout(p, key);
    by_type(xs, [&](auto zero) {
      using T = decltype(zero);
      at::parallel_for(0, rows, kGrain, [&](int64_t begin, int64_t end) {
        std::vector<float> buffer(size);
        for (int64_t row = begin; row < end; ++row) {
          const T* from = xs.const_data_ptr<T>() + row * size;
          const float* values = reinterpret_cast<const float*>(from);
          if constexpr (!std::is_same_v<T, float>) {
            load(from, size, buffer.data());
            values = buffer.data();
          }
          inverse.mutable_data_ptr<float>()[row] =
              norm_row(values, rs.const_data_ptr<float>() + row * size, w.const_data_ptr<float>(), b.const_data_ptr<float>(), size,
                       static_cast<float>(eps), dropout, static_cast<uint32_t>(row * size), normed.mutable_data_ptr<float>() + row * size,
                       out.mutable_data_ptr<float>() + row * size);
        }
      });
    });
    context->save_for_backward({w, normed, inverse});
    context->saved_data["p"] = p;
    context->saved_data["key"] = key;
    context->saved_data["type"] = static_cast<int64_t>(x.scalar_type());
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &weight = saved[0], &normed = saved[1], &inverse = saved[2];
    const Dropout dropout(context->saved_data["p"].toDouble(), context->saved_data["key"].toInt());
    const Tensor grad = grads[0].contiguous();
    const int64_t size = weight.numel(), rows = inverse.numel();
    Tensor grad_residual = at::empty_like(normed);
    Tensor grad_x = at::empty(normed.sizes(), normed.options().dtype(static_cast<at::ScalarType>(context->saved_data["type"].toInt())));
    const int64_t parts = pieces(rows, kGrain);
    // One sum for each piece, added up in order: the result depends on how many threads there are, not on which is first.
    Tensor sums = at::zeros({parts, 2, size}, normed.options());
    by_type(grad_x, [&](auto zero) {
      using T = decltype(zero);
      at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
        std::vector<float> buffer(size);
        for (int64_t part = begin; part < end; ++part) {
          float* sum = sums.mutable_data_ptr<float>() + part * 2 * size;
          for (int64_t row = part * rows / parts; row < (part + 1) * rows / parts; ++row) {
            T* to = grad_x.mutable_data_ptr<T>() + row * size;
            float* values = std::is_same_v<T, float> ? reinterpret_cast<float*>(to) : buffer.data();
            norm_row_backward(grad.const_data_ptr<float>() + row * size, normed.const_data_ptr<float>() + row * size,
                              weight.const_data_ptr<float>(), inverse.const_data_ptr<float>()[row], size, dropout,
                              static_cast<uint32_t>(row * size), values, grad_residual.mutable_data_ptr<float>() + row * size, sum, sum + size);
            if constexpr (!std::is_same_v<T, float>) store(values, size, to);
          }
        }
      });
    });
    const Tensor total = sums.sum(0);
    return {grad_x, grad_residual, total.select(0, 0), total.select(0, 1), Variable(), Variable()};
  }
};

struct Drop : torch::autograd::Function<Drop> {
  static Tensor forward(AutogradContext* context, const Tensor& x, double p) {
    const int64_t key = draw_key(p);
    context->saved_data["p"] = p;
    context->saved_data["key"] = key;
    return apply_to(x, Dropout(p, key));
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    return {apply_to(grads[0], Dropout(context->saved_data["p"].toDouble(), context->saved_data["key"].toInt())), Variable()};
  }

  static Tensor apply_to(const Tensor& x, Dropout dropout) {
    const Tensor from = x.contiguous();
    Tensor to = at::empty_like(from);
    at::parallel_for(0, from.numel(), 4096, [&](int64_t begin, int64_t end) {
      drop(from.const_data_ptr<float>() + begin, end - begin, dropout, static_cast<uint32_t>(begin), to.mutable_data_ptr<float>() + begin);
    });
    return to;
  }
};

// What attention needs beside its tensors.
struct Heads {
  int64_t rows, queries, length, heads, kv_heads, dim;
  static Heads of(const Tensor& q, const Tensor& k, int64_t heads, int64_t kv_heads) {
    return {q.size(0), q.size(1), k.size(1), heads, kv_heads, q.size(2) / heads};
  }
  // Heads of queries that share one of keys and values.
  int64_t group() const { return heads / kv_heads; }
};

// A head of `x` [B, N, heads · dim] as a matrix [N, dim] in f32, and the other way round.
template <class T>
void load_head(const Tensor& x, int64_t row, int64_t head, int64_t dim, float* to) {
  const T* from = x.const_data_ptr<T>() + row * x.stride(0) + head * dim;
  for (int64_t i = 0; i < x.size(1); ++i) load(from + i * x.stride(1), dim, to + i * dim);
}

template <class T>
void store_head(const float* from, int64_t row, int64_t head, int64_t dim, Tensor& x) {
  T* to = x.mutable_data_ptr<T>() + row * x.stride(0) + head * dim;
  for (int64_t i = 0; i < x.size(1); ++i) store(from + i * dim, dim, to + i * x.stride(1));
}

void transpose(const float* from, int64_t rows, int64_t columns, float* to) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) to[j * rows + i] = from[i * columns + j];
}

struct Attention : torch::autograd::Function<Attention> {
  // q [B, M, heads · dim], k, v [B, L, kv_heads · dim], mask [B or 1, 1, M or 1, L] → [B, M, heads · dim], of q's type. For
  // short sequences: the probabilities [B, heads, M, L] are kept for the backward pass.
  static Tensor forward(AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, int64_t heads,
                        int64_t kv_heads, double scale, double p) {
    const Heads h = Heads::of(q, k, heads, kv_heads);
    const Tensor qs = q.contiguous(), ks = k.contiguous(), vs = v.contiguous(), ms = mask.contiguous();
    Tensor out = at::empty_like(qs);
    Tensor probabilities = at::zeros({h.rows, heads, h.queries, h.length}, qs.options().dtype(at::kFloat));
    const int64_t key = draw_key(p), area = h.queries * h.length;
    const Dropout dropout(p, key);
    const int64_t mask_row = ms.size(0) == 1 ? 0 : ms.stride(0), mask_query = ms.size(2) == 1 ? 0 : h.length;
    by_type(qs, [&](auto zero) {
      using T = decltype(zero);
      at::parallel_for(0, h.rows * heads, 1, [&](int64_t begin, int64_t end) {
        const int64_t matrix = h.length * h.dim, asked = h.queries * h.dim;
        std::vector<float> buffer(2 * asked + 2 * matrix + area);
        float *query = buffer.data(), *keys = query + asked, *turned = keys + matrix, *values = turned, *result = turned + matrix,
              *dropped = result + asked;
        for (int64_t at = begin; at < end; ++at) {
          const int64_t row = at / heads, head = at % heads;
          float* scores = probabilities.mutable_data_ptr<float>() + at * area;
          load_head<T>(qs, row, head, h.dim, query);
          load_head<T>(ks, row, head / h.group(), h.dim, keys);
          transpose(keys, h.length, h.dim, turned);
          multiply_add(h.queries, h.length, h.dim, query, h.dim, 1, turned, h.length, scores, h.length);
          for (int64_t i = 0; i < h.queries; ++i)
            softmax_row(scores + i * h.length, ms.const_data_ptr<float>() + row * mask_row + i * mask_query, h.length, static_cast<float>(scale));
          const float* weights = scores;
          if (p > 0) {
            drop(scores, area, dropout, static_cast<uint32_t>(at * area), dropped);
            weights = dropped;
          }
          load_head<T>(vs, row, head / h.group(), h.dim, values);
          std::fill(result, result + asked, 0.0f);
          multiply_add(h.queries, h.dim, h.length, weights, h.length, 1, values, h.dim, result, h.dim);
          store_head<T>(result, row, head, h.dim, out);
        }
      });
    });
    context->save_for_backward({qs, ks, vs, probabilities});
    context->saved_data["heads"] = heads;
    context->saved_data["kv_heads"] = kv_heads;
    context->saved_data["scale"] = scale;
    context->saved_data["p"] = p;
    context->saved_data["key"] = key;
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2], &probabilities = saved[3];
    const int64_t heads = context->saved_data["heads"].toInt();
    const Heads h = Heads::of(q, k, heads, context->saved_data["kv_heads"].toInt());
    const float scale = static_cast<float>(context->saved_data["scale"].toDouble());
    const double p = context->saved_data["p"].toDouble();
    const Dropout dropout(p, context->saved_data["key"].toInt());
    const Tensor grad = grads[0].contiguous();
    Tensor grad_q = at::empty_like(q), grad_k = at::empty_like(k), grad_v = at::empty_like(v);
    const int64_t matrix = h.length * h.dim, asked = h.queries * h.dim, area = h.queries * h.length;
    by_type(q, [&](auto zero) {
      using T = decltype(zero);
      // A head of keys and values is the affair of one thread, with all heads of queries that share it.
      at::parallel_for(0, h.rows * h.kv_heads, 1, [&](int64_t begin, int64_t end) {
        std::vector<float> buffer(3 * asked + 5 * matrix + 2 * area);
        float *query = buffer.data(), *keys = query + asked, *values = keys + matrix, *turned = values + matrix, *of_out = turned + matrix,
              *of_query = of_out + asked, *of_keys = of_query + asked, *of_values = of_keys + matrix, *of_scores = of_values + matrix,
              *dropped = of_scores + area;
        for (int64_t at = begin; at < end; ++at) {
          const int64_t row = at / h.kv_heads, kv_head = at % h.kv_heads;
          load_head<T>(k, row, kv_head, h.dim, keys);
          load_head<T>(v, row, kv_head, h.dim, values);
          transpose(values, h.length, h.dim, turned);
          std::fill(of_keys, of_keys + matrix, 0.0f);
          std::fill(of_values, of_values + matrix, 0.0f);
          for (int64_t head = kv_head * h.group(); head < (kv_head + 1) * h.group(); ++head) {
            const int64_t index = row * heads + head;
            const float* kept = probabilities.const_data_ptr<float>() + index * area;
            load_head<T>(q, row, head, h.dim, query);
            load_head<T>(grad, row, head, h.dim, of_out);
            const float* weights = kept;
            if (p > 0) {
              drop(kept, area, dropout, static_cast<uint32_t>(index * area), dropped);
              weights = dropped;
            }
            multiply_add(h.length, h.dim, h.queries, weights, 1, h.length, of_out, h.dim, of_values, h.dim);
            std::fill(of_scores, of_scores + area, 0.0f);
            multiply_add(h.queries, h.length, h.dim, of_out, h.dim, 1, turned, h.length, of_scores, h.length);
            for (int64_t i = 0; i < h.queries; ++i)
              softmax_row_backward(of_scores + i * h.length, kept + i * h.length, h.length, dropout,
                                   static_cast<uint32_t>(index * area + i * h.length), scale);
            std::fill(of_query, of_query + asked, 0.0f);
            multiply_add(h.queries, h.dim, h.length, of_scores, h.length, 1, keys, h.dim, of_query, h.dim);
            multiply_add(h.length, h.dim, h.queries, of_scores, 1, h.length, query, h.dim, of_keys, h.dim);
            store_head<T>(of_query, row, head, h.dim, grad_q);
          }
          store_head<T>(of_keys, row, kv_head, h.dim, grad_k);
          store_head<T>(of_values, row, kv_head, h.dim, grad_v);
        }
      });
    });
    return {grad_q, grad_k, grad_v, Variable(), Variable(), Variable(), Variable(), Variable()};
  }
};

// Rows of a table. Its gradient is added to what the table has, row by row: a table of 30,000 rows of which a batch reads some
// hundreds would else be filled with zeros, and added up, once per batch.
struct Embedding : torch::autograd::Function<Embedding> {
  // `anchor` has the gradient's flag in the place of the table. An edge to the table itself would make its other uses wait: the tied
  // head of a language model must add its gradient before this one whether layers are kept or recomputed, for sums to round alike.
  // `marks` [rows of the table] or absent: where rows that get a gradient are marked, for `step.cpp`.
  static Tensor forward(AutogradContext* context, const Tensor& anchor, const Tensor* table, const Tensor& ids, int64_t padding,
                        const Tensor* marks) {
    context->saved_data["table"] = *table;
    context->saved_data["marks"] = marks == nullptr ? std::optional<Tensor>() : *marks;
    context->saved_data["ids"] = ids;
    context->saved_data["padding"] = padding;
    return at::embedding(*table, ids);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    Tensor table = context->saved_data["table"].toTensor();
    const Tensor ids = context->saved_data["ids"].toTensor().contiguous(), grad = grads[0].contiguous();
    const int64_t padding = context->saved_data["padding"].toInt(), size = table.size(1), count = ids.numel();
    Tensor& sum = table.mutable_grad();
    if (!sum.defined()) sum = at::zeros(table.sizes(), table.options().requires_grad(false));
    const int64_t* id = ids.const_data_ptr<int64_t>();
    const float* from = grad.const_data_ptr<float>();
    float* to = sum.mutable_data_ptr<float>();
    if (const auto marks = context->saved_data["marks"].toOptional<Tensor>()) {
      uint8_t* mark = marks->mutable_data_ptr<uint8_t>();
      for (int64_t at = 0; at < count; ++at)
        if (id[at] != padding) mark[id[at]] = pipe::kGradient | pipe::kMoments;
    }
    // By columns, so that each number is the sum of its parts in one order.
    at::parallel_for(0, size, 64, [&](int64_t begin, int64_t end) {
      for (int64_t at = 0; at < count; ++at) {
        if (id[at] == padding) continue;
        for (int64_t c = begin; c < end; ++c) to[id[at] * size + c] += from[at * size + c];
      }
    });
    return {Variable(), Variable(), Variable(), Variable(), Variable()};
  }
};

// A matrix in rows or in columns, without gaps within them.
pipe::Matrix matrix(const Tensor& x) { return {x.const_data_ptr<float>(), x.stride(0), x.stride(1)}; }
pipe::Matrix transposed(const Tensor& x) { return {x.const_data_ptr<float>(), x.stride(1), x.stride(0)}; }

// [N, C] → [C]
Tensor sum_of_rows(const Tensor& x) {
  const int64_t rows = x.size(0), size = x.size(1);
  Tensor sum = at::zeros({size}, x.options());
  // By columns, so that each number is the sum of its parts in one order.
  at::parallel_for(0, size, 64, [&](int64_t begin, int64_t end) {
    float* to = sum.mutable_data_ptr<float>();
    for (int64_t row = 0; row < rows; ++row) add_to(x.const_data_ptr<float>() + row * size + begin, end - begin, to + begin);
  });
  return sum;
}

struct Linear : torch::autograd::Function<Linear> {
  // x [.., I], weight [O, I] by rows or by columns, bias [O] or absent → [.., O]
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
    const int64_t outputs = weight.size(0), inputs = weight.size(1);
    const Tensor rows = x.contiguous().view({-1, inputs});
    std::vector<int64_t> shape = x.sizes().vec();
    shape.back() = outputs;
    Tensor out = at::empty(shape, x.options());
    pipe::gemm(rows.size(0), outputs, inputs, matrix(rows), transposed(weight), bias ? bias->const_data_ptr<float>() : nullptr,
               out.mutable_data_ptr<float>());
    // What only a gradient of the weight needs is not kept for one that is frozen.
    context->save_for_backward({weight.requires_grad() ? rows : Tensor(), weight});
    context->saved_data["biased"] = bias.has_value();
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const Tensor &rows = saved[0], &weight = saved[1];
    const Tensor of_out = grads[0].contiguous();
    const int64_t inputs = weight.size(1), outputs = weight.size(0), count = of_out.numel() / outputs;
    const Tensor grad = of_out.view({count, outputs});
    Tensor of_x, of_weight, of_bias;
    if (context->needs_input_grad(0)) {
      std::vector<int64_t> shape = of_out.sizes().vec();
      shape.back() = inputs;
      of_x = at::empty(shape, grad.options());
      pipe::gemm(count, inputs, outputs, matrix(grad), matrix(weight), nullptr, of_x.mutable_data_ptr<float>());
    }
    if (context->needs_input_grad(1)) {
      // As the weight is stored, so that its gradient can be taken over as it is.
      if (weight.stride(1) == 1) {
        of_weight = at::empty({outputs, inputs}, grad.options());
        pipe::gemm(outputs, inputs, count, transposed(grad), matrix(rows), nullptr, of_weight.mutable_data_ptr<float>());
      } else {
        of_weight = at::empty({inputs, outputs}, grad.options());
        pipe::gemm(inputs, outputs, count, transposed(rows), matrix(grad), nullptr, of_weight.mutable_data_ptr<float>());
        of_weight = of_weight.t();
      }
    }
    if (context->saved_data["biased"].toBool() && context->needs_input_grad(2)) of_bias = sum_of_rows(grad);
    return {of_x, of_weight, of_bias};
  }
};

template <class F>
Tensor* made_by(F f) {
  Tensor* made = nullptr;
  pipe::guarded([&] { made = new Tensor(f()); });
  return made;
}
}  // namespace

extern "C" {

Tensor* pipe_residual_norm(Tensor* x, Tensor* residual, Tensor* weight, Tensor* bias, double p, double eps) {
  return made_by([&] { return ResidualNorm::apply(*x, *residual, *weight, *bias, p, eps); });
}

Tensor* pipe_dropout(Tensor* x, double p) {
  return made_by([&] { return Drop::apply(*x, p); });
}

Tensor* pipe_embedding(Tensor* table, Tensor* ids, int64_t padding, Tensor* marks) {
  return made_by([&] {
    Tensor anchor = at::empty({0});
    anchor.set_requires_grad(table->requires_grad());
    return Embedding::apply(anchor, table, *ids, padding, marks);
  });
}

Tensor* pipe_attention(Tensor* q, Tensor* k, Tensor* v, Tensor* mask, int64_t heads, int64_t kv_heads, double scale, double p) {
  return made_by([&] { return Attention::apply(*q, *k, *v, *mask, heads, kv_heads, scale, p); });
}

bool pipe_has_linear() { return pipe::has_gemm(); }

bool pipe_force_linear(int vectors) { return pipe::force_gemm(static_cast<pipe::Vectors>(vectors)); }

Tensor* pipe_linear(Tensor* x, Tensor* weight, Tensor* bias) {
  return made_by([&] { return Linear::apply(*x, *weight, bias == nullptr ? std::nullopt : std::optional<Tensor>(*bias)); });
}
}
