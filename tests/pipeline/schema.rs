//! The checked-in JSON Schema is the one that the program has.

use std::path::Path;

use serde_json::Value;

use crate::project::{Project, entries};

fn pipelines() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines")
}

#[test]
fn the_checked_in_schema_is_up_to_date() {
    let printed = Project::new().pipe(&["schema"]).code(0).stdout;
    let schema: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let checked_in = std::fs::read_to_string(pipelines().join("schema.json")).unwrap_or_default();
    assert!(checked_in == printed, "pipelines/schema.json is out of date; make it anew with `cargo run -- schema > pipelines/schema.json`");
}

#[test]
fn every_example_names_its_schema() {
    for file in entries(&pipelines()).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "yaml")) {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("# yaml-language-server: $schema=schema.json\n"), "{}", file.display());
    }
}
