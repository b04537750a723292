//! The key of a step: its settings, the content of its inputs, sources and assets, and what computes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pipe_core::cache::{Artifact, SHARED_PART, SourceNote};
use pipe_core::config::{Asset, AssetKind, EvaluateOf, KeySource, POLICIES, StageConfig, StageKind};
use pipe_core::digest::{self, DigestCache};
use pipe_core::key::{Components, InputComponent, Key};
use pipe_core::native::NativeLibraries;
use pipe_core::source::SourceFile;
use pipe_core::worker::ResolvedDevice;
use pipe_core::{Error, IoContext, Progress, Result, Step};
use pipe_data::read::Wanted;
use pipe_data::scrub::{ScrubKey, ner};
use pipe_data::tokenize::split_to_train_on;
use pipe_remote::Remotes;
use serde_json::json;

use crate::sources::{self, Fetched, NamedSource, Sources};

/// The file of a model folder that says which shape the model has.
const CONFIG: &str = "config.json";

/// What training reads of a model folder beside its tokenizer.
fn is_of_model(name: &str) -> bool {
    matches!(name, CONFIG | "generation_config.json") || is_weights(name)
}

/// What is looked up once for all steps.
pub(crate) struct KeyContext<'c> {
    pub(crate) root: &'c Path,
    pub(crate) digests: &'c DigestCache,
    /// An error only once a stage needs it: a machine without native libraries still ingests.
    pub(crate) native: &'c Result<NativeLibraries>,
    pub(crate) fetched: &'c Fetched,
}

/// A step's key components, and what was found on the way.
pub(crate) struct StepComponents {
    pub(crate) components: Components,
    pub(crate) key: Key,
    /// The stage's settings, with local folders in the place of URLs.
    pub(crate) config: StageConfig,
    pub(crate) sources: Vec<SourceFile>,
    /// What `sources` are called, in the same order.
    pub(crate) notes: Vec<SourceNote>,
}

/// What can be known of a step now.
pub(crate) enum Resolved {
    Known(Box<StepComponents>),
    /// Something that it reads would have to be fetched first, for these reasons. Only where nothing may be fetched.
    NotFetched(Vec<String>),
}

