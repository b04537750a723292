// What tch does not offer: the fused AdamW step and the norm of many tensors in one call.
// Only ATen's headers: the whole of torch/torch.h takes minutes to compile.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <exception>
#include <string>
#include <vector>

namespace {
thread_local std::string last_error;

std::vector<at::Tensor> list(at::Tensor** tensors, size_t n) {
  std::vector<at::Tensor> out;
  out.reserve(n);
  for (size_t i = 0; i < n; ++i) out.push_back(*tensors[i]);
  return out;
}

template <class F>
int guarded(F f) {
  try {
    f();
    return 0;
  } catch (const std::exception& e) {
    last_error = e.what();
    return 1;
  }
}
}  // namespace

extern "C" {

const char* pipe_shim_error() { return last_error.c_str(); }

// The 2-norm over all gradients together; where it is above max_norm (> 0), scales all of them down to it.
int pipe_clip_grad_norm(at::Tensor** grads, size_t n, double max_norm, double* norm) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    auto gradients = list(grads, n);
    auto total = at::linalg_vector_norm(at::stack(at::_foreach_norm(gradients, 2)), 2);
    *norm = total.item<double>();
    // The same formula as torch.nn.utils.clip_grad_norm_.
    double scale = max_norm / (*norm + 1e-6);
    if (max_norm > 0 && scale < 1.0) at::_foreach_mul_(gradients, scale);
  });
}

// One AdamW step over a group of parameters (Loshchilov and Hutter 2019). `step` counts from 1.
int pipe_fused_adamw(at::Tensor** params, at::Tensor** grads, at::Tensor** exp_avgs, at::Tensor** exp_avg_sqs, size_t n,
                     double step, double lr, double beta1, double beta2, double weight_decay, double eps) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    auto p = list(params, n);
    if (p.empty()) return;
    std::vector<at::Tensor> steps(n, at::full({}, step, p[0].options().dtype(at::kFloat)));
    auto g = list(grads, n), m = list(exp_avgs, n), v = list(exp_avg_sqs, n);
    at::_fused_adamw_(p, g, m, v, {}, steps, lr, beta1, beta2, weight_decay, eps, /*amsgrad=*/false, /*maximize=*/false);
  });
}
}
