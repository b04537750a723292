// What an optimizer step does with all gradients on a CPU, one pass over memory each: their norm, AdamW with clipping, and
// forgetting those of tables.
//
// Of a table of embeddings a batch reads some hundreds of rows in tens of thousands. Each such table has one byte for each row: whether
// the row has a gradient, and whether it ever had one. A row without gradients adds nothing to the norm and has nothing to forget; one that
// never had any has moments of zero, so that of AdamW's step its decay alone is left.
#include "step.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "clones.h"
#include "guard.h"

namespace {
using at::Tensor;
using pipe::guarded;

// Numbers that are worked on at once.
constexpr int64_t kPiece = 1 << 14;

// Some numbers of a parameter, one after the other; of a table whole rows.
struct Piece {
  size_t parameter;
  int64_t begin, end;
};

// A parameter as rows, of which `marks` says what they have; without marks it is one row, which has a gradient.
struct Rows {
  int64_t size;
  uint8_t* marks;

  Rows(const Tensor& parameter, Tensor* of) : size(parameter.numel()), marks(nullptr) {
    if (of == nullptr) return;
    size = parameter.numel() / parameter.size(0);
    marks = of->mutable_data_ptr<uint8_t>();
  }

  // Calls `f(begin, end, mark)` for stretches of numbers whose rows have the same mark.
  template <class F>
  void each(const Piece& piece, F f) const {
    if (marks == nullptr) return f(piece.begin, piece.end, uint8_t(pipe::kGradient | pipe::kMoments));
    for (int64_t begin = piece.begin; begin < piece.end;) {
      const uint8_t mark = marks[begin / size];
      int64_t end = begin + size;
      while (end < piece.end && marks[end / size] == mark) end += size;
      f(begin, end, mark);
      begin = end;
    }
  }
};

struct Plan {
  std::vector<Rows> rows;
  std::vector<Piece> pieces;

  Plan(Tensor** parameters, Tensor** marks, size_t n) {
    for (size_t at = 0; at < n; ++at) {
      rows.emplace_back(*parameters[at], marks[at]);
      const int64_t step = rows[at].marks == nullptr ? kPiece : std::max<int64_t>(1, kPiece / rows[at].size) * rows[at].size;
      for (int64_t begin = 0, all = parameters[at]->numel(); begin < all; begin += step) pieces.push_back({at, begin, std::min(all, begin + step)});
    }
  }

  // Calls `f(number of the piece, parameter, begin, end, mark)` for all numbers, on all cores. Pieces are dealt out in turn: those of a
  // table, in which there is little to do, stand together.
  template <class F>
  void run(F f) const {
    const int64_t all = static_cast<int64_t>(pieces.size()), lanes = at::get_num_threads();
    at::parallel_for(0, lanes, 1, [&](int64_t from, int64_t to) {
      for (int64_t lane = from; lane < to; ++lane) {
        for (int64_t at = lane; at < all; at += lanes) {
          const Piece& piece = pieces[at];
          rows[piece.parameter].each(piece, [&](int64_t begin, int64_t end, uint8_t mark) { f(at, piece.parameter, begin, end, mark); });
        }
      }
    });
  }
};

CLONES double sum_of_squares(const float* x, int64_t size) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; ++i) sum += x[i] * x[i];
  return sum;
}

CLONES void multiply(float* x, int64_t size, float by) {
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) x[i] *= by;
}

struct Step {
  // Of gradients, of weights, and of moments.
  float factor, keep, beta2;
  // 1 − β₁ and 1 − β₂, of which f32 would keep three digits less if it subtracted them.
  float one_beta1, one_beta2;
  // lr / (1 − β₁ᵗ), 1 / √(1 − β₂ᵗ)
  float rate, correction, eps;
};

CLONES void adamw(float* p, const float* g, float* m, float* v, int64_t size, Step s) {
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) {
    const float grad = g[i] * s.factor;
    m[i] += s.one_beta1 * (grad - m[i]);
    v[i] = s.beta2 * v[i] + s.one_beta2 * grad * grad;
    p[i] = p[i] * s.keep - s.rate * m[i] / (std::sqrt(v[i]) * s.correction + s.eps);
  }
}

}  // namespace

extern "C" {

// The 2-norm over all gradients together. `marks` holds a null pointer for each parameter that has none.
int pipe_grad_norm(Tensor** grads, Tensor** marks, size_t n, double* norm) {
  return guarded([&] {
    const Plan plan(grads, marks, n);
    std::vector<const float*> from;
    for (size_t at = 0; at < n; ++at) from.push_back(grads[at]->const_data_ptr<float>());
    // One sum for each piece, added up in order, however many threads there are.
    std::vector<double> sums(plan.pieces.size());
    plan.run([&](int64_t at, size_t parameter, int64_t begin, int64_t end, uint8_t mark) {
      if (mark & pipe::kGradient) sums[at] += sum_of_squares(from[parameter] + begin, end - begin);
    });
    double all = 0;
    for (const double sum : sums) all += sum;
    *norm = std::sqrt(all);
  });
}

// One AdamW step (Loshchilov and Hutter 2019) with `factor` times the gradients. `step` counts from 1.
int pipe_adamw(Tensor** params, Tensor** grads, Tensor** exp_avgs, Tensor** exp_avg_sqs, Tensor** marks, size_t n, double factor, double step,
               double lr, double beta1, double beta2, double weight_decay, double eps) {
  return guarded([&] {
    const Plan plan(params, marks, n);
    const Step settings{static_cast<float>(factor),
                        static_cast<float>(1 - lr * weight_decay),
                        static_cast<float>(beta2),
                        static_cast<float>(1 - beta1),
                        static_cast<float>(1 - beta2),
                        static_cast<float>(lr / (1 - std::pow(beta1, step))),
                        static_cast<float>(1 / std::sqrt(1 - std::pow(beta2, step))),
                        static_cast<float>(eps)};
    struct Data {
      float* p;
      const float* g;
      float *m, *v;
    };
    std::vector<Data> data;
    for (size_t at = 0; at < n; ++at)
      data.push_back({params[at]->mutable_data_ptr<float>(), grads[at]->const_data_ptr<float>(), exp_avgs[at]->mutable_data_ptr<float>(),
                      exp_avg_sqs[at]->mutable_data_ptr<float>()});
    plan.run([&](int64_t, size_t parameter, int64_t begin, int64_t end, uint8_t mark) {
      const Data& of = data[parameter];
      if (mark != 0) {
        adamw(of.p + begin, of.g + begin, of.m + begin, of.v + begin, end - begin, settings);
      } else if (weight_decay != 0) {
        multiply(of.p + begin, end - begin, settings.keep);
      }
    });
  });
}

// Zeroes the rows that have a gradient: after it none has.
int pipe_forget_rows(Tensor* grad, Tensor* marks) {
  return guarded([&] {
    const Plan plan(&grad, &marks, 1);
    float* to = grad->mutable_data_ptr<float>();
    plan.run([&](int64_t, size_t, int64_t begin, int64_t end, uint8_t mark) {
      if (mark & pipe::kGradient) std::fill(to + begin, to + end, 0.0f);
    });
    uint8_t* of = marks->mutable_data_ptr<uint8_t>();
    for (int64_t row = 0; row < marks->numel(); ++row) of[row] &= static_cast<uint8_t>(~pipe::kGradient);
  });
}
}
