//! Safe calls into `kernels.cpp`: the fused operations of training on a CPU.

use pipe_core::Result;
use pipe_model::AttentionSpec;
use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use crate::shim;

/// Up to this length of a sequence, attention by hand is faster than libtorch's matrix products.
const MAX_ATTENTION_LENGTH: i64 = 128;

/// From this many rows on, laying out a matrix for a product takes less than what a faster product saves.
const MIN_PRODUCT_ROWS: i64 = 32;

unsafe extern "C" {
    fn pipe_residual_norm(x: *mut C_tensor, residual: *mut C_tensor, weight: *mut C_tensor, bias: *mut C_tensor, p: f64, eps: f64) -> *mut C_tensor;
    fn pipe_embedding(table: *mut C_tensor, ids: *mut C_tensor, padding: i64, marks: *mut C_tensor) -> *mut C_tensor;
    fn pipe_dropout(x: *mut C_tensor, p: f64) -> *mut C_tensor;
    fn pipe_has_linear() -> bool;
    #[cfg(test)]
    fn pipe_force_linear(vectors: std::ffi::c_int) -> bool;
    fn pipe_linear(x: *mut C_tensor, weight: *mut C_tensor, bias: *mut C_tensor) -> *mut C_tensor;
    fn pipe_attention(
        q: *mut C_tensor,
        k: *mut C_tensor,
        v: *mut C_tensor,
        mask: *mut C_tensor,
        heads: i64,
        kv_heads: i64,
        scale: f64,
        p: f64,
    ) -> *mut C_tensor;
}

fn pointer(tensor: &Tensor) -> *mut C_tensor {
    tensor.as_ptr().cast_mut()
}

fn checked(made: *mut C_tensor, doing: &str) -> Result<Tensor> {
    if made.is_null() {
        return Err(shim::last_error(doing));
    }
    // SAFETY: a tensor of its own, made for the caller.
    Ok(unsafe { Tensor::from_ptr(made) })
}

fn is_on_cpu(x: &Tensor, kinds: &[Kind]) -> bool {
    #[cfg(test)]
    if LIBTORCH_ALONE.get() {
        return false;
    }
    x.device() == Device::Cpu && kinds.contains(&x.kind())
}

#[cfg(test)]
thread_local! {
    static LIBTORCH_ALONE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs without these operations, with libtorch's own dropout.
#[cfg(test)]
pub(crate) fn with_libtorch_alone<T>(run: impl FnOnce() -> T) -> T {
    LIBTORCH_ALONE.set(true);
    let result = run();
    LIBTORCH_ALONE.set(false);
    result
}

/// Rows of a table that is trained, whose gradient goes right to where the table's gradients are added up; absent where libtorch
/// has to do it. The row `padding` learns nothing. Rows that get a gradient are marked in `marks`, see [`crate::step`].
pub(crate) fn embedding(table: &Tensor, ids: &Tensor, padding: Option<i64>, marks: Option<&Tensor>) -> Result<Option<Tensor>> {
    let fits = is_on_cpu(table, &[Kind::Float]) && table.is_contiguous() && table.is_leaf() && table.requires_grad();
    if !fits || !is_on_cpu(ids, &[Kind::Int64]) {
        return Ok(None);
    }
    // SAFETY: live tensors of the types that were checked; ids out of range are refused; no exception gets out.
    let made = unsafe { pipe_embedding(pointer(table), pointer(ids), padding.unwrap_or(-1), marks.map_or(std::ptr::null_mut(), pointer)) };
    checked(made, "an embedding").map(Some)
}

/// `layer_norm(dropout(x, p) + residual)` over the last axis, in f32; absent where libtorch has to do it.
pub(crate) fn residual_norm(x: &Tensor, residual: &Tensor, weight: &Tensor, bias: &Tensor, p: f64, eps: f64) -> Result<Option<Tensor>> {
    let float = [Kind::Float];
    let fits = is_on_cpu(x, &[Kind::Float, Kind::BFloat16]) && [residual, weight, bias].iter().all(|other| is_on_cpu(other, &float));
    let size = residual.size();
    let width = [size.last().copied().unwrap_or_default()];
    if !fits || x.size() != size || weight.size() != width || bias.size() != width {
        return Ok(None);
    }
    // SAFETY: live tensors of the types and shapes that were checked; no exception gets out.
    checked(unsafe { pipe_residual_norm(pointer(x), pointer(residual), pointer(weight), pointer(bias), p, eps) }, "a layer norm").map(Some)
}

/// `dropout(x, p)`; absent where libtorch has to do it.
pub(crate) fn dropout(x: &Tensor, p: f64) -> Result<Option<Tensor>> {
    if !is_on_cpu(x, &[Kind::Float]) {
        return Ok(None);
    }
    // SAFETY: as above.
    checked(unsafe { pipe_dropout(pointer(x), p) }, "dropout").map(Some)
}

/// `x · weightᵀ + bias` over the last axis of `x` `[.., I]`, with `weight` `[O, I]` by rows or by columns; absent where libtorch does
/// it as fast or has to.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
    // SAFETY: it asks the processor.
    if !unsafe { pipe_has_linear() } {
        return Ok(None);
    }
    let float = [Kind::Float];
    let fits = [Some(x), Some(weight), bias].into_iter().flatten().all(|tensor| is_on_cpu(tensor, &float));
    let &[outputs, inputs] = weight.size().as_slice() else { return Ok(None) };
    let stored = matches!(weight.stride().as_slice(), &[across, 1] if across == inputs) || weight.stride() == [1, outputs];
    let shaped = x.size().last() == Some(&inputs) && bias.is_none_or(|bias| bias.size() == [outputs] && bias.is_contiguous());
    if !fits || !stored || !shaped || outputs == 0 || inputs == 0 || (x.numel() as i64) < MIN_PRODUCT_ROWS * inputs {
        return Ok(None);
    }
    // SAFETY: live tensors of the types and shapes that were checked, a null pointer for none; no exception gets out.
    let made = unsafe { pipe_linear(pointer(x), pointer(weight), bias.map_or(std::ptr::null_mut(), pointer)) };
    checked(made, "a linear layer").map(Some)
}

