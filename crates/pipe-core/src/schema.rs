//! The JSON Schema (draft 2020-12) of the pipeline file, for editors: derived from the settings' own types, so that it
//! names what the reader accepts.
//!
//! The top level is put together by hand, as it is read by hand. A stage's `with:` is chosen by its `uses:`. Any value
//! may be a variable, so whatever is not free text also takes a text with `${…}` in it.

use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::config::{
    EvaluateConfig, ExportConfig, IngestConfig, PredictConfig, Resources, RunConfig, SqlConfig, StageKind, TokenizeConfig, TrainConfig,
};

/// A value that is one variable and nothing else takes the variable's type.
const VARIABLE: &str = r"^\$\{.*\}$";
/// A text of a fixed form may have a variable inside.
const WITH_VARIABLE: &str = r"\$\{.*\}";

/// Spellings that serde's `alias` accepts besides a setting's name, by definition: schemars does not know them.
const ALIASES: [(&str, &str, &str); 1] = [("TrainConfig", "eval_strategy", "evaluation_strategy")];
/// Settings whose default is refused: they have to be written down.
const REQUIRED: [(&str, &str); 3] = [("IngestConfig", "source"), ("TrainConfig", "model"), ("SqlConfig", "query")];
/// Settings of which one has to be written down.
const ONE_OF: [(&str, [&str; 2]); 1] = [("TokenizeConfig", ["tokenizer", "train_tokenizer"])];

/// The schema of a whole file.
pub fn pipeline_file() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let run = generator.subschema_for::<RunConfig>();
    let resources = generator.subschema_for::<Resources>();
    let uses = generator.subschema_for::<StageKind>();
    let choices: Vec<Value> = StageKind::ALL.into_iter().map(|kind| choice(kind, &mut generator)).collect();
    let mut definitions = generator.take_definitions(true);
    finish(&mut definitions);
    let words = json!({"type": ["string", "array"], "items": {"type": "string"}});
    let stage = json!({
        "type": "object",
        "required": ["uses"],
        "additionalProperties": false,
        "properties": {
            "uses": uses,
            "from": described(words, "The stages it reads: `ingest`, `tokenize.test`, `\"train[lr=3e-5]\"`, `\"train[best]\"`; one or a list."),
            "with": {"description": "Its settings."},
            "publish": {"type": "string", "description": "A folder that gets a copy of the output; may hold `${run.date}`, `${run.time}`, `${run.id}`."},
            "matrix": {
                "description": "One stage for each combination of values, which `with` names as `${matrix.axis}`.",
                "type": ["object", "string"],
                "pattern": VARIABLE,
                "minProperties": 1,
                "additionalProperties": {
                    "type": ["array", "string"],
                    "pattern": VARIABLE,
                    "minItems": 1,
                    "items": {"type": ["string", "number", "boolean"]},
                },
            },
            "resources": described(json!(resources), "What it takes of the budget that stages share."),
        },
        "allOf": choices,
    });
    definitions.insert("Stage".into(), stage);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Pipeline file of pipe",
        "type": "object",
        "required": ["version", "stages"],
        "additionalProperties": false,
        "properties": {
            "version": {"const": 1, "description": "Of the file format."},
            "name": {"type": "string", "description": "Of the pipeline; default: the file's name."},
            "root": {"type": "string", "description": "Where relative paths and `.pipe/` start; default: the file's folder."},
            "vars": {"type": "object", "description": "Values that `${name}` stands for; changed by --var and --vars."},
            "run": described(json!(run), "How runs behave; no part of any key."),
            "stages": {
                "description": "Name → stage.",
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": r"^[^\s.,=$\[\]{}/\\]+$"},
                "additionalProperties": {"$ref": "#/$defs/Stage"},
            },
        },
        "$defs": definitions,
    })
}

fn described(mut schema: Value, text: &str) -> Value {
    schema["description"] = text.into();
    schema
}

/// `uses: KIND` decides what `with:` holds.
fn choice(kind: StageKind, generator: &mut SchemaGenerator) -> Value {
    let settings = settings(kind, generator);
    let required: &[&str] = match kind {
        StageKind::Ingest | StageKind::Tokenize | StageKind::Train | StageKind::Sql => &["with"],
        StageKind::Evaluate | StageKind::Export | StageKind::Predict => &[],
    };
    json!({
        "if": {"properties": {"uses": {"const": kind.name()}}, "required": ["uses"]},
        "then": {"properties": {"with": settings}, "required": required},
    })
}

fn settings(kind: StageKind, generator: &mut SchemaGenerator) -> Schema {
    fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
    match kind {
        StageKind::Ingest => of::<IngestConfig>(generator),
        StageKind::Tokenize => of::<TokenizeConfig>(generator),
        StageKind::Train => of::<TrainConfig>(generator),
        StageKind::Evaluate => of::<EvaluateConfig>(generator),
        StageKind::Export => of::<ExportConfig>(generator),
        StageKind::Predict => of::<PredictConfig>(generator),
        StageKind::Sql => of::<SqlConfig>(generator),
    }
}

