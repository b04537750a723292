//! What training minimises: for each task, a sum over the items of a micro-batch and what those items count. The trainer
//! divides the sums by the count of the whole effective batch, so no cut into micro-batches changes a gradient.

use pipe_core::config::{ClassWeights, TrainConfig};
use pipe_core::{Batch, Error, Labels, Result, Task};
use tch::{Kind, Reduction, TchError, Tensor};

use crate::backend::torch_error;

/// The loss of one training.
pub(crate) struct Loss {
    /// What an item of each class weighs; absent where all weigh 1.
    weights: Option<Vec<f32>>,
    /// The share of the target that is spread over all classes.
    smoothing: f64,
    /// The exponent of focal loss; 0 is cross-entropy.
    focal_gamma: f64,
}

impl Loss {
    /// For a task over the classes `names`, each of which `items` of the training items have.
    pub(crate) fn new(config: &TrainConfig, task: Task, names: &[String], items: &[u64]) -> Result<Loss> {
        check(config, task)?;
        let weights = match &config.class_weights {
            None => None,
            Some(ClassWeights::Balanced) => {
                let total: u64 = items.iter().sum();
                let weight = |items: u64| if items == 0 { 0.0 } else { total as f64 / (names.len() as f64 * items as f64) };
                Some(items.iter().map(|&items| weight(items) as f32).collect())
            }
            Some(ClassWeights::PerLabel(by_label)) => {
                if let Some(unknown) = by_label.keys().find(|label| !names.contains(label)) {
                    return Err(Error::usage(format!("`class_weights` names `{unknown}`, which is no label of the data"))
                        .hint(format!("the labels are {}", names.join(", "))));
                }
                Some(names.iter().map(|name| by_label.get(name).copied().unwrap_or(1.0) as f32).collect())
            }
        };
        Ok(Loss { weights, smoothing: config.label_smoothing_factor, focal_gamma: config.focal_gamma })
    }

    /// What labels count: classes their number, or the sum of their weights, by which torch's `CrossEntropyLoss` divides too;
    /// flags and numbers each for itself; an answer once for both of its ends.
    pub(crate) fn items(&self, labels: &Labels) -> f64 {
        match (labels, &self.weights) {
            (Labels::None, _) => 0.0,
            (Labels::Classes(classes), None) => classes.len() as f64,
            (Labels::Classes(classes), Some(weights)) => classes.iter().map(|&class| f64::from(weights[class as usize])).sum(),
            (Labels::Flags(values) | Labels::Values(values), _) => values.len() as f64,
            (Labels::Spans(spans), _) => spans.len() as f64,
        }
    }

    /// The loss of scores in f32 against the labels of their batch, summed over the items: `[N, C]` against classes or flags,
    /// `[B, 1]` against numbers, `[B, L, 2]` against the ends of answers.
    pub(crate) fn sum(&self, logits: &Tensor, batch: &Batch) -> Result<Tensor> {
        let on = |tensor: Tensor| tensor.f_to_device(logits.device());
        let sum = || match &batch.labels {
            Labels::None => Ok(Err(Error::internal("rows to train on without labels"))),
            Labels::Classes(classes) => self.classes(logits, &on(Tensor::f_from_slice(classes)?)?).map(Ok),
            Labels::Flags(flags) => {
                let flags = on(Tensor::f_from_slice(flags)?)?.f_view_as(logits)?;
                logits.f_binary_cross_entropy_with_logits::<Tensor>(&flags, None, None, Reduction::Sum).map(Ok)
            }
            Labels::Values(values) => {
                let values = on(Tensor::f_from_slice(values)?)?.f_view_as(logits)?;
                logits.f_mse_loss(&values, Reduction::Sum).map(Ok)
            }
            Labels::Spans(spans) => {
                let spans = on(Tensor::f_from_slice(spans.as_flattened())?)?.f_view([-1, 2])?;
                let tokens = on(Tensor::f_from_slice(&batch.attention_mask)?)?.f_view([-1, batch.length as i64])?.f_ne(0)?;
                let end = |at| self.end(&logits.f_select(2, at)?, &tokens, &spans.f_select(1, at)?);
                // The mean of both ends, as transformers takes it.
                end(0)?.f_add(&end(1)?)?.f_mul_scalar(0.5).map(Ok)
            }
        };
        sum().map_err(torch_error)?
    }

