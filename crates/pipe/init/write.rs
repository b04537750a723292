//! The text of a new pipeline file.

use std::fmt::Write;
use std::path::{Component, Path, PathBuf};

use pipe_core::config::SourceFormat;
use pipe_data::inspect::Inspection;

use super::roles::Roles;

/// What a new file says.
pub(super) struct Draft<'d> {
    pub(super) name: String,
    /// As the file names it.
    pub(super) data: String,
    pub(super) format: SourceFormat,
    pub(super) inspection: &'d Inspection,
    pub(super) roles: Roles<'d>,
    /// As the file names it.
    pub(super) model: String,
    pub(super) max_length: usize,
    /// Where a schema stands, as an editor looks for it.
    pub(super) schema: Option<String>,
    /// The path of the file itself.
    pub(super) output: String,
}

const LENGTH_STEP: usize = 32;
/// Attention grows with the square of it, and the first words say most; who needs more writes more.
const MAX_LENGTH: usize = 256;

/// A length for nearly all texts that the model can take.
pub(super) fn max_length(estimate: u32, limit: Option<usize>) -> usize {
    let wanted = (estimate as usize).next_multiple_of(LENGTH_STEP).clamp(LENGTH_STEP, MAX_LENGTH);
    limit.map_or(wanted, |limit| wanted.min(limit))
}

impl Draft<'_> {
    /// Raw rows to a fine-tuned, exported model and its predictions.
    pub(super) fn training(&self) -> String {
        let mut text = self.head("Labelled rows in, a fine-tuned ONNX classifier and its predictions out.");
        let (name, model) = (&self.name, quoted(&self.model));
        let _ = write!(
            text,
            r#"vars: {{ base: {model}, max_length: {max_length} }}

stages:
  ingest:
    uses: ingest
    with:
{source}      # standard: e-mail addresses, phone and card numbers, URLs, handles and IP addresses become placeholders.
      scrub: {{ policy: standard }}
      dedup: exact
      # A row's place follows from its text alone, so new rows never move old ones.
      split: {{ train: 0.8, validation: 0.1, test: 0.1, seed: 42 }}

  tokenize:
    uses: tokenize
    from: ingest
    with: {{ tokenizer: "${{base}}", max_length: "${{max_length}}" }}

  train:
    uses: train
    from: tokenize
    with:
      task: sequence-classification
      model: "${{base}}"
      learning_rate: 5.0e-5
      num_train_epochs: 3
      # For a first try in a few minutes, take fewer rows:
      # max_train_samples: 3000
      per_device_train_batch_size: 16
      per_device_eval_batch_size: 64
      warmup_ratio: 0.1
      weight_decay: 0.01
      group_by_length: true
      eval_strategy: epoch
      load_best_model_at_end: true
      metric_for_best_model: f1_macro
      # Less memory and time where the processor has it:
      # bf16: true

  evaluate:
    uses: evaluate
    from: [train, tokenize.test]
    # With a gate, a model that is not good enough is not published:
    # with: {{ gate: {{ f1_macro: ">= 0.6" }} }}

  export:
    uses: export
    from: [train, tokenize.validation]
    publish: {model_out}

  predict:
    uses: predict
    from: [export, ingest.test]
    publish: {predictions_out}
"#,
            max_length = self.max_length,
            source = self.source(),
            model_out = quoted(&format!("out/{name}/model")),
            predictions_out = quoted(&format!("out/{name}/predictions")),
        );
        text
    }

    /// Rows scored with a finished model.
    pub(super) fn scoring(&self) -> String {
        let mut text = self.head("New rows, scored with a finished model: no label, no split, no training.");
        let _ = write!(
            text,
            r#"vars: {{ model: {model} }}

stages:
  ingest:
    uses: ingest
    with:
{source}      # What was scrubbed in training is scrubbed in use.
      scrub: {{ model: "${{model}}" }}
      dedup: none

  predict:
    uses: predict
    from: ingest
    with: {{ model: "${{model}}" }}
    publish: {out}
"#,
            model = quoted(&self.model),
            source = self.source(),
            out = quoted(&format!("out/{}/predictions", self.name)),
        );
        text
    }

    fn head(&self, what: &str) -> String {
        let schema = self.schema.as_ref().map(|path| format!("# yaml-language-server: $schema={path}\n")).unwrap_or_default();
        // A path may hold anything, a comment no line end.
        let output = self.output.replace(char::is_control, "?");
        format!(
            "{schema}# {what}\n#\n#     pipe run {output}\n#\n# Written by `pipe init`; look through it and change what differs.\nversion: 1\nname: {}\n",
            quoted(&self.name)
        )
    }

    fn source(&self) -> String {
        let Draft { inspection, roles, .. } = self;
        let format = match self.format {
            SourceFormat::Csv => "csv",
            SourceFormat::Tsv => "tsv",
            SourceFormat::Jsonl => "jsonl",
            SourceFormat::Parquet => "parquet",
            SourceFormat::Json => "json",
            SourceFormat::Arrow => "arrow",
            SourceFormat::Lines => "lines",
            SourceFormat::Text => "text",
        };
        let mut source = format!("paths: [{}], format: {format}", quoted(&self.data));
        if !matches!(self.format, SourceFormat::Parquet | SourceFormat::Arrow) {
            let _ = write!(source, ", encoding: {}", inspection.encoding);
        }
        if let Some(delimiter) = inspection.delimiter {
            let _ = write!(source, ", delimiter: {}", quoted(&delimiter.to_string()));
        }
        let mut columns = format!("text: {}", quoted(&roles.text.name));
        for (role, column) in [("text_pair", roles.text_pair), ("label", roles.label), ("id", roles.id)] {
            if let Some(column) = column {
                let _ = write!(columns, ", {role}: {}", quoted(&column.name));
            }
        }
        let mut text = String::new();
        if inspection.encoding != "utf-8" {
            text.push_str("      # The encoding is a guess: look at some names with accents in the output.\n");
        }
        let _ = writeln!(text, "      source: {{ {source} }}");
        if roles.id.is_some() {
            text.push_str("      # Ids are written as they are: map none that names a person.\n");
        }
        text.push_str("      # Columns that are not named here are dropped.\n");
        let _ = writeln!(text, "      columns: {{ {columns} }}");
        text
    }
}

