//! Which parameters decay, which are frozen, and how fast each learns.

use std::collections::{BTreeMap, BTreeSet};

use pipe_core::config::{FreezeConfig, TrainConfig};
use pipe_core::{Error, Result};
use tch::Tensor;

use super::{Group, Rule};
use crate::backend::Parameters;
use crate::step::Marks;

/// Where a parameter stands in a model, by its name: all families number their layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Embeddings,
    Layer(usize),
    /// Pooler, last norm, classifier.
    Top,
}

impl Place {
    fn of(name: &str) -> Place {
        let mut parts = name.split('.').peekable();
        while let Some(part) = parts.next() {
            if matches!(part, "embeddings" | "embed_tokens" | "wte" | "wpe") {
                return Place::Embeddings;
            }
            if matches!(part, "layer" | "layers" | "h")
                && let Some(layer) = parts.peek().and_then(|number| number.parse().ok())
            {
                return Place::Layer(layer);
            }
        }
        Place::Top
    }
}

/// Whether a parameter is a table of embeddings.
pub(crate) fn is_embedding(name: &str, param: &Tensor) -> bool {
    Place::of(name) == Place::Embeddings && param.dim() == 2
}

/// How many layers there are.
fn layers(parameters: &Parameters) -> usize {
    parameters.keys().filter_map(|name| if let Place::Layer(at) = Place::of(name) { Some(at + 1) } else { None }).max().unwrap_or(0)
}

/// The learning rate of each parameter over that of the schedule.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rates {
    /// Parameters of the classifier, and what their rate is multiplied by.
    head: Option<(BTreeSet<String>, f64)>,
    /// The factor per layer, and the number of layers.
    layerwise: Option<(f64, usize)>,
}

impl Rates {
    /// `head`: the names of the classifier's parameters.
    pub(crate) fn new(config: &TrainConfig, parameters: &Parameters, head: BTreeSet<String>) -> Rates {
        Rates {
            head: config.head_learning_rate.map(|rate| (head, rate / config.learning_rate)),
            layerwise: config.layerwise_lr_decay.map(|decay| (decay, layers(parameters))),
        }
    }

    /// The top has the schedule's rate, each layer `decay` times that of the one above it, embeddings are below the first
    /// layer (Clark et al. 2020, ELECTRA).
    fn of(&self, name: &str) -> f64 {
        if let Some((head, rate)) = &self.head
            && head.contains(name)
        {
            return *rate;
        }
        let Some((decay, layers)) = self.layerwise else { return 1.0 };
        let below_top = match Place::of(name) {
            Place::Embeddings => layers + 1,
            Place::Layer(at) => layers - at,
            Place::Top => 0,
        };
        decay.powi(below_top as i32)
    }
}

/// The names that transformers' Trainer excludes from weight decay, and those that its models give to layer norms.
fn decays(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_norm = |part: &str| part == "norm" || part.ends_with("_norm") || part.starts_with("ln_");
    !(name.contains("bias") || name.contains("layernorm") || name.contains("rmsnorm") || name.split('.').any(is_norm))
}

/// The parameters that require gradients, by rate and decay.
pub(super) fn split(parameters: &Parameters, marks: &Marks, config: &TrainConfig, rates: &Rates, rule: &dyn Rule) -> Vec<Group> {
    let mut groups: BTreeMap<(bool, u64), Group> = BTreeMap::new();
    for (name, param) in parameters.iter().filter(|(_, param)| param.requires_grad()) {
        let (decayed, rate) = (decays(name), rates.of(name));
        let weight_decay = if decayed { config.weight_decay } else { 0.0 };
        let group = groups.entry((decayed, rate.to_bits())).or_insert_with(|| Group {
            names: Vec::new(),
            params: Vec::new(),
            states: Vec::new(),
            marks: Vec::new(),
            weight_decay,
            rate,
        });
        group.names.push(name.clone());
        group.params.push(param.shallow_clone());
        group.states.push(rule.fresh(name, param));
        group.marks.push(marks.get(name).map(Tensor::shallow_clone));
    }
    groups.into_values().collect()
}

