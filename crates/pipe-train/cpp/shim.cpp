// What tch does not offer: optimizer steps and norms over many tensors in one call, and the state of the random generator.
// Only ATen's headers: the whole of torch/torch.h takes minutes to compile.
#include "guard.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <c10/core/GradMode.h>

#include <mutex>
#include <vector>

namespace {
using pipe::guarded;

std::vector<at::Tensor> list(at::Tensor** tensors, size_t n) {
  std::vector<at::Tensor> out;
  out.reserve(n);
  for (size_t i = 0; i < n; ++i) out.push_back(*tensors[i]);
  return out;
}

}  // namespace

extern "C" {

const char* pipe_error() { return pipe::last_error.c_str(); }

// The 2-norm over all gradients together.
int pipe_torch_grad_norm(at::Tensor** grads, size_t n, double* norm) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    *norm = at::linalg_vector_norm(at::stack(at::_foreach_norm(list(grads, n), 2)), 2).item<double>();
  });
}

// libtorch's own, wherever parameters are. `step` counts from 1.
int pipe_torch_adamw(at::Tensor** params, at::Tensor** grads, at::Tensor** exp_avgs, at::Tensor** exp_avg_sqs, size_t n,
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

// Multiplies all tensors in place.
int pipe_scale(at::Tensor** tensors, size_t n, double factor) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    auto t = list(tensors, n);
    if (!t.empty()) at::_foreach_mul_(t, factor);
  });
}

// One step of SGD with momentum, as torch.optim.SGD defines it. Without momentum `bufs` may be empty. The first step takes
// the gradient as the buffer, undampened.
int pipe_sgd(at::Tensor** params, at::Tensor** grads, at::Tensor** bufs, size_t n, int first, double lr, double momentum,
             double dampening, int nesterov, double weight_decay) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    auto p = list(params, n), g = list(grads, n);
    if (p.empty()) return;
    if (weight_decay != 0) g = at::_foreach_add(g, p, weight_decay);
    if (momentum != 0) {
      auto b = list(bufs, n);
      if (first) {
        at::_foreach_copy_(b, g);
      } else {
        at::_foreach_mul_(b, momentum);
        at::_foreach_add_(b, g, 1 - dampening);
      }
      g = nesterov ? at::_foreach_add(g, b, momentum) : b;
    }
    at::_foreach_add_(p, g, -lr);
  });
}

// One step of Lion (Chen et al. 2023, algorithm 2), with decoupled weight decay.
int pipe_lion(at::Tensor** params, at::Tensor** grads, at::Tensor** exp_avgs, size_t n, double lr, double beta1,
              double beta2, double weight_decay) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    auto p = list(params, n), g = list(grads, n), m = list(exp_avgs, n);
    if (p.empty()) return;
    if (weight_decay != 0) at::_foreach_mul_(p, 1 - lr * weight_decay);
    auto update = at::_foreach_mul(m, beta1);
    at::_foreach_add_(update, g, 1 - beta1);
    at::_foreach_sign_(update);
    at::_foreach_add_(p, update, -lr);
    at::_foreach_mul_(m, beta2);
    at::_foreach_add_(m, g, 1 - beta2);
  });
}

// The state of the random generator of a device (`cuda`: the first GPU), as a new tensor of bytes.
int pipe_random_state(int cuda, at::Tensor** state) {
  return guarded([&] {
    auto generator = at::globalContext().defaultGenerator(cuda ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU));
    std::lock_guard<std::mutex> lock(generator.mutex());
    *state = new at::Tensor(generator.get_state());
  });
}

int pipe_set_random_state(int cuda, at::Tensor* state) {
  return guarded([&] {
    auto generator = at::globalContext().defaultGenerator(cuda ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU));
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(*state);
  });
}

void pipe_forget_gradient(at::Tensor* param) { param->mutable_grad().reset(); }

// Lets GPUs multiply f32 matrices in TF32.
void pipe_allow_tf32() {
  at::globalContext().setAllowTF32CuBLAS(true);
  at::globalContext().setAllowTF32CuDNN(true);
}
}
