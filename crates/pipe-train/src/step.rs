//! Safe calls into `step.cpp`: what an optimizer step does with all gradients on a CPU.

use std::ffi::c_int;

use pipe_core::Result;
use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use crate::backend::Parameters;
use crate::shim::{AdamWStep, checked, pointers};

unsafe extern "C" {
    fn pipe_grad_norm(grads: *const *mut C_tensor, marks: *const *mut C_tensor, n: usize, norm: *mut f64) -> c_int;
    fn pipe_adamw(
        params: *const *mut C_tensor,
        grads: *const *mut C_tensor,
        exp_avgs: *const *mut C_tensor,
        exp_avg_sqs: *const *mut C_tensor,
        marks: *const *mut C_tensor,
        n: usize,
        factor: f64,
        step: f64,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
    ) -> c_int;
    fn pipe_forget_rows(grad: *mut C_tensor, marks: *mut C_tensor) -> c_int;
}

/// Bits of a mark, as `step.h` has them: the row has a gradient; it may have moments.
const GRADIENT: i64 = 1;
const MOMENTS: i64 = 2;

/// One byte for each row of the table of words, where nothing but look-ups reads it: whether the row has a gradient, and whether it ever
/// had one.
#[derive(Debug, Default)]
pub(crate) struct Marks(Option<(String, Tensor)>);

impl Marks {
    /// Of the parameter `table`, where it is on a CPU.
    pub(crate) fn new(parameters: &Parameters, table: Option<String>) -> Marks {
        let rows = |name: &String| parameters.get(name).filter(|table| is_plain(table)).map(|table| table.size()[0]);
        Marks(table.and_then(|name| rows(&name).map(|rows| (name, Tensor::zeros([rows], (Kind::Uint8, Device::Cpu))))))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.as_ref().filter(|(table, _)| table == name).map(|(_, marks)| marks)
    }
}

/// Every row of the table has, or may have, a gradient.
pub(crate) fn mark_all(marks: &Tensor) {
    let _ = marks.shallow_clone().fill_(GRADIENT | MOMENTS);
}

/// Marks the rows of which one of `moments` `[rows, H]` is not all zero, as a checkpoint has them.
pub(crate) fn mark_moments<'m>(marks: &Tensor, moments: impl IntoIterator<Item = &'m Tensor>) {
    for moment in moments {
        let rows = moment.ne(0.0).any_dim(1, false).to_kind(Kind::Uint8) * MOMENTS;
        let _ = marks.shallow_clone().bitwise_or_tensor_(&rows);
    }
}

fn is_plain(tensor: &Tensor) -> bool {
    tensor.device() == Device::Cpu && tensor.kind() == Kind::Float && tensor.is_contiguous()
}

/// Whether the calls below can be made with these tensors.
pub(crate) fn fits(lists: &[&[Tensor]]) -> bool {
    lists.iter().copied().flatten().all(is_plain)
}

/// What the calls below rely on: plain tensors, in lists of one length; those of one parameter of its size, its marks as many as its rows.
fn check(lists: &[&[Tensor]], marks: &[Option<Tensor>]) {
    let [first, others @ ..] = lists else { return };
    assert!(fits(lists), "plain tensors");
    for (at, parameter) in first.iter().enumerate() {
        assert!(others.iter().all(|list| list[at].numel() == parameter.numel()), "gradients and moments of a parameter's size");
        let marked = |marks: &Tensor| marks.kind() == Kind::Uint8 && marks.is_contiguous() && marks.size() == parameter.size()[..1];
        assert!(marks[at].as_ref().is_none_or(marked), "a mark for each row");
    }
    assert!(others.iter().all(|list| list.len() == first.len()) && marks.len() == first.len(), "lists of one length");
}

fn marks_of(marks: &[Option<Tensor>]) -> Vec<*mut C_tensor> {
    marks.iter().map(|marks| marks.as_ref().map_or(std::ptr::null_mut(), |marks| marks.as_ptr().cast_mut())).collect()
}

/// The norm of all gradients together; they [fit](fits).
pub(crate) fn grad_norm(grads: &[Tensor], marks: &[Option<Tensor>]) -> Result<f64> {
    check(&[grads], marks);
    let (g, m) = (pointers(grads), marks_of(marks));
    let mut norm = 0.0;
    // SAFETY: pointers to live tensors, as many as said, of the kinds and sizes that were checked; none is kept, no exception gets out.
    checked(unsafe { pipe_grad_norm(g.as_ptr(), m.as_ptr(), g.len(), &raw mut norm) }, "the norm of the gradients")?;
    Ok(norm)
}