/// Switches gradients off for what `freeze` names; the number of frozen parameters.
pub(crate) fn freeze(parameters: &Parameters, freeze: &FreezeConfig) -> Result<usize> {
    let layers = layers(parameters);
    if freeze.layers > layers {
        return Err(Error::usage(format!("`freeze.layers` is {}, the model has {layers} layers", freeze.layers)));
    }
    if let Some(pattern) = freeze.patterns.iter().find(|pattern| !parameters.keys().any(|name| matches(pattern, name))) {
        let example = parameters.keys().next().map_or("", String::as_str);
        return Err(
            Error::usage(format!("`{pattern}` of `freeze.patterns` is no parameter of this model")).hint(format!("they are named like `{example}`"))
        );
    }
    let mut frozen = 0;
    for (name, param) in parameters {
        let by_place = match Place::of(name) {
            Place::Embeddings => freeze.embeddings,
            Place::Layer(at) => at < freeze.layers,
            Place::Top => false,
        };
        if by_place || freeze.patterns.iter().any(|pattern| matches(pattern, name)) {
            let _ = param.set_requires_grad(false);
            frozen += 1;
        }
    }
    if frozen == parameters.len() {
        return Err(Error::usage("`freeze` names every weight of the model, so that nothing is trained"));
    }
    Ok(frozen)
}

/// Whether `name` is what `pattern` says, in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases_and_norms_of_all_families_do_not_decay() {
        for (name, decayed) in [
            ("bert.encoder.layer.0.attention.self.query.weight", true),
            ("bert.encoder.layer.0.attention.self.query.bias", false),
            ("bert.encoder.layer.0.output.LayerNorm.weight", false),
            ("transformer.h.0.ln_1.weight", false),
            ("transformer.h.0.attn.c_attn.weight", true),
            ("transformer.layer.0.sa_layer_norm.weight", false),
            ("model.layers.0.input_layernorm.weight", false),
            ("model.norm.weight", false),
            ("model.embed_tokens.weight", true),
            ("transformer.wpe.weight", true),
            ("model.layers.3.normal.weight", true),
        ] {
            assert_eq!(decays(name), decayed, "{name}");
        }
    }

    #[test]
    fn rates_fall_from_the_top_to_the_embeddings() {
        let names = [
            "bert.embeddings.word_embeddings.weight",
            "bert.encoder.layer.0.a.weight",
            "bert.encoder.layer.1.a.weight",
            "bert.pooler.dense.weight",
            "classifier.weight",
        ];
        let parameters: Parameters = names.iter().map(|name| ((*name).to_owned(), tch::Tensor::from(1.0))).collect();
        let config = TrainConfig { learning_rate: 1e-3, layerwise_lr_decay: Some(0.5), head_learning_rate: Some(1e-2), ..TrainConfig::default() };
        let rates = Rates::new(&config, &parameters, BTreeSet::from(["classifier.weight".to_owned()]));
        let found: Vec<f64> = names.iter().map(|name| rates.of(name)).collect();
        assert_eq!(found, [0.125, 0.25, 0.5, 1.0, 10.0]);
        assert_eq!(Place::of("transformer.h.7.ln_1.weight"), Place::Layer(7));
        assert_eq!(Place::of("model.layers.11.mlp.up_proj.weight"), Place::Layer(11));
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("bert.pooler.*", "bert.pooler.dense.weight", true),
            ("*.bias", "bert.pooler.dense.bias", true),
            ("*.bias", "bert.pooler.dense.weight", false),
            ("bert.*.layer.0.*", "bert.encoder.layer.0.output.dense.weight", true),
            ("bert.*.layer.0.*", "bert.encoder.layer.10.output.dense.weight", false),
            ("classifier", "classifier.weight", false),
            ("classifier.weight", "classifier.weight", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
