//! Who may depend on whom, over `cargo metadata`: the table of `ARCHITECTURE.md` as a test.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Package → the packages of this workspace that it may depend on. One that is not here has no place yet.
const MAY_IMPORT: [(&str, &[&str]); 9] = [
    ("pipe", &["pipe-core", "pipe-data", "pipe-onnx", "pipe-remote", "pipe-sql"]),
    ("pipe-core", &[]),
    ("pipe-data", &["pipe-core", "pipe-model"]),
    ("pipe-model", &["pipe-core"]),
    ("pipe-onnx", &["pipe-core", "pipe-model"]),
    ("pipe-remote", &["pipe-core"]),
    ("pipe-sql", &["pipe-core"]),
    ("pipe-train", &["pipe-core", "pipe-data", "pipe-model"]),
    ("xtask", &[]),
];

/// Crates of others → the one package that may use them. A name that ends in `-` stands for all that begin with it.
const HOMES: [(&str, &str); 17] = [
    ("clap", "pipe"),
    ("indicatif", "pipe"),
    ("arrow", "pipe-data"),
    ("arrow-", "pipe-data"),
    ("parquet", "pipe-data"),
    ("tokenizers", "pipe-data"),
    ("polars", "pipe-sql"),
    ("polars-", "pipe-sql"),
    ("sqlparser", "pipe-sql"),
    ("tch", "pipe-train"),
    ("torch-sys", "pipe-train"),
    ("ort", "pipe-onnx"),
    ("prost", "pipe-onnx"),
    ("object_store", "pipe-remote"),
    ("reqwest", "pipe-remote"),
    ("rustls", "pipe-remote"),
    ("tokio", "pipe-remote"),
];

/// What the tests of the root may use although it has another home: they read what a user would read.
const TEST_ONLY: [&str; 3] = ["arrow-array", "arrow-ipc", "parquet"];

/// The names of all direct dependencies, by package.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let arguments =
        ["metadata", "--no-deps", "--format-version", "1", "--offline", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")];
    let output = Command::new(env!("CARGO")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let counts = |package: &str, dependency: &Value| {
        !(package == "pipe" && dependency["kind"] == "dev" && TEST_ONLY.contains(&dependency["name"].as_str().unwrap()))
    };
    let of = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        dependencies.filter(|dependency| counts(&name(package), dependency)).map(name).collect()
    };
    metadata["packages"].as_array().unwrap().iter().map(|package| (name(package), of(package))).collect()
}

fn home(dependency: &str) -> Option<&'static str> {
    let stands_for = |name: &str| name == dependency || (name.ends_with('-') && dependency.starts_with(name));
    HOMES.iter().find(|(name, _)| stands_for(name)).map(|(_, home)| *home)
}

#[test]
fn every_package_imports_only_what_it_may() {
    let packages = dependencies();
    let allowed: BTreeMap<&str, &[&str]> = MAY_IMPORT.into_iter().collect();
    let mut faults = Vec::new();
    for (package, dependencies) in &packages {
        let Some(allowed) = allowed.get(package.as_str()) else {
            faults.push(format!("{package} is not in the table"));
            continue;
        };
        for dependency in dependencies {
            if packages.contains_key(dependency) && !allowed.contains(&dependency.as_str()) {
                faults.push(format!("{package} may not depend on {dependency}"));
            }
            if let Some(home) = home(dependency).filter(|home| home != package) {
                faults.push(format!("{dependency} is for {home} alone, not for {package}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // A table that matches nothing would hold too.
    assert!(packages["pipe-train"].contains("tch") && packages["pipe-data"].contains("parquet") && packages["pipe-onnx"].contains("ort"));
    assert!(packages["pipe-sql"].contains("polars") && packages["pipe-sql"].contains("sqlparser"));
}
