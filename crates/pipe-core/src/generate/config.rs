//! How texts are generated.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::config::{Complaint, in_range};

/// Spelled as in transformers' `GenerationConfig`, with its defaults where it has any.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GenerationConfig {
    /// The most tokens that follow a prompt.
    pub max_new_tokens: usize,
    /// Draws each token by its probability; false takes the likeliest.
    pub do_sample: bool,
    /// What scores are divided by before a token is drawn: below 1 the likely become likelier.
    pub temperature: f64,
    /// Draws from this many of the likeliest tokens; 0 from all.
    pub top_k: usize,
    /// Draws from the fewest tokens whose probabilities add up to this.
    pub top_p: f64,
    /// Draws from tokens at least this share as likely as the likeliest.
    pub min_p: Option<f64>,
    /// Above 1: tokens that the prompt or the text has already become less likely. Also without sampling.
    pub repetition_penalty: f64,
    /// No sequence of this many tokens comes twice. Also without sampling.
    pub no_repeat_ngram_size: Option<usize>,
    /// A text ends where one of these was generated; it is part of the text.
    pub stop_strings: Vec<String>,
    /// The tokens that end a text; absent: the model's own. An empty list: none does.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(schema_with = "eos_schema")]
    pub eos_token_id: Option<Vec<u32>>,
    /// Of the draws; each row has its own, whatever it is batched with.
    pub seed: u64,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        GenerationConfig {
            // That of transformers' text-generation pipeline: the class's own counts the prompt too.
            max_new_tokens: 256,
            do_sample: false,
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            min_p: None,
            repetition_penalty: 1.0,
            no_repeat_ngram_size: None,
            stop_strings: Vec::new(),
            eos_token_id: None,
            seed: 42,
        }
    }
}

impl GenerationConfig {
    /// Refuses impossible values; `place` is the setting that this is the value of, below `with:`.
    pub fn check(&self, place: &str) -> Result<(), Complaint> {
        let of = |name: &str| format!("{place}.{name}");
        if self.max_new_tokens == 0 {
            return Err(Complaint::new(of("max_new_tokens"), "at least one token is generated"));
        }
        for (name, value) in [("temperature", self.temperature), ("repetition_penalty", self.repetition_penalty)] {
            // Scores have 32 bits.
            if !(value as f32 > 0.0 && (value as f32).is_finite()) {
                let complaint = Complaint::new(of(name), format!("`{}` must be above 0", of(name)));
                return Err(if name == "temperature" { complaint.hint("`do_sample: false` always takes the likeliest token") } else { complaint });
            }
        }
        in_range(&of("top_p"), self.top_p, 0.0..=1.0)?;
        in_range(&of("min_p"), self.min_p.unwrap_or(0.0), 0.0..=1.0)?;
        if self.stop_strings.iter().any(String::is_empty) {
            return Err(Complaint::new(of("stop_strings"), "an empty stop string would end every text at once"));
        }
        Ok(())
    }
}

/// A token id, or a list of them: `generation_config.json` has both.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u32>>, D::Error> {
    struct Ids;
    impl<'de> Visitor<'de> for Ids {
        type Value = Option<Vec<u32>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a token id or a list of them")
        }

        fn visit_i64<E: Error>(self, id: i64) -> Result<Self::Value, E> {
            u32::try_from(id).map(|id| Some(vec![id])).map_err(|_| E::custom("a token id is not negative"))
        }

        fn visit_u64<E: Error>(self, id: u64) -> Result<Self::Value, E> {
            u32::try_from(id).map(|id| Some(vec![id])).map_err(|_| E::custom("this is no token id"))
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut ids: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(id) = ids.next_element()? {
                all.push(id);
            }
            Ok(Some(all))
        }
    }
    deserializer.deserialize_any(Ids)
}

fn eos_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "array", "items": {"type": "integer", "minimum": 0}},
        {"type": "null"},
    ]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::from_node;
    use serde_json::json;

    fn read(text: &str) -> Result<GenerationConfig, String> {
        let node = crate::file::parse(text, crate::file::SourceId::FILE).map_err(|problem| problem.message)?;
        from_node(&node).map_err(|problem| problem.message)
    }

    #[test]
    fn an_eos_token_is_one_or_many_or_none() {
        for (written, ids) in [("7", Some(vec![7])), ("[7, 2]", Some(vec![7, 2])), ("[]", Some(vec![])), ("null", None)] {
            assert_eq!(read(&format!("eos_token_id: {written}")).unwrap().eos_token_id, ids);
        }
        assert_eq!(read("seed: 1").unwrap().eos_token_id, None);
        assert!(read("eos_token_id: -1").unwrap_err().contains("not negative"));
        assert!(read("eos_token_id: </s>").unwrap_err().contains("a token id or a list of them"));
        assert!(read("num_beams: 4").unwrap_err().contains("unknown key `num_beams`"));
        let given = GenerationConfig { eos_token_id: Some(vec![3]), ..Default::default() };
        assert_eq!(serde_json::from_value::<GenerationConfig>(serde_json::to_value(&given).unwrap()).unwrap(), given);
        assert_eq!(serde_json::from_value::<GenerationConfig>(json!({"eos_token_id": 3})).unwrap(), given);
    }

    #[test]
    fn impossible_values_are_named() {
        assert!(GenerationConfig::default().check("generation").is_ok());
        for (written, setting) in [
            ("max_new_tokens: 0", "max_new_tokens"),
            ("temperature: 0", "temperature"),
            ("repetition_penalty: -1", "repetition_penalty"),
            ("top_p: 1.1", "top_p"),
            ("min_p: 2", "min_p"),
            ("stop_strings: ['.', '']", "stop_strings"),
        ] {
            let complaint = read(written).unwrap().check("generation").unwrap_err();
            assert_eq!(complaint.setting, format!("generation.{setting}"), "{complaint:?}");
        }
    }
}
