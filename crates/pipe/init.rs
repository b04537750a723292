//! `pipe init`: looks at a data file and a model folder and writes a pipeline file that runs.

mod roles;
mod write;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use pipe_core::config::{Compression, SourceFormat};
use pipe_core::source::SourceFile;
use pipe_core::{Error, IoContext, Result};
use pipe_data::inspect::{Inspection, inspect};
use pipe_data::tokenize::length_limit;

use crate::terminal::print_result;
use roles::Roles;
use write::{Draft, max_length, relative};

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// A CSV, TSV, JSONL, JSON, Parquet or Arrow file [default: the only one in this folder and data/]
    data: Option<PathBuf>,
    /// A model folder, an exported model for rows without labels, or a URL [default: the only model folder near]
    #[arg(long, value_name = "FOLDER_OR_URL")]
    model: Option<String>,
    /// The pipeline file to write
    #[arg(long, short, value_name = "FILE", default_value = "pipeline.yaml")]
    output: PathBuf,
    /// Overwrite the pipeline file
    #[arg(long)]
    force: bool,
}

/// Where a data file and a model folder are looked for.
const DATA_FOLDERS: [&str; 2] = [".", "data"];
const MODEL_FOLDERS: [&str; 4] = [".", "models", "data", "data/models"];

/// What `--model` names.
enum Model {
    /// To be fine-tuned; with the longest input that it takes, where that is known.
    Pretrained(PathBuf, Option<usize>),
    /// Written by the export stage.
    Export(PathBuf),
    /// Fetched by the run; nothing is known of it yet.
    Url(String),
}

pub(crate) fn command(args: &InitArgs) -> Result<u8> {
    if args.output.exists() && !args.force {
        return Err(
            Error::usage(format!("{} is there already", args.output.display())).hint("give --force to overwrite it, or --output for another name")
        );
    }
    let parent = args.output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = parent.canonicalize().map_err(|_| Error::usage(format!("there is no folder {}", parent.display())))?;
    let data = match &args.data {
        Some(path) => path.clone(),
        None => only(&candidates(&DATA_FOLDERS, |path| path.is_file() && SourceFormat::of_path(path).is_some()), "data file", "pipe init data.csv")?,
    };
    let (format, inspection) = look_at(&data)?;
    let roles = Roles::of(&inspection, &data.display().to_string())?;
    let model = model(args, roles.label.is_some())?;
    let text = draft(args, &folder, &data, format, &inspection, roles, &model)?;
    write(&args.output, &text, args.force)?;
    print_result(&format!("\nnext: pipe run {}", args.output.display()));
    Ok(0)
}

/// The file's format and what is in it; refused where no pipeline could read it.
fn look_at(data: &Path) -> Result<(SourceFormat, Inspection)> {
    if !data.is_file() {
        let error = Error::input(format!("there is no file {}", data.display()));
        return Err(if data.is_dir() { error.hint("it is a folder: give one of the files in it") } else { error });
    }
    let format = SourceFormat::of_path(data).ok_or_else(|| {
        Error::input(format!("cannot tell the format of {} from its name", data.display()))
            .hint("name it .csv, .tsv, .jsonl, .json, .parquet or .arrow")
    })?;
    let inspection = inspect(&SourceFile::new(data.to_owned(), format))?;
    if inspection.records == 0 {
        return Err(Error::input(format!("{} holds no rows", data.display())).hint("is the file complete?"));
    }
    if inspection.header_is_a_row {
        return Err(Error::input(format!("the first line of {} looks like a row, not like the names of columns", data.display()))
            .hint("put a line such as `label,text` before it, or shorten the names"));
    }
    Ok((format, inspection))
}

fn model(args: &InitArgs, labelled: bool) -> Result<Model> {
    let given = match &args.model {
        Some(given) if given.contains("://") => return Ok(Model::Url(given.clone())),
        Some(given) => PathBuf::from(given),
        None => {
            let found = candidates(&MODEL_FOLDERS, |path| path.join("config.json").is_file() && path.is_dir());
            only(&found, "model folder (one with config.json)", "--model FOLDER")?
        }
    };
    let shown = given.display();
    if !given.is_dir() {
        return Err(Error::input(format!("there is no folder {shown}")).hint("give a Hugging Face model folder as --model"));
    }
    if given.join("model.onnx").is_file() {
        if !given.join(pipe_core::provenance::FILE_NAME).is_file() {
            return Err(Error::input(format!("{shown} has a model.onnx but no {}", pipe_core::provenance::FILE_NAME))
                .hint("give a folder that the export stage published"));
        }
        return Ok(Model::Export(given));
    }
    if !labelled {
        return Err(Error::input("no column looks like a label, and training needs one").hint(
            "a label has few different values; to score these rows with a finished model, give the folder that the export stage published as --model",
        ));
    }
    for (file, what) in
        [("config.json", "is no model folder"), ("tokenizer.json", "cannot turn text into tokens"), ("model.safetensors", "has no weights")]
    {
        if !given.join(file).is_file() {
            return Err(Error::input(format!("{shown} {what}: it has no {file}"))
                .hint("give a Hugging Face model folder with config.json, model.safetensors and tokenizer.json"));
        }
    }
    let limit = length_limit(&given);
    Ok(Model::Pretrained(given, limit))
}