/// As YAML reads it back, whatever it holds; `${` would be a variable.
fn quoted(text: &str) -> String {
    serde_json::Value::String(text.replace("${", "$${")).to_string()
}

/// `path` as seen from `folder`, both absolute and without links. As it is where they share nothing: neither moves with
/// the other.
pub(super) fn relative(path: &Path, folder: &Path) -> PathBuf {
    let (to, from): (Vec<Component<'_>>, Vec<Component<'_>>) = (path.components().collect(), folder.components().collect());
    let shared = to.iter().zip(&from).take_while(|(a, b)| a == b).count();
    if shared <= 1 {
        return path.to_owned();
    }
    let up = std::iter::repeat_n(Component::ParentDir, from.len() - shared);
    let path: PathBuf = up.chain(to[shared..].iter().copied()).collect();
    if path.as_os_str().is_empty() { ".".into() } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_the_file() {
        for (path, folder, expected) in
            [("/a/b/c.csv", "/a", "b/c.csv"), ("/a/c.csv", "/a/p/q", "../../c.csv"), ("/a/p", "/a/p", "."), ("/b/c.csv", "/a/p", "/b/c.csv")]
        {
            assert_eq!(relative(Path::new(path), Path::new(folder)), Path::new(expected));
        }
    }

    #[test]
    fn lengths_fit_the_texts_and_the_model() {
        assert_eq!([max_length(3, None), max_length(60, Some(512)), max_length(60, Some(40)), max_length(9000, Some(512))], [32, 64, 40, 256]);
    }
}
