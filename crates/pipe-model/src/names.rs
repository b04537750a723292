//! Names and shapes of a model's parameters, and the spellings found in files.

use crate::ModelConfig;

/// A parameter that the model must have.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterSpec {
    pub name: String,
    pub shape: Vec<i64>,
}

fn spec(name: impl Into<String>, shape: &[i64]) -> ParameterSpec {
    ParameterSpec { name: name.into(), shape: shape.to_vec() }
}

fn with_bias(specs: &mut Vec<ParameterSpec>, module: &str, weight: &[i64]) {
    specs.push(spec(format!("{module}.weight"), weight));
    specs.push(spec(format!("{module}.bias"), &weight[..1]));
}

/// Every parameter of the encoder with a sequence classification head of `classes`, in the order of the modules.
pub fn parameters(config: &ModelConfig, classes: usize) -> Vec<ParameterSpec> {
    let hidden = config.hidden_size;
    let mut specs = vec![
        spec("bert.embeddings.word_embeddings.weight", &[config.vocab_size, hidden]),
        spec("bert.embeddings.position_embeddings.weight", &[config.max_positions, hidden]),
        spec("bert.embeddings.token_type_embeddings.weight", &[config.type_vocab_size, hidden]),
    ];
    with_bias(&mut specs, "bert.embeddings.LayerNorm", &[hidden]);
    for layer in 0..config.layers {
        let layer = format!("bert.encoder.layer.{layer}");
        for part in ["query", "key", "value"] {
            with_bias(&mut specs, &format!("{layer}.attention.self.{part}"), &[hidden, hidden]);
        }
        with_bias(&mut specs, &format!("{layer}.attention.output.dense"), &[hidden, hidden]);
        with_bias(&mut specs, &format!("{layer}.attention.output.LayerNorm"), &[hidden]);
        with_bias(&mut specs, &format!("{layer}.intermediate.dense"), &[config.intermediate_size, hidden]);
        with_bias(&mut specs, &format!("{layer}.output.dense"), &[hidden, config.intermediate_size]);
        with_bias(&mut specs, &format!("{layer}.output.LayerNorm"), &[hidden]);
    }
    with_bias(&mut specs, "bert.pooler.dense", &[hidden, hidden]);
    specs.extend(head_parameters(config, classes));
    specs
}

/// The parameters that a base model has not and fine-tuning starts anew.
pub fn head_parameters(config: &ModelConfig, classes: usize) -> Vec<ParameterSpec> {
    let mut specs = Vec::new();
    with_bias(&mut specs, "classifier", &[classes as i64, config.hidden_size]);
    specs
}

/// The name that a tensor of a file has here; absent for tensors that are no parameters of this model
/// (buffers, heads of pretraining).
///
/// Accepts names without the `bert.` prefix and the `gamma`/`beta` of the first checkpoints.
pub fn canonical_name(name: &str) -> Option<String> {
    let name = name.strip_suffix(".gamma").map(|stem| format!("{stem}.weight")).unwrap_or_else(|| name.to_owned());
    let name = name.strip_suffix(".beta").map(|stem| format!("{stem}.bias")).unwrap_or(name);
    if name.ends_with("position_ids") || name.ends_with("token_type_ids") || name.starts_with("cls.") {
        return None;
    }
    let bare = ["embeddings.", "encoder.", "pooler."].iter().any(|prefix| name.starts_with(prefix));
    Some(if bare { format!("bert.{name}") } else { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_files_lead_to_one_name() {
        for (file, ours) in [
            ("embeddings.LayerNorm.gamma", Some("bert.embeddings.LayerNorm.weight")),
            ("bert.embeddings.LayerNorm.beta", Some("bert.embeddings.LayerNorm.bias")),
            ("pooler.dense.bias", Some("bert.pooler.dense.bias")),
            ("classifier.weight", Some("classifier.weight")),
            ("bert.embeddings.position_ids", None),
            ("cls.predictions.bias", None),
        ] {
            assert_eq!(canonical_name(file).as_deref(), ours, "{file}");
        }
    }
}
