//! Language models: how well the next token, or a masked one, is foretold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{counts::ratio, mean, named};

/// The summed cross-entropy over tokens; of constant size.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LanguageModelMetrics {
    loss_sum: f64,
    tokens: u64,
    hits: u64,
}

/// What [`LanguageModelMetrics`] found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LanguageModelReport {
    /// Tokens that counted.
    pub tokens: u64,
    /// `loss`, the mean cross-entropy in nats over all tokens, not over batches; `perplexity`, e to that power; `accuracy`,
    /// the share of tokens that scored highest.
    pub metrics: BTreeMap<String, f64>,
}

impl LanguageModelMetrics {
    pub fn new() -> Self {
        LanguageModelMetrics::default()
    }

    /// Adds what a model summed up: the cross-entropy over `tokens` tokens, `hits` of which scored highest.
    pub fn add(&mut self, loss_sum: f64, tokens: u64, hits: u64) {
        self.loss_sum += loss_sum;
        self.tokens += tokens;
        self.hits += hits;
    }

    /// Without tokens there is neither loss nor perplexity; a perplexity too large for a float is not there either.
    pub fn report(&self) -> LanguageModelReport {
        let loss = mean(self.loss_sum, self.tokens);
        let accuracy = ratio(self.hits, self.tokens);
        LanguageModelReport {
            tokens: self.tokens,
            metrics: named([("loss", loss), ("perplexity", loss.map(f64::exp)), ("accuracy", Some(accuracy))]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uniform_model_is_as_perplexed_as_its_vocabulary_is_large() {
        let mut metrics = LanguageModelMetrics::new();
        assert_eq!(metrics.report().metrics, named([("accuracy", Some(0.0))]));
        metrics.add(2.0 * 50f64.ln(), 2, 1);
        let report = metrics.report();
        assert_eq!(report.tokens, 2);
        assert!((report.metrics["perplexity"] - 50.0).abs() < 1e-9);
        assert!((report.metrics["loss"] - 50f64.ln()).abs() < 1e-12);
        assert_eq!(report.metrics["accuracy"], 0.5);
        metrics.add(1e9, 1, 0);
        assert!(!metrics.report().metrics.contains_key("perplexity"));
    }
}