/// Attention of short sequences, with dropout `p` of its probabilities; absent where libtorch has to do it. Shapes as
/// [`pipe_model::Backend::attention`] has them; `mask` is `[B or 1, 1, M or 1, L]` in f32.
pub(crate) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor, spec: &AttentionSpec, p: f64) -> Result<Option<Tensor>> {
    let kind = [q.kind()];
    let fits = is_on_cpu(q, &[Kind::Float, Kind::BFloat16]) && is_on_cpu(k, &kind) && is_on_cpu(v, &kind) && is_on_cpu(mask, &[Kind::Float]);
    let (heads, kv_heads, dim) = (spec.heads, spec.kv_heads, spec.head_dim);
    let (&[rows, queries, width], &[_, length, _]) = (q.size().as_slice(), k.size().as_slice()) else { return Ok(None) };
    let shared = [rows, length, kv_heads * dim];
    let masked = matches!(mask.size().as_slice(), &[of_rows, 1, of_query, last]
        if (of_rows == 1 || of_rows == rows) && (of_query == 1 || of_query == queries) && last == length);
    let shaped = width == heads * dim && k.size() == shared && v.size() == shared && kv_heads > 0 && heads % kv_heads == 0 && masked;
    if !fits || !shaped || length.max(queries) > MAX_ATTENTION_LENGTH {
        return Ok(None);
    }
    // SAFETY: as above.
    let made = unsafe { pipe_attention(pointer(q), pointer(k), pointer(v), pointer(mask), spec.heads, spec.kv_heads, spec.scale, p) };
    checked(made, "attention").map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::alone;

    fn random(shape: &[i64], seed: i64) -> Tensor {
        tch::manual_seed(seed);
        Tensor::randn(shape, (Kind::Float, Device::Cpu)).set_requires_grad(true)
    }

    #[track_caller]
    fn close(ours: &Tensor, theirs: &Tensor, what: &str) {
        let gap = f64::try_from((ours - theirs).abs().max() / (theirs.abs().max() + 1e-9)).unwrap();
        assert!(gap < 2e-6, "{what}: {gap}");
    }

    /// Gradients of all `inputs` for one random gradient of the output.
    fn gradients(out: &Tensor, inputs: &[&Tensor]) -> Vec<Tensor> {
        let weight = random(&out.size(), 99).detach();
        let loss = (out.to_kind(Kind::Float) * weight).sum(Kind::Float);
        Tensor::run_backward(&[loss], inputs, false, false)
    }

    #[test]
    fn a_residual_norm_is_that_of_libtorch() {
        let _alone = alone();
        for (rows, size) in [(7, 32), (130, 384), (1, 5)] {
            let (x, residual) = (random(&[rows, 3, size], 1), random(&[rows, 3, size], 2));
            let (weight, bias) = (random(&[size], 3), random(&[size], 4));
            let ours = residual_norm(&x, &residual, &weight, &bias, 0.0, 1e-12).unwrap().unwrap();
            let theirs = (&x + &residual).layer_norm([size], Some(&weight), Some(&bias), 1e-12, true);
            close(&ours, &theirs, "output");
            let inputs = [&x, &residual, &weight, &bias];
            for (ours, theirs) in gradients(&ours, &inputs).iter().zip(gradients(&theirs, &inputs)) {
                close(ours, &theirs, "gradient");
            }
        }
    }

    #[test]
    fn rows_of_a_table_learn_what_libtorch_says() {
        let _alone = alone();
        let ids = Tensor::from_slice(&[3i64, 1, 3, 0, 5, 1]).view([2, 3]);
        let (ours, theirs) = (random(&[6, 130], 1), random(&[6, 130], 1));
        // Twice: gradients add up.
        for seed in [2, 3] {
            let weight = random(&[2, 3, 130], seed).detach();
            let a = embedding(&ours, &ids, Some(1), None).unwrap().unwrap();
            let b = Tensor::embedding(&theirs, &ids, 1, false, false);
            assert_eq!(a, b);
            (a * &weight).sum(Kind::Float).backward();
            (b * &weight).sum(Kind::Float).backward();
            close(&ours.grad(), &theirs.grad(), "gradient");
        }
        assert!(embedding(&ours, &(&ids + 1), None, None).is_err());
    }

    #[test]
    fn a_linear_layer_is_that_of_libtorch() {
        let _alone = alone();
        // `pipe::Vectors`: AVX2, then AVX-512, each where the processor has it.
        for vectors in [1, 2] {
            // SAFETY: it sets what is computed with to what the processor has.
            if !unsafe { pipe_force_linear(vectors) } {
                continue;
            }
            // Of one tile, of some, with edges in every direction, and of more than is laid out at once.
            for (rows, inputs, outputs) in
                [(32, 1, 1), (37, 45, 53), (496, 384, 384), (130, 1536, 100), (45, 5000, 40), (33, 130, 9000), (3000, 400, 35), (8300, 20, 20)]
            {
                for by_columns in [false, true] {
                    check_linear(rows, inputs, outputs, by_columns);
                }
            }
        }
    }

    /// GFLOP/s of a linear layer of MiniLM on one thread, as `docs/performance.md` has them:
    /// `cargo test -p pipe-train --lib kernels::tests::speed -- --ignored --nocapture`
    #[test]
    #[ignore = "measures GFLOP/s and asserts nothing; its doc comment has the command"]
    fn speed() {
        let _alone = alone();
        for (outputs, inputs) in [(384, 384), (1536, 384), (384, 1536)] {
            let (x, weight) = (random(&[496, inputs], 1).detach(), random(&[outputs, inputs], 2).detach());
            let rate = |run: &dyn Fn() -> Tensor| {
                let once = || {
                    let started = std::time::Instant::now();
                    let _ = run();
                    started.elapsed().as_secs_f64()
                };
                let mut times: Vec<f64> = (0..61).map(|_| once()).collect();
                times.sort_by(f64::total_cmp);
                (2 * 496 * outputs * inputs) as f64 / times[30] / 1e9
            };
            for (name, vectors) in [("AVX2", 1), ("AVX-512", 2)] {
                // SAFETY: as above.
                if unsafe { pipe_force_linear(vectors) } {
                    println!("{outputs} x {inputs}, {name}: {:.0}", rate(&|| linear(&x, &weight, None).unwrap().unwrap()));
                }
            }
            println!("{outputs} x {inputs}, libtorch: {:.0}", rate(&|| x.linear(&weight, None::<&Tensor>)));
        }
    }

    fn check_linear(rows: i64, inputs: i64, outputs: i64, by_columns: bool) {
        let x = random(&[rows, inputs], 1);
        let weight = if by_columns { random(&[inputs, outputs], 2) } else { random(&[outputs, inputs], 2) };
        let bias = random(&[outputs], 3);
        let of = |weight: &Tensor| if by_columns { weight.tr() } else { weight.shallow_clone() };
        let exact = |x: &Tensor| x.to_kind(Kind::Double);
        for bias in [Some(&bias), None] {
            let ours = || linear(&x, &of(&weight), bias).unwrap().unwrap();
            let inputs: Vec<&Tensor> = [&x, &weight].into_iter().chain(bias).collect();
            let (once, theirs) = (ours(), exact(&x).f_linear(&exact(&of(&weight)), bias.map(exact).as_ref()).unwrap());
            close(&once, &theirs, "output");
            let of_once = gradients(&once, &inputs);
            for (ours, theirs) in of_once.iter().zip(gradients(&theirs, &inputs)) {
                assert!(ours.is_contiguous());
                close(ours, &theirs, "gradient");
            }
            // However many threads there are, bit for bit.
            tch::set_num_threads(3);
            let again = ours();
            assert!(again == once && gradients(&again, &inputs) == of_once);
            tch::set_num_threads(1);
        }
    }

    #[test]
    fn what_dropout_keeps_is_scaled_and_goes_back_the_same_way() {
        let _alone = alone();
        let x = random(&[64, 1000], 5);
        tch::manual_seed(6);
        let out = dropout(&x, 0.1).unwrap().unwrap();
        let kept = out.ne(0.0);
        let share = f64::try_from(kept.to_kind(Kind::Float).mean(Kind::Float)).unwrap();
        assert!((share - 0.9).abs() < 0.006, "{share}");
        let mask = kept.to_kind(Kind::Float) / 0.9;
        close(&out, &(&x * &mask), "output");
        let gradient = &Tensor::run_backward(&[out.sum(Kind::Float)], &[&x], false, false)[0];
        close(gradient, &mask, "gradient");
        // Every row and every column loses its share, and neighbours know nothing of one another.
        for axis in [0, 1] {
            let shares = kept.to_kind(Kind::Float).mean_dim([axis].as_slice(), false, Kind::Float);
            let (least, most) = (f64::try_from(shares.min()).unwrap(), f64::try_from(shares.max()).unwrap());
            assert!(least > 0.7 && most <= 1.0, "{least} to {most}");
        }
        let lost = kept.logical_not().to_kind(Kind::Float);
        let pairs = f64::try_from((lost.narrow(1, 0, 999) * lost.narrow(1, 1, 999)).mean(Kind::Float)).unwrap();
        assert!((pairs - 0.01).abs() < 0.002, "{pairs}");
        let again = |seed| {
            tch::manual_seed(seed);
            dropout(&x, 0.1).unwrap().unwrap()
        };
        assert_eq!(again(6), out);
        assert_ne!(again(7), out);
    }

    #[test]
    fn a_residual_norm_drops_what_dropout_drops() {
        let _alone = alone();
        let (x, residual) = (random(&[40, 96], 1), random(&[40, 96], 2));
        let (weight, bias) = (random(&[96], 3), random(&[96], 4));
        tch::manual_seed(8);
        let ours = residual_norm(&x, &residual, &weight, &bias, 0.3, 1e-5).unwrap().unwrap();
        tch::manual_seed(8);
        let theirs = (dropout(&x, 0.3).unwrap().unwrap() + &residual).layer_norm([96], Some(&weight), Some(&bias), 1e-5, true);
        close(&ours, &theirs, "output");
        let inputs = [&x, &residual, &weight, &bias];
        for (ours, theirs) in gradients(&ours, &inputs).iter().zip(gradients(&theirs, &inputs)) {
            close(ours, &theirs, "gradient");
        }
    }

    /// In plain operations of libtorch, with the share of each probability that is kept `[B, heads, M, L]`.
    fn plain_attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor, spec: &AttentionSpec, kept: &Tensor) -> Tensor {
        let (rows, queries) = (q.size()[0], q.size()[1]);
        let heads = |x: &Tensor, heads: i64| x.view([rows, -1, heads, spec.head_dim]).transpose(1, 2);
        let shared = |x: &Tensor| heads(x, spec.kv_heads).repeat_interleave_self_int(spec.heads / spec.kv_heads, Some(1), None);
        let scores = heads(q, spec.heads).matmul(&shared(k).transpose(2, 3)) * spec.scale + mask;
        (scores.softmax(-1, Kind::Float) * kept).matmul(&shared(v)).transpose(1, 2).reshape([rows, queries, spec.heads * spec.head_dim])
    }

    #[test]
    fn attention_is_that_of_libtorch() {
        let _alone = alone();
        for (rows, queries, length, heads, kv_heads, dim, causal, p) in [
            (3, 9, 9, 4, 4, 8, false, 0.0),
            (2, 33, 33, 6, 2, 32, true, 0.0),
            (1, 1, 1, 2, 2, 7, false, 0.0),
            (4, 18, 18, 4, 2, 16, false, 0.4),
            (3, 1, 9, 4, 4, 8, false, 0.0),
            (3, 5, 12, 4, 2, 16, false, 0.4),
        ] {
            let spec = AttentionSpec { heads, kv_heads, head_dim: dim, scale: 0.3, dropout: p };
            let (q, k, v) =
                (random(&[rows, queries, heads * dim], 1), random(&[rows, length, kv_heads * dim], 2), random(&[rows, length, kv_heads * dim], 3));
            let options = (Kind::Float, Device::Cpu);
            let mask = if causal {
                let above = Tensor::ones([length, length], options).triu(1) * f64::from(f32::MIN);
                above.view([1, 1, length, length])
            } else {
                // The last token of every second row is padding.
                let mask = Tensor::zeros([rows, 1, 1, length], options);
                (0..rows).step_by(2).filter(|_| length > 1).for_each(|row| {
                    let _ = mask.get(row).narrow(-1, length - 1, 1).fill_(f64::from(f32::MIN));
                });
                mask
            };
            let attend = |q: &Tensor, k: &Tensor, v: &Tensor| {
                tch::manual_seed(11);
                attention(q, k, v, &mask, &spec, p).unwrap().unwrap()
            };
            // The same key drops the same elements of probabilities as of anything else.
            tch::manual_seed(11);
            let ones = Tensor::ones([rows, heads, queries, length], options);
            let kept = if p > 0.0 { dropout(&ones, p).unwrap().unwrap() } else { ones };
            let (ours, theirs) = (attend(&q, &k, &v), plain_attention(&q, &k, &v, &mask, &spec, &kept));
            close(&ours, &theirs, "output");
            let inputs = [&q, &k, &v];
            for (ours, theirs) in gradients(&ours, &inputs).iter().zip(gradients(&theirs, &inputs)) {
                close(ours, &theirs, "gradient");
            }
        }
    }

    #[test]
    fn what_is_masked_counts_nothing_and_what_does_not_fit_is_libtorch_s() {
        let _alone = alone();
        let spec = AttentionSpec { heads: 2, kv_heads: 1, head_dim: 4, scale: 0.5, dropout: 0.0 };
        let options = (Kind::Float, Device::Cpu);
        let (q, k, mask) = (random(&[1, 3, 8], 1), random(&[1, 3, 4], 2), Tensor::zeros([1, 1, 1, 3], options));
        let _ = mask.narrow(-1, 2, 1).fill_(f64::from(f32::MIN));
        let v = random(&[1, 3, 4], 3).detach();
        let attend = |masked: f64| {
            let _ = v.narrow(1, 2, 1).fill_(masked);
            attention(&q, &k, &v, &mask, &spec, 0.0).unwrap().unwrap()
        };
        // Of any size: 0 times it is 0.
        assert_eq!(attend(3e38), attend(0.0));
        let fits = |q: &Tensor, k: &Tensor, mask: &Tensor, spec: &AttentionSpec| attention(q, k, &v, mask, spec, 0.0).unwrap().is_some();
        assert!(fits(&q, &k, &mask, &spec));
        assert!(!fits(&q, &q, &mask, &spec));
        assert!(!fits(&q, &k, &mask.narrow(-1, 0, 2), &spec));
        assert!(!fits(&q, &k, &mask, &AttentionSpec { kv_heads: 2, ..spec }));
        let narrow = Tensor::ones([7], options);
        assert!(residual_norm(&q, &q, &narrow, &narrow, 0.0, 1e-5).unwrap().is_none());
        let nothing = dropout(&Tensor::ones([100], options), 1.0 - 1e-12).unwrap().unwrap();
        assert_eq!(f64::try_from(nothing.abs().max()).unwrap(), 0.0);
    }

    #[test]
    fn bfloat16_is_read_and_written_as_such() {
        let _alone = alone();
        let half = |x: &Tensor| x.detach().to_kind(Kind::BFloat16).set_requires_grad(true);
        let (x, residual) = (half(&random(&[20, 64], 1)), random(&[20, 64], 2));
        let (weight, bias) = (random(&[64], 3), random(&[64], 4));
        let out = residual_norm(&x, &residual, &weight, &bias, 0.0, 1e-5).unwrap().unwrap();
        close(&out, &(x.to_kind(Kind::Float) + &residual).layer_norm([64], Some(&weight), Some(&bias), 1e-5, true), "norm");
        assert_eq!(gradients(&out, &[&x])[0].kind(), Kind::BFloat16);
        let spec = AttentionSpec { heads: 4, kv_heads: 4, head_dim: 16, scale: 0.25, dropout: 0.0 };
        let (q, mask) = (x.view([2, 10, 64]), Tensor::zeros([1, 1, 1, 10], (Kind::Float, Device::Cpu)));
        let out = attention(&q, &q, &q, &mask, &spec, 0.0).unwrap().unwrap();
        assert_eq!((out.kind(), gradients(&out, &[&x])[0].kind()), (Kind::BFloat16, Kind::BFloat16));
    }
}
