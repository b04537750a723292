//! What turns gradients into steps.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::TrainConfig;
use crate::config::{Complaint, in_range};

/// By the names of transformers' `OptimizerNames`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerName {
    /// Fused, whichever of the two names it is asked for by.
    #[default]
    AdamwTorch,
    AdamwTorchFused,
    /// AdamW with its moments in blocks of 8-bit numbers: a quarter of the memory.
    #[serde(rename = "adamw_8bit")]
    Adamw8bit,
    /// The spelling of bitsandbytes for `adamw_8bit`.
    #[serde(rename = "adamw_bnb_8bit")]
    AdamwBnb8bit,
    /// Moments of rows and columns alone: hardly any memory.
    Adafactor,
    Sgd,
    Lion,
    /// The spelling of bitsandbytes for `lion`.
    #[serde(rename = "lion_32bit")]
    Lion32bit,
}

/// Settings of one optimizer. Each key belongs to one of them alone. As a mapping, or as Transformers has it:
/// `"momentum=0.9,nesterov=true"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct OptimizerArgs {
    /// Of `sgd`; 0 by default.
    pub momentum: Option<f64>,
    /// Of `sgd`; 0 by default.
    pub dampening: Option<f64>,
    /// Of `sgd`; false by default.
    pub nesterov: Option<bool>,
    /// Of `adafactor`: steps as large as the weights are; false by default.
    pub scale_parameter: Option<bool>,
    /// Of `adafactor`: the largest root mean square of a step; 1 by default.
    pub clip_threshold: Option<f64>,
    /// Of `adafactor`: how the memory of squares grows; -0.8 by default.
    pub decay_rate: Option<f64>,
    /// Of `adafactor`: of a first moment; without one by default.
    pub beta1: Option<f64>,
}

/// Settings of one optimizer. Each key belongs to one of them alone.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "OptimizerArgs")]
struct Fields {
    /// Of `sgd`; 0 by default.
    momentum: Option<f64>,
    /// Of `sgd`; 0 by default.
    dampening: Option<f64>,
    /// Of `sgd`; false by default.
    nesterov: Option<bool>,
    /// Of `adafactor`: steps as large as the weights are; false by default.
    scale_parameter: Option<bool>,
    /// Of `adafactor`: the largest root mean square of a step; 1 by default.
    clip_threshold: Option<f64>,
    /// Of `adafactor`: how the memory of squares grows; -0.8 by default.
    decay_rate: Option<f64>,
    /// Of `adafactor`: of a first moment; without one by default.
    beta1: Option<f64>,
}

impl From<Fields> for OptimizerArgs {
    fn from(fields: Fields) -> OptimizerArgs {
        let Fields { momentum, dampening, nesterov, scale_parameter, clip_threshold, decay_rate, beta1 } = fields;
        OptimizerArgs { momentum, dampening, nesterov, scale_parameter, clip_threshold, decay_rate, beta1 }
    }
}

impl<'de> Deserialize<'de> for OptimizerArgs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MappingOrText;
        impl<'de> Visitor<'de> for MappingOrText {
            type Value = OptimizerArgs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping such as { momentum: 0.9 }, or a text such as \"momentum=0.9\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OptimizerArgs, E> {
                let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).map(|pair| {
                    let (key, value) = pair.split_once('=').ok_or_else(|| E::custom(format!("`{pair}` is not of the form key=value")))?;
                    let value = value.trim();
                    // Python's spelling of true and false.
                    let value = serde_json::from_str(&value.to_ascii_lowercase()).unwrap_or_else(|_| Value::from(value));
                    Ok((key.trim().to_owned(), value))
                });
                let pairs = pairs.collect::<Result<Vec<(String, Value)>, E>>()?;
                let fields = Fields::deserialize(MapDeserializer::<_, serde_json::Error>::new(pairs.into_iter())).map_err(E::custom)?;
                Ok(fields.into())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OptimizerArgs, A::Error> {
                Fields::deserialize(MapAccessDeserializer::new(map)).map(Into::into)
            }
        }
        deserializer.deserialize_any(MappingOrText)
    }
}

impl JsonSchema for OptimizerArgs {
    fn schema_name() -> Cow<'static, str> {
        "OptimizerArgsOrText".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let fields = generator.subschema_for::<Fields>();
        json_schema!({"anyOf": [fields, {"type": "string", "description": "As Transformers has it: `momentum=0.9,nesterov=true`."}]})
    }
}

impl OptimizerArgs {
    pub(super) fn check(&self, config: &TrainConfig) -> Result<(), Complaint> {
        let (name, known): (_, &[&str]) = match config.optim {
            OptimizerName::Sgd => ("sgd", &["momentum", "dampening", "nesterov"]),
            OptimizerName::Adafactor => ("adafactor", &["scale_parameter", "clip_threshold", "decay_rate", "beta1"]),
            OptimizerName::Lion | OptimizerName::Lion32bit => ("lion", &[]),
            _ => ("adamw", &[]),
        };
        let Ok(Value::Object(written)) = serde_json::to_value(self) else { return Ok(()) };
        if let Some((key, _)) = written.iter().find(|(key, value)| !value.is_null() && !known.contains(&key.as_str())) {
            let what = if known.is_empty() {
                "it takes none; its moments are `adam_beta1` and `adam_beta2`".to_owned()
            } else {
                format!("it takes {}", known.join(", "))
            };
            return Err(Complaint::new(format!("optim_args.{key}"), format!("the optimizer `{name}` has no `{key}`")).hint(what));
        }
        in_range("optim_args.momentum", self.momentum.unwrap_or(0.0), 0.0..=0.999_999_9)?;
        in_range("optim_args.dampening", self.dampening.unwrap_or(0.0), 0.0..=1.0)?;
        in_range("optim_args.clip_threshold", self.clip_threshold.unwrap_or(1.0), 1e-9..=f64::INFINITY)?;
        in_range("optim_args.decay_rate", self.decay_rate.unwrap_or(-0.8), -1.0..=0.0)?;
        in_range("optim_args.beta1", self.beta1.unwrap_or(0.0), 0.0..=0.999_999_9)?;
        if self.nesterov == Some(true) && (self.momentum.unwrap_or(0.0) == 0.0 || self.dampening.unwrap_or(0.0) != 0.0) {
            return Err(Complaint::new("optim_args.nesterov", "`nesterov` needs a `momentum` and no `dampening`").hint("add `momentum: 0.9`"));
        }
        Ok(())
    }
}
