//! What training minimises: for each task, a sum over the items of a micro-batch and what those items count. The trainer
//! divides the sums by the count of the whole effective batch, so no cut into micro-batches changes a gradient.

use pipe_core::config::{ClassWeights, TrainConfig};
use pipe_core::{Error, Result};
use tch::{Kind, Reduction, TchError, Tensor};

use crate::backend::torch_error;

/// The loss of one training.
pub(crate) struct Loss {
    /// What a row of each class weighs; absent where all weigh 1.
    weights: Option<Vec<f32>>,
    /// The share of the target that is spread over all classes.
    smoothing: f64,
    /// The exponent of focal loss; 0 is cross-entropy.
    focal_gamma: f64,
}

impl Loss {
    /// Over `names`, each of which `rows` of the training rows have.
    pub(crate) fn new(config: &TrainConfig, names: &[String], rows: &[u64]) -> Result<Loss> {
        let weights = match &config.class_weights {
            None => None,
            Some(ClassWeights::Balanced) => {
                let total: u64 = rows.iter().sum();
                let weight = |rows: u64| if rows == 0 { 0.0 } else { total as f64 / (names.len() as f64 * rows as f64) };
                Some(rows.iter().map(|&rows| weight(rows) as f32).collect())
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

    /// What rows with these labels count: their number, or the sum of their weights, by which torch's `CrossEntropyLoss`
    /// divides too.
    pub(crate) fn items(&self, labels: impl Iterator<Item = i64>) -> f64 {
        match &self.weights {
            None => labels.count() as f64,
            Some(weights) => labels.map(|label| f64::from(weights[label as usize])).sum(),
        }
    }

    /// The loss of logits `[B, C]` in f32 against labels `[B]`, summed over the rows.
    pub(crate) fn sum(&self, logits: &Tensor, labels: &[i64]) -> Result<Tensor> {
        let labels = Tensor::from_slice(labels).f_to_device(logits.device()).map_err(torch_error)?;
        let weights = self.weights.as_ref().map(|weights| Tensor::from_slice(weights).f_to_device(logits.device()));
        let weights = weights.transpose().map_err(torch_error)?;
        if self.focal_gamma > 0.0 {
            return self.focal(logits, &labels, weights.as_ref()).map_err(torch_error);
        }
        logits.f_cross_entropy_loss(&labels, weights.as_ref(), Reduction::Sum, -100, self.smoothing).map_err(torch_error)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["a", "b", "c"].map(str::to_owned).to_vec()
    }

    fn loss(config: &TrainConfig) -> Loss {
        Loss::new(config, &names(), &[8, 4, 0]).unwrap()
    }

    fn example() -> (Tensor, Vec<i64>) {
        (Tensor::from_slice(&[1.0f32, -2.0, 0.5, 0.3, 0.2, -0.4, -1.0, 2.0, 4.0]).view([3, 3]), vec![0, 1, 1])
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
        assert_eq!(loss.items([0, 1, 2].into_iter()), 5.0);
        let config = TrainConfig { class_weights: Some(ClassWeights::PerLabel([("d".to_owned(), 3.0)].into())), ..TrainConfig::default() };
        assert!(Loss::new(&config, &names(), &[1, 1, 1]).is_err_and(|error| error.message.contains("`d`")));
    }

    #[test]
    fn focal_loss_of_gamma_zero_is_cross_entropy_and_more_gamma_less_loss() {
        let (logits, labels) = example();
        let of = |focal_gamma| value(&loss(&TrainConfig { focal_gamma, ..TrainConfig::default() }).sum(&logits, &labels).unwrap());
        assert!((of(1e-9) - of(0.0)).abs() < 1e-5);
        assert!(of(2.0) < of(1.0) && of(1.0) < of(0.0));
        // By hand for the first row.
        let p = 1f64.exp() / (1f64.exp() + (-2f64).exp() + 0.5f64.exp());
        let first = loss(&TrainConfig { focal_gamma: 2.0, ..TrainConfig::default() }).sum(&logits.narrow(0, 0, 1), &labels[..1]).unwrap();
        assert!((value(&first) + (1.0 - p).powi(2) * p.ln()).abs() < 1e-6);
    }

    #[test]
    fn smoothing_and_weights_are_torch_s() {
        let (logits, labels) = example();
        let config = TrainConfig {
            label_smoothing_factor: 0.1,
            class_weights: Some(ClassWeights::PerLabel([("b".to_owned(), 3.0), ("c".to_owned(), 0.5)].into())),
            ..TrainConfig::default()
        };
        let loss = loss(&config);
        let mean = value(&loss.sum(&logits, &labels).unwrap()) / loss.items(labels.iter().copied());
        let weights = Tensor::from_slice(&[1.0f32, 3.0, 0.5]);
        let expected = logits.cross_entropy_loss(&Tensor::from_slice(&labels), Some(&weights), Reduction::Mean, -100, 0.1);
        assert!((mean - value(&expected)).abs() < 1e-6);
    }
}