impl KeyContext<'_> {
    pub(crate) fn native(&self) -> Result<&NativeLibraries> {
        self.native.as_ref().map_err(Clone::clone)
    }

    /// `inputs` are the artifacts of the step's inputs, in their order.
    pub(crate) fn components(&self, step: &Step<'_>, inputs: &[&Artifact], progress: &dyn Progress) -> Result<Resolved> {
        let mut config = step.stage.config.clone();
        let kind = config.kind();
        let mut input_components = Vec::new();
        for (input, artifact) in step.inputs.iter().zip(inputs) {
            let parts = &artifact.manifest.parts;
            // A tokenizer that is trained is trained on this split, whichever ones it is then used on.
            let learnt_from = match &config {
                StageConfig::Tokenize(config) if config.training().is_some() => Some(split_to_train_on(&artifact.manifest.splits)?),
                _ => None,
            };
            let wanted = |part: &str| {
                let named = input.splits.as_ref().is_none_or(|splits| splits.iter().any(|split| split == part));
                part == SHARED_PART || named || learnt_from == Some(part)
            };
            if let Some(missing) =
                input.splits.iter().flatten().find(|split| input.splits.as_ref().is_some_and(|all| all.len() == 1) && !parts.contains_key(*split))
            {
                let known: Vec<&str> = artifact.manifest.splits.keys().map(String::as_str).collect();
                return Err(Error::usage(format!("stage `{}` reads the split `{missing}`, which its input does not have", step.stage.name))
                    .hint(format!("it has: {}; ingest's `split:` says which there are", known.join(", "))));
            }
            let parts = parts.iter().filter(|(part, _)| wanted(part)).map(|(part, content)| (part.clone(), content.clone())).collect();
            input_components.push(InputComponent { kind: input.kind, parts });
        }
        let named = match &config {
            StageConfig::Ingest(config) => match sources::resolve(self.root, &config.source, self.fetched, progress)? {
                Sources::Here(named) => named,
                Sources::Stale(reasons) => return Ok(Resolved::NotFetched(reasons)),
            },
            _ => Vec::new(),
        };
        let notes = named.iter().map(|source| self.note(source, progress)).collect::<Result<Vec<_>>>()?;
        let sources: Vec<SourceFile> = named.into_iter().map(|source| source.file).collect();
        let mut assets = BTreeMap::new();
        for asset in step.stage.config.assets() {
            let folder = match self.asset_folder(&asset, progress)? {
                Ok(folder) => folder,
                Err(reasons) => return Ok(Resolved::NotFetched(reasons)),
            };
            assets.insert(asset.setting.to_owned(), self.asset(&asset, &folder, progress)?);
            config.set_asset(asset.setting, folder);
        }
        let components = Components {
            stage: kind,
            version: kind.version(),
            with: config.semantic(),
            inputs: input_components,
            sources: notes.iter().map(|note| note.digest.clone()).collect(),
            assets,
            environment: self.environment(step, &sources)?,
        };
        Ok(Resolved::Known(Box::new(StepComponents { key: Key::of(&components), components, config, sources, notes })))
    }

    /// Whether all that a step reads still is what `components` says.
    pub(crate) fn unchanged(&self, step: &Step<'_>, inputs: &[&Artifact], components: &Components, progress: &dyn Progress) -> Result<bool> {
        Ok(matches!(self.components(step, inputs, progress)?, Resolved::Known(now) if now.components == *components))
    }

    fn note(&self, source: &NamedSource, progress: &dyn Progress) -> Result<SourceNote> {
        let (digest, size) = self.digests.file_and_size(&source.file.path, progress)?;
        Ok(SourceNote { name: source.name.clone(), digest, size, records: None })
    }

    /// Where an asset is on this disk. The inner error: why it would have to be fetched.
    fn asset_folder(&self, asset: &Asset, progress: &dyn Progress) -> Result<Result<PathBuf, Vec<String>>> {
        let url = asset.path.to_string_lossy();
        if !Remotes::is_remote(&url) {
            let path = self.root.join(&asset.path);
            return Ok(Ok(if asset.kind == AssetKind::ModelConfig && path.is_dir() { path.join(CONFIG) } else { path }));
        }
        let (what, wanted): (_, fn(&str) -> bool) = match asset.kind {
            AssetKind::ModelConfig => ("config", |name| name == CONFIG),
            AssetKind::Model => ("model", is_of_model),
            AssetKind::Tokenizer => ("tokenizer", |name| pipe_remote::model_file(name) && !is_weights(name)),
            AssetKind::Export => ("export", |_| true),
            AssetKind::Provenance => ("provenance", |name| name == pipe_core::provenance::FILE_NAME),
            AssetKind::EntityModel => ("model of names", |name| ner::MODEL_FILES.contains(&name)),
            AssetKind::Policy => {
                return Err(Error::usage(format!("`{}` is a file on this machine, not a URL", asset.setting)));
            }
        };
        let named = |reasons: Vec<String>| reasons.into_iter().map(|reason| format!("{} {reason}", asset.setting)).collect();
        if asset.kind == AssetKind::ModelConfig {
            let folder = url.strip_suffix(CONFIG).and_then(|folder| folder.strip_suffix('/')).unwrap_or(&url);
            return Ok(self.fetched.folder(folder, what, &wanted, progress)?.map(|folder| folder.join(CONFIG)).map_err(named));
        }
        Ok(self.fetched.folder(&url, what, &wanted, progress)?.map_err(named))
    }

    fn asset(&self, asset: &Asset, folder: &Path, progress: &dyn Progress) -> Result<String> {
        if asset.kind == AssetKind::Policy {
            if !folder.is_file() {
                return Err(Error::usage(format!("there is no policy file {} (named by `{}`)", folder.display(), asset.setting))
                    .hint(format!("give a path relative to the pipeline's root, or one of {}", POLICIES.join(", "))));
            }
            return self.digests.file(folder, progress);
        }
        if asset.kind == AssetKind::ModelConfig {
            if !folder.is_file() {
                return Err(Error::input(format!("there is no file {} (named by `{}`)", folder.display(), asset.setting))
                    .hint("give the path of a config.json, or write its keys into the pipeline file: `config: { hidden_size: 128, … }`"));
            }
            return Ok(self.digests.file_and_size(folder, progress)?.0);
        }
        if !folder.is_dir() {
            let hint = match asset.kind {
                AssetKind::ModelConfig => "give the path of a config.json",
                AssetKind::Model | AssetKind::Tokenizer => "give a Hugging Face model folder; the example model comes with `cargo xtask setup`",
                AssetKind::EntityModel => "export a token-classification model to ONNX, for example with `optimum-cli export onnx`",
                AssetKind::Policy | AssetKind::Export | AssetKind::Provenance => {
                    "give a folder made by the export stage; run the pipeline that publishes it first"
                }
            };
            return Err(Error::input(format!("there is no folder {} (named by `{}`)", folder.display(), asset.setting)).hint(hint));
        }
        let names: Vec<String> = match asset.kind {
            AssetKind::Tokenizer => {
                let mut names = pipe_data::tokenize::tokenizer_files(folder);
                // It bounds `max_length`.
                names.extend(Some(CONFIG.to_owned()).filter(|name| folder.join(name).is_file()));
                names
            }
            AssetKind::Provenance => vec![pipe_core::provenance::FILE_NAME.to_owned()],
            AssetKind::EntityModel => {
                // Weights beside the graph are for large models alone.
                let [required @ .., weights] = ner::MODEL_FILES;
                required.into_iter().chain(Some(weights).filter(|name| folder.join(name).is_file())).map(str::to_owned).collect()
            }
            AssetKind::Policy => Vec::new(),
            AssetKind::Export => list(folder)?,
            AssetKind::ModelConfig => vec![CONFIG.to_owned()],
            AssetKind::Model => list(folder)?.into_iter().filter(|name| is_of_model(name)).collect(),
        };
        if let Some(missing) = names.iter().find(|name| !folder.join(name).is_file()) {
            return Err(Error::input(format!("{} has no {missing}", folder.display())).hint(match asset.kind {
                AssetKind::EntityModel => "export a token-classification model to ONNX, for example with `optimum-cli export onnx`",
                _ => "give a folder made by pipe's export stage",
            }));
        }
        self.digests.files(folder, &names, progress)
    }

    /// What computes, as far as the bytes of the output depend on it: native libraries, device, detectors, formats.
    fn environment(&self, step: &Step<'_>, sources: &[SourceFile]) -> Result<BTreeMap<String, String>> {
        let mut environment = BTreeMap::new();
        let mut torch = |device: Option<ResolvedDevice>| -> Result<()> {
            environment.insert("libtorch".to_owned(), self.native()?.libtorch_version()?);
            if let Some(device) = device {
                let name = if device == ResolvedDevice::Cuda { "cuda" } else { "cpu" };
                environment.insert("device".to_owned(), name.to_owned());
            }
            Ok(())
        };
        match &step.stage.config {
            StageConfig::Ingest(config) => {
                self.add_key(config.scrub.key.as_ref(), &mut environment)?;
                if config.scrub.ner.is_some() {
                    environment.insert("onnxruntime".to_owned(), self.native()?.onnxruntime_version()?);
                }
                environment.insert("detectors".to_owned(), pipe_data::scrub::DETECTOR_VERSION.to_string());
                // From the extension where the file does not say; paths themselves are no part of a key.
                let formats: Vec<String> = sources.iter().map(|source| format!("{:?}", source.format).to_lowercase()).collect();
                environment.insert("formats".to_owned(), formats.join(","));
                // Where rows depend on what their file is called, its name is part of the input.
                let wanted = Wanted::of(&config.columns);
                if wanted.has_file_names() {
                    let names: Vec<Vec<String>> = sources.iter().map(|source| wanted.of_file(&source.name)).collect();
                    environment.insert("file_names".to_owned(), digest::of_bytes(json!(names).to_string().as_bytes()));
                }
                let splits = pipe_data::ingest::splits_of_files(config.split.as_ref(), sources.iter().map(|source| source.name.as_str()))?;
                if !splits.is_empty() {
                    environment.insert("splits_of_files".to_owned(), digest::of_bytes(json!(splits).to_string().as_bytes()));
                }
            }
            StageConfig::Tokenize(_) => {}
            StageConfig::Sql(_) => {
                environment.insert("polars".to_owned(), pipe_sql::VERSION.to_owned());
                // The query says which input is meant by its name.
                environment.insert("tables".to_owned(), step.tables().join(","));
            }
            StageConfig::Train(config) => torch(Some(self.native()?.resolve_device(config.device)?))?,
            StageConfig::Evaluate(config) if step.inputs[0].kind == StageKind::Train => torch(Some(self.native()?.resolve_device(config.device)?))?,
            StageConfig::Export(_) => {
                torch(None)?;
                environment.insert("onnxruntime".to_owned(), self.native()?.onnxruntime_version()?);
            }
            StageConfig::Predict(config) if step.predicts_with_torch() => {
                torch(Some(self.native()?.resolve_device(config.device)?))?;
                self.add_key(config.key.as_ref(), &mut environment)?;
                environment.insert("detectors".to_owned(), pipe_data::scrub::DETECTOR_VERSION.to_string());
            }
            StageConfig::Predict(config) => {
                self.add_key(config.key.as_ref(), &mut environment)?;
                environment.insert("detectors".to_owned(), pipe_data::scrub::DETECTOR_VERSION.to_string());
                environment.insert("onnxruntime".to_owned(), self.native()?.onnxruntime_version()?);
            }
            StageConfig::Evaluate(config) if config.of == EvaluateOf::Predictions => {}
            StageConfig::Evaluate(_) => {
                environment.insert("onnxruntime".to_owned(), self.native()?.onnxruntime_version()?);
            }
        }
        Ok(environment)
    }

    /// A secret key's id: what it makes differs from what another makes, and is not to be guessed from a cache key.
    fn add_key(&self, source: Option<&KeySource>, environment: &mut BTreeMap<String, String>) -> Result<()> {
        if let Some(source) = source {
            environment.insert("scrub_key".to_owned(), ScrubKey::read(source, self.root)?.id());
        }
        Ok(())
    }
}

fn is_weights(name: &str) -> bool {
    !name.contains('/') && [".safetensors", ".safetensors.index.json", ".gguf"].iter().any(|ending| name.ends_with(ending))
}

/// Plain files directly in `folder`, sorted.
fn list(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).doing("list", folder)? {
        let entry = entry.doing("list", folder)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_file() && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
