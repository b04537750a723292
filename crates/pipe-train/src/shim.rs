//! Safe calls into `shim.cpp`.

use std::ffi::{CStr, c_char, c_int};

use pipe_core::{Error, Result};
use tch::{Device, Tensor};
use torch_sys::C_tensor;

unsafe extern "C" {
    fn pipe_error() -> *const c_char;
    fn pipe_torch_grad_norm(grads: *const *mut C_tensor, n: usize, norm: *mut f64) -> c_int;
    fn pipe_torch_adamw(
        params: *const *mut C_tensor,
        grads: *const *mut C_tensor,
        exp_avgs: *const *mut C_tensor,
        exp_avg_sqs: *const *mut C_tensor,
        n: usize,
        step: f64,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
    ) -> c_int;
    fn pipe_scale(tensors: *const *mut C_tensor, n: usize, factor: f64) -> c_int;
    fn pipe_sgd(
        params: *const *mut C_tensor,
        grads: *const *mut C_tensor,
        bufs: *const *mut C_tensor,
        n: usize,
        first: c_int,
        lr: f64,
        momentum: f64,
        dampening: f64,
        nesterov: c_int,
        weight_decay: f64,
    ) -> c_int;
    fn pipe_lion(
        params: *const *mut C_tensor,
        grads: *const *mut C_tensor,
        exp_avgs: *const *mut C_tensor,
        n: usize,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
    ) -> c_int;
    fn pipe_random_state(cuda: c_int, state: *mut *mut C_tensor) -> c_int;
    fn pipe_set_random_state(cuda: c_int, state: *mut C_tensor) -> c_int;
    fn pipe_allow_tf32();
    fn pipe_forget_gradient(param: *mut C_tensor);
}

pub(crate) fn pointers(tensors: &[Tensor]) -> Vec<*mut C_tensor> {
    tensors.iter().map(|tensor| tensor.as_ptr().cast_mut()).collect()
}

/// Of the last call on this thread that failed.
pub(crate) fn last_error(doing: &str) -> Error {
    // SAFETY: a pointer to a thread-local string that lives until the next failure on this thread.
    let text = unsafe { CStr::from_ptr(pipe_error()) }.to_string_lossy().into_owned();
    Error::stage(format!("libtorch failed in {doing}: {}", text.lines().next().unwrap_or_default()))
}

pub(crate) fn checked(status: c_int, doing: &str) -> Result<()> {
    if status == 0 { Ok(()) } else { Err(last_error(doing)) }
}

/// The norm of all gradients together.
pub(crate) fn grad_norm(grads: &[Tensor]) -> Result<f64> {
    let pointers = pointers(grads);
    let mut norm = 0.0;
    // SAFETY: the pointers are of live tensors, as many as said; the shim keeps none and lets no exception out.
    checked(unsafe { pipe_torch_grad_norm(pointers.as_ptr(), pointers.len(), &raw mut norm) }, "the norm of the gradients")?;
    Ok(norm)
}

/// Takes a parameter's gradient away: the next one is taken over as it is instead of being added to zeros.
pub(crate) fn forget_gradient(param: &Tensor) {
    // SAFETY: a live tensor; nothing in there fails.
    unsafe { pipe_forget_gradient(param.as_ptr().cast_mut()) }
}

/// Settings of one AdamW step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamWStep {
    /// From 1.
    pub step: u64,
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub weight_decay: f64,
    pub eps: f64,
}

/// Updates `params` in place; all four lists run in parallel.
pub(crate) fn adamw(params: &[Tensor], grads: &[Tensor], exp_avgs: &[Tensor], exp_avg_sqs: &[Tensor], settings: AdamWStep) -> Result<()> {
    assert!([grads.len(), exp_avgs.len(), exp_avg_sqs.len()] == [params.len(); 3], "lists of one length");
    let (p, g, m, v) = (pointers(params), pointers(grads), pointers(exp_avgs), pointers(exp_avg_sqs));
    let AdamWStep { step, lr, beta1, beta2, weight_decay, eps } = settings;
    // SAFETY: as above; the lengths were checked.
    let status =
        unsafe { pipe_torch_adamw(p.as_ptr(), g.as_ptr(), m.as_ptr(), v.as_ptr(), p.len(), step as f64, lr, beta1, beta2, weight_decay, eps) };
    checked(status, "AdamW")
}

/// Multiplies all tensors in place.
pub(crate) fn scale(tensors: &[Tensor], factor: f64) -> Result<()> {
    if factor == 1.0 {
        return Ok(());
    }
    let pointers = pointers(tensors);
    // SAFETY: as above.
    let status = unsafe { pipe_scale(pointers.as_ptr(), pointers.len(), factor) };
    checked(status, "scaling gradients")
}

/// Settings of one SGD step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SgdStep {
    /// No step came before.
    pub first: bool,
    pub lr: f64,
    pub momentum: f64,
    pub dampening: f64,
    pub nesterov: bool,
    pub weight_decay: f64,
}

/// Updates `params` in place; the lists run in parallel, `bufs` is empty without momentum.
pub(crate) fn sgd(params: &[Tensor], grads: &[Tensor], bufs: &[Tensor], settings: SgdStep) -> Result<()> {
    let SgdStep { first, lr, momentum, dampening, nesterov, weight_decay } = settings;
    assert!(grads.len() == params.len() && (momentum == 0.0 || bufs.len() == params.len()), "lists of one length");
    let (p, g, b) = (pointers(params), pointers(grads), pointers(bufs));
    // SAFETY: as above; the lengths were checked.
    let status =
        unsafe { pipe_sgd(p.as_ptr(), g.as_ptr(), b.as_ptr(), p.len(), first.into(), lr, momentum, dampening, nesterov.into(), weight_decay) };
    checked(status, "SGD")
}

/// Settings of one Lion step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LionStep {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub weight_decay: f64,
}

/// Updates `params` in place; all three lists run in parallel.
pub(crate) fn lion(params: &[Tensor], grads: &[Tensor], exp_avgs: &[Tensor], settings: LionStep) -> Result<()> {
    assert!([grads.len(), exp_avgs.len()] == [params.len(); 2], "lists of one length");
    let (p, g, m) = (pointers(params), pointers(grads), pointers(exp_avgs));
    let LionStep { lr, beta1, beta2, weight_decay } = settings;
    // SAFETY: as above; the lengths were checked.
    let status = unsafe { pipe_lion(p.as_ptr(), g.as_ptr(), m.as_ptr(), p.len(), lr, beta1, beta2, weight_decay) };
    checked(status, "Lion")
}

/// The state of the random generator that `device` draws from.
pub(crate) fn random_state(device: Device) -> Result<Tensor> {
    let mut state = std::ptr::null_mut();
    // SAFETY: on success the shim gives a new tensor, which is ours from then on.
    checked(unsafe { pipe_random_state(device.is_cuda().into(), &raw mut state) }, "reading the random generator")?;
    // SAFETY: as said; `Tensor` frees it.
    Ok(unsafe { Tensor::from_ptr(state) })
}

/// Puts the generator back to what [`random_state`] gave.
pub(crate) fn set_random_state(device: Device, state: &Tensor) -> Result<()> {
    // SAFETY: the shim reads the tensor and keeps nothing of it.
    checked(unsafe { pipe_set_random_state(device.is_cuda().into(), state.as_ptr().cast_mut()) }, "setting the random generator")
}

/// Lets GPUs multiply f32 matrices in TF32.
pub(crate) fn allow_tf32() {
    // SAFETY: it sets two flags of libtorch.
    unsafe { pipe_allow_tf32() }
}