fn draft(
    args: &InitArgs,
    folder: &Path,
    data: &Path,
    format: SourceFormat,
    inspection: &Inspection,
    roles: Roles<'_>,
    model: &Model,
) -> Result<String> {
    let seen_from_file = |path: &Path| -> Result<String> {
        let path = relative(&path.canonicalize().doing("open", path)?, folder);
        path.into_os_string().into_string().map_err(|path| Error::usage(format!("the path {} is not UTF-8", path.display())))
    };
    let (model_text, limit, what) = match model {
        Model::Pretrained(path, limit) => (seen_from_file(path)?, *limit, format!("fine-tuned from {}", path.display())),
        Model::Export(path) => (seen_from_file(path)?, None, format!("scored with {}", path.display())),
        Model::Url(url) => (url.clone(), None, format!("from {url}")),
    };
    if let (Model::Url(_), None) = (model, roles.label) {
        return Err(
            Error::input("no column looks like a label, and training needs one").hint("give an exported model as --model to score these rows")
        );
    }
    tell(data, inspection, &roles);
    let estimate = roles.text.tokens + roles.text_pair.map_or(0, |pair| pair.tokens);
    let draft = Draft {
        name: name_of(data),
        data: escape_pattern(&seen_from_file(data)?),
        format,
        inspection,
        model: model_text,
        max_length: max_length(estimate, limit),
        schema: ["schema.json", "pipelines/schema.json"].into_iter().find(|path| is_schema(&folder.join(path))).map(str::to_owned),
        output: args.output.display().to_string(),
        roles: match model {
            // Scoring reads no label: a model has classes of its own.
            Model::Export(_) => Roles { label: None, ..roles },
            _ => roles,
        },
    };
    print_result(&format!("{}: {}, {what}", args.output.display(), if matches!(model, Model::Export(_)) { "rows" } else { "a classifier" }));
    Ok(if matches!(model, Model::Export(_)) { draft.scoring() } else { draft.training() })
}

/// What was found: names of columns and counts, no value of any row.
fn tell(data: &Path, inspection: &Inspection, roles: &Roles<'_>) {
    let first = if inspection.is_longer { "first " } else { "" };
    print_result(&format!("{}: {first}{} records, {}", data.display(), inspection.records, inspection.encoding));
    print_result(&format!("  text       {} ({:.0} characters on average)", roles.text.name, roles.text.mean_chars));
    if let Some(pair) = roles.text_pair {
        print_result(&format!("  text_pair  {} ({:.0} characters on average)", pair.name, pair.mean_chars));
    }
    if let Some(label) = roles.label {
        print_result(&format!("  label      {} ({} classes)", label.name, label.distinct));
    }
    if let Some(id) = roles.id {
        print_result(&format!("  id         {}", id.name));
    }
    if inspection.unreadable > 0 {
        print_result(&format!("  {} records cannot be read and will be rejected", inspection.unreadable));
    }
}

fn write(path: &Path, text: &str, force: bool) -> Result<()> {
    // `create_new` so that nothing is lost to a file that came in between.
    let mut options = std::fs::OpenOptions::new();
    options.write(true).truncate(force).create(force).create_new(!force);
    let mut file = options.open(path).doing("write", path)?;
    file.write_all(text.as_bytes()).doing("write", path)
}

/// All paths in `folders`, themselves included, that `wanted` takes; sorted, none twice.
fn candidates(folders: &[&str], wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let inner = |folder: &&str| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>();
    let all = folders.iter().flat_map(|folder| inner(folder).into_iter().chain([PathBuf::from(folder)]));
    let mut found: Vec<PathBuf> = all.filter(|path| wanted(path)).map(|path| path.strip_prefix("./").map(Path::to_owned).unwrap_or(path)).collect();
    found.sort();
    found.dedup();
    found
}

fn only(found: &[PathBuf], what: &str, example: &str) -> Result<PathBuf> {
    match found {
        [one] => Ok(one.clone()),
        [] => Err(Error::input(format!("no {what} is in this folder or where it usually is")).hint(format!("name it: {example}"))),
        many => {
            let names: Vec<String> = many.iter().take(5).map(|path| path.display().to_string()).collect();
            let more = if many.len() > names.len() { ", …" } else { "" };
            Err(Error::usage(format!("there is more than one {what}: {}{more}", names.join(", "))).hint(format!("name one: {example}")))
        }
    }
}

/// The data file's name as a pipeline's: it becomes a folder in `out/`.
fn name_of(data: &Path) -> String {
    // `rows.csv.gz` is `rows` too.
    let unpacked = data.extension().and_then(|extension| Compression::of_extension(extension.to_str()?)).and(data.file_stem()).map(Path::new);
    let stem = unpacked.unwrap_or(data).file_stem().unwrap_or_default().to_string_lossy();
    let name: String = stem.chars().map(|c| if c.is_alphanumeric() || "-_".contains(c) { c } else { '-' }).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "pipeline".into() } else { name.to_owned() }
}

/// A path is a pattern in the source: its own signs stand for themselves.
fn escape_pattern(path: &str) -> String {
    path.chars().map(|c| if "*?[".contains(c) { format!("[{c}]") } else { c.to_string() }).collect()
}

/// Other tools have files of this name too.
fn is_schema(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.contains("\"title\": \"Pipeline file of pipe\""))
}