    fn classes(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor, TchError> {
        let weights = self.weights.as_ref().map(|weights| Tensor::f_from_slice(weights)?.f_to_device(logits.device())).transpose()?;
        if self.focal_gamma > 0.0 {
            return self.focal(logits, labels, weights.as_ref());
        }
        logits.f_cross_entropy_loss(labels, weights.as_ref(), Reduction::Sum, -100, self.smoothing)
    }

    /// Cross-entropy of one end `[B]` of answers over the places `[B, L]` that hold a token. transformers counts padding among the
    /// places where an answer could end, so that there the same row has another loss beside a longer one.
    fn end(&self, logits: &Tensor, tokens: &Tensor, places: &Tensor) -> Result<Tensor, TchError> {
        let padding = tokens.f_logical_not()?;
        let log_p = logits.f_masked_fill(&padding, f64::from(f32::MIN))?.f_log_softmax(-1, Kind::Float)?;
        let loss = log_p.f_gather(1, &places.f_unsqueeze(1)?, false)?.f_sum(Kind::Float)?.f_neg()?;
        if self.smoothing == 0.0 {
            return Ok(loss);
        }
        let counts = tokens.f_sum_dim_intlist([1].as_slice(), false, Kind::Float)?;
        let spread = log_p.f_masked_fill(&padding, 0.0)?.f_sum_dim_intlist([1].as_slice(), false, Kind::Float)?.f_div(&counts)?;
        loss.f_mul_scalar(1.0 - self.smoothing)?.f_sub(&spread.f_sum(Kind::Float)?.f_mul_scalar(self.smoothing)?)
    }

    /// Focal loss (Lin et al. 2017): −(1 − p)^γ · log p of the label.
    fn focal(&self, logits: &Tensor, labels: &Tensor, weights: Option<&Tensor>) -> Result<Tensor, TchError> {
        let log_p = logits.f_log_softmax(-1, Kind::Float)?.f_gather(1, &labels.f_unsqueeze(1)?, false)?.f_squeeze_dim(1)?;
        // Not quite 0, where a power below 1 has no derivative.
        let others = log_p.f_exp()?.f_rsub_scalar(1.0)?.f_clamp_min(1e-8)?;
        let losses = others.f_pow_tensor_scalar(self.focal_gamma)?.f_mul(&log_p)?.f_neg()?;
        let losses = if let Some(weights) = weights { losses.f_mul(&weights.f_index_select(0, labels)?)? } else { losses };
        losses.f_sum(Kind::Float)
    }
}

/// Settings that have no meaning for a task are refused, not passed over.
fn check(config: &TrainConfig, task: Task) -> Result<()> {
    let classes = matches!(task, Task::SequenceClassification | Task::TokenClassification);
    for (setting, set, has) in [
        ("class_weights", config.class_weights.is_some(), classes),
        ("focal_gamma", config.focal_gamma > 0.0, classes || task == Task::CausalLm),
        ("label_smoothing_factor", config.label_smoothing_factor > 0.0, !matches!(task, Task::MultiLabelClassification | Task::Regression)),
    ] {
        if set && !has {
            return Err(Error::usage(format!("`{setting}` has no meaning for the task {}", task.name())).hint(format!("remove `{setting}`")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["a", "b", "c"].map(str::to_owned).to_vec()
    }

    fn loss(config: &TrainConfig) -> Loss {
        Loss::new(config, Task::SequenceClassification, &names(), &[8, 4, 0]).unwrap()
    }

    fn labelled(labels: Labels) -> Batch {
        Batch { labels, ..Batch::default() }
    }

    fn example() -> (Tensor, Batch) {
        (Tensor::from_slice(&[1.0f32, -2.0, 0.5, 0.3, 0.2, -0.4, -1.0, 2.0, 4.0]).view([3, 3]), labelled(Labels::Classes(vec![0, 1, 1])))
    }

    fn value(tensor: &Tensor) -> f64 {
        f64::try_from(tensor).unwrap()
    }

    #[test]
    fn balanced_weights_are_scikit_learn_s() {
        let config = TrainConfig { class_weights: Some(ClassWeights::Balanced), ..TrainConfig::default() };
        assert_eq!(loss(&config).weights.unwrap(), [0.5, 1.0, 0.0]);
        let config = TrainConfig { class_weights: Some(ClassWeights::PerLabel([("b".to_owned(), 3.0)].into())), ..TrainConfig::default() };
        let loss = loss(&config);
        assert_eq!(loss.items(&Labels::Classes(vec![0, 1, 2])), 5.0);
        let config = TrainConfig { class_weights: Some(ClassWeights::PerLabel([("d".to_owned(), 3.0)].into())), ..TrainConfig::default() };
        assert!(Loss::new(&config, Task::SequenceClassification, &names(), &[1, 1, 1]).is_err_and(|error| error.message.contains("`d`")));
    }

    #[test]
    fn focal_loss_of_gamma_zero_is_cross_entropy_and_more_gamma_less_loss() {
        let (logits, batch) = example();
        let of = |focal_gamma| value(&loss(&TrainConfig { focal_gamma, ..TrainConfig::default() }).sum(&logits, &batch).unwrap());
        assert!((of(1e-9) - of(0.0)).abs() < 1e-5);
        assert!(of(2.0) < of(1.0) && of(1.0) < of(0.0));
        // By hand for the first row.
        let p = 1f64.exp() / (1f64.exp() + (-2f64).exp() + 0.5f64.exp());
        let first = loss(&TrainConfig { focal_gamma: 2.0, ..TrainConfig::default() })
            .sum(&logits.narrow(0, 0, 1), &labelled(Labels::Classes(vec![0])))
            .unwrap();
        assert!((value(&first) + (1.0 - p).powi(2) * p.ln()).abs() < 1e-6);
    }

    #[test]
    fn smoothing_and_weights_are_torch_s() {
        let (logits, batch) = example();
        let config = TrainConfig {
            label_smoothing_factor: 0.1,
            class_weights: Some(ClassWeights::PerLabel([("b".to_owned(), 3.0), ("c".to_owned(), 0.5)].into())),
            ..TrainConfig::default()
        };
        let loss = loss(&config);
        let mean = value(&loss.sum(&logits, &batch).unwrap()) / loss.items(&batch.labels);
        let weights = Tensor::from_slice(&[1.0f32, 3.0, 0.5]);
        let expected = logits.cross_entropy_loss(&Tensor::from_slice(&[0i64, 1, 1]), Some(&weights), Reduction::Mean, -100, 0.1);
        assert!((mean - value(&expected)).abs() < 1e-6);
    }

    #[test]
    fn padding_is_no_place_for_an_answer() {
        for label_smoothing_factor in [0.0, 0.1] {
            let config = TrainConfig { label_smoothing_factor, ..TrainConfig::default() };
            let loss = Loss::new(&config, Task::QuestionAnswering, &[], &[]).unwrap();
            let logits = Tensor::from_slice(&[1.0f32, 0.5, -2.0, 0.3, 0.2, 1.5, 9.0, 9.0]).view([1, 4, 2]);
            let batch = |length: usize| Batch {
                length,
                rows: vec![0],
                attention_mask: (0..length).map(|at| i64::from(at < 3)).collect(),
                labels: Labels::Spans(vec![[0, 2]]),
                ..Batch::default()
            };
            let padded = value(&loss.sum(&logits, &batch(4)).unwrap());
            let alone = logits.narrow(1, 0, 3);
            assert!((padded - value(&loss.sum(&alone, &batch(3)).unwrap())).abs() < 1e-6);
            let end = |at, place: i64| {
                let place = Tensor::from_slice(&[place]);
                value(&alone.select(2, at).cross_entropy_loss::<Tensor>(&place, None, Reduction::Sum, -100, label_smoothing_factor))
            };
            assert!((padded - (end(0, 0) + end(1, 2)) / 2.0).abs() < 1e-6, "torch's, with smoothing {label_smoothing_factor}");
        }
    }
}