/// Updates `params` in place with `factor` times their gradients; all five lists run in parallel, all tensors [fit](fits).
pub(crate) fn adamw(
    [params, grads, exp_avgs, exp_avg_sqs]: [&[Tensor]; 4],
    marks: &[Option<Tensor>],
    factor: f64,
    settings: AdamWStep,
) -> Result<()> {
    check(&[params, grads, exp_avgs, exp_avg_sqs], marks);
    let (p, g, m, v) = (pointers(params), pointers(grads), pointers(exp_avgs), pointers(exp_avg_sqs));
    let rows = marks_of(marks);
    let AdamWStep { step, lr, beta1, beta2, weight_decay, eps } = settings;
    // SAFETY: as above.
    let status = unsafe {
        pipe_adamw(p.as_ptr(), g.as_ptr(), m.as_ptr(), v.as_ptr(), rows.as_ptr(), p.len(), factor, step as f64, lr, beta1, beta2, weight_decay, eps)
    };
    checked(status, "AdamW")
}

/// Zeroes the rows of a table's gradient that are marked to have one: after it none has.
pub(crate) fn forget_rows(grad: &Tensor, marks: &Tensor) -> Result<()> {
    check(&[std::slice::from_ref(grad)], &[Some(marks.shallow_clone())]);
    // SAFETY: as above.
    checked(unsafe { pipe_forget_rows(grad.as_ptr().cast_mut(), marks.as_ptr().cast_mut()) }, "forgetting gradients")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shim;
    use crate::testing::alone;

    fn random(shape: &[i64], seed: i64) -> Tensor {
        tch::manual_seed(seed);
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    }

    fn gap(ours: &Tensor, theirs: &Tensor) -> f64 {
        f64::try_from((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-9)).unwrap()
    }

    /// A table of 70 rows, of which 3 learn in the first step, 2 of those and another in the second, none in the third; and a matrix.
    #[test]
    fn steps_over_marked_rows_are_those_over_all() {
        let _alone = alone();
        let learns: [&[i64]; 3] = [&[0, 5, 69], &[5, 7, 69], &[]];
        let start = [random(&[70, 300], 1), random(&[40, 1000], 2)];
        let copies = || start.each_ref().map(Tensor::copy);
        let zeros = || start.each_ref().map(Tensor::zeros_like);
        let ((ours, our_m, our_v), (theirs, their_m, their_v)) = ((copies(), zeros(), zeros()), (copies(), zeros(), zeros()));
        let marks = [Some(Tensor::zeros([70], (Kind::Uint8, Device::Cpu))), None];
        let grads = zeros();
        for (step, rows) in learns.iter().enumerate() {
            for &row in *rows {
                grads[0].get(row).copy_(&random(&[300], 10 * row + step as i64));
                let _ = marks[0].as_ref().unwrap().get(row).fill_(GRADIENT | MOMENTS);
            }
            grads[1].shallow_clone().copy_(&random(&[40, 1000], 100 + step as i64));
            let (ours_norm, theirs_norm) = (grad_norm(&grads, &marks).unwrap(), shim::grad_norm(&grads).unwrap());
            assert!((ours_norm - theirs_norm).abs() < 1e-6 * theirs_norm, "{ours_norm} {theirs_norm}");
            let settings = AdamWStep { step: step as u64 + 1, lr: 0.01, beta1: 0.9, beta2: 0.999, weight_decay: 0.1, eps: 1e-8 };
            adamw([&ours, &grads, &our_m, &our_v], &marks, 0.25, settings).unwrap();
            let scaled = grads.each_ref().map(|grad| grad * 0.25);
            shim::adamw(&theirs, &scaled, &their_m, &their_v, settings).unwrap();
            for (ours, theirs) in [(&ours, &theirs), (&our_m, &their_m), (&our_v, &their_v)] {
                ours.iter().zip(theirs).for_each(|(ours, theirs)| assert!(gap(ours, theirs) < 1e-6, "step {step}: {}", gap(ours, theirs)));
            }
            forget_rows(&grads[0], marks[0].as_ref().unwrap()).unwrap();
            assert_eq!(f64::try_from(grads[0].abs().max()).unwrap(), 0.0);
        }
        // What a checkpoint would bring back.
        let marked = Tensor::zeros([70], (Kind::Uint8, Device::Cpu));
        mark_moments(&marked, [&our_m[0], &our_v[0]]);
        assert_eq!(marked, *marks[0].as_ref().unwrap());
        assert_eq!(i64::try_from(marked.sum(Kind::Int64)).unwrap(), 4 * MOMENTS);
    }
}