/// What the derived definitions lack.
fn finish(definitions: &mut Map<String, Value>) {
    for (definition, name, alias) in ALIASES {
        let properties = &mut definitions[definition]["properties"];
        let mut copy = properties[name].clone();
        copy["description"] = format!("Another spelling of `{name}`.").into();
        properties[alias] = copy;
    }
    for (definition, name) in REQUIRED {
        let definition = &mut definitions[definition];
        definition["required"] = json!([name]);
        if let Some(property) = definition["properties"][name].as_object_mut() {
            property.remove("default");
        }
    }
    for (definition, names) in ONE_OF {
        let definition = &mut definitions[definition];
        definition["anyOf"] = names.iter().map(|name| json!({"required": [name]})).collect();
        for name in names {
            if let Some(property) = definition["properties"][name].as_object_mut() {
                property.remove("default");
            }
        }
    }
    for (_, definition) in definitions.iter_mut() {
        let is_struct = definition["type"] == "object";
        // Left empty, a mapping of settings means all defaults.
        if is_struct && definition.get("required").is_none() && definition.get("anyOf").is_none() {
            definition["type"] = json!(["object", "null"]);
        }
        if let Ok(schema) = <&mut Schema>::try_from(definition) {
            admit_variables(schema);
        }
    }
}

/// Lets a variable stand for whatever is not free text. A `pattern` concerns texts alone and a `minimum` numbers alone,
/// so both can stand in one schema, which editors complete better than a choice of two.
fn admit_variables(schema: &mut Schema) {
    transform_subschemas(&mut admit_variables, schema);
    // `uint64` and `double` are formats to nobody else.
    schema.remove("format");
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        let pattern = format!("{pattern}|{WITH_VARIABLE}");
        schema.insert("pattern".into(), pattern.into());
        return;
    }
    let variable = || json!({"type": "string", "pattern": WITH_VARIABLE});
    if let Some(Value::Array(choices)) = schema.get_mut("oneOf") {
        choices.push(variable());
        return;
    }
    if let Some(names) = schema.remove("enum") {
        schema.remove("type");
        schema.insert("anyOf".into(), json!([{"enum": names}, variable()]));
        return;
    }
    let mut types = match schema.get("type") {
        Some(Value::String(one)) => vec![json!(one)],
        Some(Value::Array(types)) => types.clone(),
        _ => return,
    };
    if schema.get("const").is_some() || types.contains(&json!("string")) || types == [json!("null")] {
        return;
    }
    types.push("string".into());
    schema.insert("type".into(), types.into());
    schema.insert("pattern".into(), VARIABLE.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StageConfig;
    use crate::file::{SourceId, parse};

    /// Follows a reference, and the one that an optional setting may be.
    fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
        let reference = schema["$ref"].as_str().or_else(|| schema["anyOf"][0]["$ref"].as_str());
        reference.map_or(schema, |path| root.pointer(path.trim_start_matches('#')).unwrap_or_else(|| panic!("{path} leads nowhere")))
    }

    #[track_caller]
    fn covers(root: &Value, schema: &Value, settings: &Value, path: &str) {
        let Value::Object(settings) = settings else { return };
        // A map of the user's own names.
        if resolve(root, schema)["additionalProperties"].is_object() || (settings.is_empty() && resolve(root, schema)["properties"].is_null()) {
            return;
        }
        let properties = resolve(root, schema)["properties"].as_object().unwrap_or_else(|| panic!("{path} has no properties"));
        for (name, value) in settings {
            let property = properties.get(name).unwrap_or_else(|| panic!("{path}.{name} is not in the schema"));
            covers(root, property, value, &format!("{path}.{name}"));
        }
    }

    #[test]
    fn every_setting_is_in_the_schema() {
        let root = pipeline_file();
        let serialised = [
            ("RunConfig", serde_json::to_value(RunConfig::default())),
            ("Resources", serde_json::to_value(Resources::default())),
            ("IngestConfig", serde_json::to_value(IngestConfig::default())),
            ("SplitConfig", serde_json::to_value(serde_json::from_value::<crate::config::SplitConfig>(json!({"train": 1})).unwrap())),
            ("TokenizeConfig", serde_json::to_value(TokenizeConfig::default())),
            ("TrainTokenizerConfig", serde_json::to_value(crate::config::TrainTokenizerConfig::default())),
            ("NewModelConfig", serde_json::to_value(crate::config::NewModelConfig::default())),
            ("TrainConfig", serde_json::to_value(TrainConfig::default())),
            ("EvaluateConfig", serde_json::to_value(EvaluateConfig::default())),
            ("ExportConfig", serde_json::to_value(ExportConfig::default())),
            ("PredictConfig", serde_json::to_value(PredictConfig::default())),
            ("SqlConfig", serde_json::to_value(SqlConfig::default())),
        ];
        for (name, value) in serialised {
            covers(&root, &root["$defs"][name], &value.unwrap(), name);
        }
        for (name, definition) in root["$defs"].as_object().unwrap() {
            if definition.get("properties").is_some() {
                assert_eq!(definition["additionalProperties"], false, "{name} lets unknown keys pass");
            }
        }
        // A new alias has to be added to `ALIASES`.
        let sources = [include_str!("config/train/mod.rs"), include_str!("config/ingest.rs"), include_str!("config/run.rs")];
        assert_eq!(sources.iter().map(|source| source.matches("alias = ").count()).sum::<usize>(), ALIASES.len());
    }

    #[test]
    fn what_the_schema_requires_is_what_the_reader_requires() {
        let empty = parse("{}", SourceId::FILE).unwrap();
        let root = pipeline_file();
        for (choice, kind) in root["$defs"]["Stage"]["allOf"].as_array().unwrap().iter().zip(StageKind::ALL) {
            let required = choice["then"]["required"] == json!(["with"]);
            assert_eq!(StageConfig::read(kind, &empty).is_err(), required, "{}", kind.name());
            let settings = resolve(&root, &choice["then"]["properties"]["with"]);
            assert_eq!(settings.get("required").or(settings.get("anyOf")).is_some(), required, "{}", kind.name());
        }
    }
}
