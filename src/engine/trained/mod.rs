//! A trained model on disk, whichever program wrote it: weights, tokenizer, and what is known of their making.
//!
//! A path may name a run's folder, its `checkpoints/`, one `step_…` of them, or a folder of the baseline's `model_….pt`
//! files, or one such file, or a folder that `nanochat export` wrote as safetensors. The tokenizer is the one stored with the checkpoint, or, for the baseline's, the one that its
//! folders keep in a known place; another can be given. A tokenizer that doesn't fit the model is refused.

mod exported;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::checkpoint::{CheckpointError, Checkpoints, Loaded, baseline};
use crate::model::Gpt;
use crate::tokenizer::{Tokenizer, TokenizerError};
use nanochat_artifacts::{ArtifactError, RunFolder, parse_document, read_document};
use nanochat_plan::shape::validate;
use nanochat_plan::{ModelShape, RunPlan};

/// A model ready for use.
#[derive(Debug)]
pub struct Trained {
    /// The model.
    pub model: Gpt,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The step after which it was saved.
    pub step: u64,
    /// The folder or file that it was read from.
    pub path: PathBuf,
    /// The plan of the run that made it; none for the baseline's.
    pub plan: Option<RunPlan>,
    /// What the user should know: damaged checkpoints that were passed over, values that were filled in.
    pub remarks: Vec<String>,
}

/// Why a trained model can't be opened.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum TrainedError {
    /// Nothing there looks like a checkpoint.
    #[error("`{}` holds no checkpoint", path.display())]
    #[diagnostic(help(
        "name a run's folder, its checkpoints/ folder, one step_… of them, a folder with the baseline's model_….pt files, or \
         one that `nanochat export --to safetensors` wrote"
    ))]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// A checkpoint without what makes it a model.
    #[error("`{}` is not a model's checkpoint: {reason}", path.display())]
    Incomplete {
        /// The checkpoint.
        path: PathBuf,
        /// What is lacking.
        reason: String,
    },
    /// No tokenizer was found.
    #[error("no tokenizer was found beside `{}`", path.display())]
    #[diagnostic(help("name one with `--tokenizer`: a folder, a tokenizer.json, a .tiktoken or a tokenizer.pkl"))]
    NoTokenizer {
        /// The checkpoint.
        path: PathBuf,
    },
    /// Model and tokenizer don't belong together.
    #[error("the tokenizer `{}` has {tokenizer} tokens, the model {model}", path.display())]
    #[diagnostic(help("name the tokenizer that the model was trained with, with `--tokenizer`"))]
    WrongTokenizer {
        /// The tokenizer.
        path: PathBuf,
        /// Its vocabulary.
        tokenizer: usize,
        /// The model's.
        model: usize,
    },
    /// The checkpoint can't be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The plan can't be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Plan(#[from] ArtifactError),
    /// The tokenizer can't be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// A checkpoint folder of this program's, and one step of it if one was named.
    Own(PathBuf, Option<u64>),
    /// A folder of the baseline's.
    Baseline(PathBuf, Option<u64>),
    /// A folder of weights as safetensors with their description.
    Exported(PathBuf),
}

/// Opens the model at `path` alone, as [`Trained::open`] does, without a tokenizer.
///
/// # Errors
/// No checkpoint there, or one that can't be read.
pub fn open_model(path: &Path, step: Option<u64>, device: &Device) -> Result<Gpt, TrainedError> {
    match locate(path)? {
        Place::Own(folder, named) => Ok(own_model(&folder, step.or(named), device)?.0),
        Place::Baseline(folder, named) => Ok(baseline_model(&folder, step.or(named), device)?.model),
        Place::Exported(folder) => Ok(exported::open(&folder, step, None, device)?.model),
    }
}

/// Loads one of our checkpoints: its model, its plan, and what else is in it.
fn own_model(folder: &Path, step: Option<u64>, device: &Device) -> Result<(Gpt, RunPlan, Loaded), TrainedError> {
    let store = Checkpoints::open(folder)?;
    let not_found = || TrainedError::NotFound { path: folder.to_path_buf() };
    let mut loaded = match step {
        Some(step) => store.load(step, device)?,
        None => store.latest(device)?.ok_or_else(not_found)?,
    };
    let run = folder.canonicalize().ok().and_then(|folder| folder.parent().map(RunFolder::at));
    let plan: RunPlan = match loaded.files.get("plan.json") {
        Some(own) => parse_document(&loaded.path.join("plan.json"), own)?,
        None => read_document(&run.ok_or_else(not_found)?.plan())?,
    };
    let weights = loaded.tensors.remove("model").ok_or_else(|| TrainedError::Incomplete {
        path: loaded.path.clone(),
        reason: "it has no tensors `model`".into(),
    })?;
    let model = model_of(&plan.model, weights.into_iter().collect(), &loaded.path, &loaded.path, device)?;
    Ok((model, plan, loaded))
}

/// The model of a shape that the file or folder `described` says, and of weights that lie in `stored`.
fn model_of(
    shape: &ModelShape,
    weights: HashMap<String, Tensor>,
    described: &Path,
    stored: &Path,
    device: &Device,
) -> Result<Gpt, TrainedError> {
    let incomplete = |path: &Path, reason: String| TrainedError::Incomplete { path: path.to_path_buf(), reason };
    validate(shape).map_err(|error| incomplete(described, error.to_string()))?;
    Gpt::from_tensors(shape, &weights, device).map_err(|error| incomplete(stored, error.to_string()))
}

/// One of the baseline's checkpoints.
struct FromBaseline {
    model: Gpt,
    path: PathBuf,
    step: u64,
    mended: Vec<String>,
}

/// Loads one of the baseline's checkpoints.
fn baseline_model(folder: &Path, step: Option<u64>, device: &Device) -> Result<FromBaseline, TrainedError> {
    let loaded = baseline::load(folder, step, device)?;
    let path = folder.join(format!("model_{:06}.pt", loaded.step));
    let described = folder.join(format!("meta_{:06}.json", loaded.step));
    let shape: ModelShape = serde_json::from_value(loaded.model_config)
        .map_err(|error| TrainedError::Incomplete { path: described.clone(), reason: error.to_string() })?;
    let model = model_of(&shape, loaded.weights.into_iter().collect(), &described, &path, device)?;
    Ok(FromBaseline { model, path, step: loaded.step, mended: loaded.mended })
}

impl Trained {
    /// Opens the model at `path`: the named step, else the newest that is whole.
    pub fn open(
        path: &Path,
        step: Option<u64>,
        tokenizer: Option<&Path>,
        device: &Device,
    ) -> Result<Self, TrainedError> {
        match locate(path)? {
            Place::Own(folder, named) => Self::open_own(&folder, step.or(named), tokenizer, device),
            Place::Baseline(folder, named) => Self::open_baseline(&folder, step.or(named), tokenizer, device),
            Place::Exported(folder) => exported::open(&folder, step, tokenizer, device),
        }
    }

    fn open_own(
        folder: &Path,
        step: Option<u64>,
        tokenizer: Option<&Path>,
        device: &Device,
    ) -> Result<Self, TrainedError> {
        let (model, plan, loaded) = own_model(folder, step, device)?;
        let stored = loaded.path.join("tokenizer.json");
        let found = tokenizer.map(Path::to_path_buf).or_else(|| stored.is_file().then_some(stored));
        let tokenizer = fitting_tokenizer(found, &loaded.path, &plan.model)?;
        let Loaded { step, path, skipped, .. } = loaded;
        let remarks =
            skipped.into_iter().map(|(path, reason)| format!("passed over `{}`: {reason}", path.display())).collect();
        Ok(Self { model, tokenizer, step, path, plan: Some(plan), remarks })
    }

    fn open_baseline(
        folder: &Path,
        step: Option<u64>,
        tokenizer: Option<&Path>,
        device: &Device,
    ) -> Result<Self, TrainedError> {
        let FromBaseline { model, path, step, mended: remarks } = baseline_model(folder, step, device)?;
        let found = tokenizer.map(Path::to_path_buf).or_else(|| baseline_tokenizer(folder, model.shape()));
        let tokenizer = fitting_tokenizer(found, &path, model.shape())?;
        Ok(Self { model, tokenizer, step, path, plan: None, remarks })
    }
}

/// Finds out what lies at a path.
fn locate(path: &Path) -> Result<Place, TrainedError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let parent = || match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let numbered =
        |prefix: &str, suffix: &str| -> Option<u64> { name.strip_prefix(prefix)?.strip_suffix(suffix)?.parse().ok() };
    if path.is_file()
        && let Some(step) = numbered("model_", ".pt")
    {
        return Ok(Place::Baseline(parent(), Some(step)));
    }
    if path.is_dir() {
        if let Some(step) = numbered("step_", "") {
            return Ok(Place::Own(parent(), Some(step)));
        }
        let inner = RunFolder::at(path).checkpoints();
        for folder in [inner.as_path(), path] {
            if !Checkpoints::open(folder)?.steps().is_empty() {
                return Ok(Place::Own(folder.to_path_buf(), None));
            }
        }
        if !baseline::steps(path).is_empty() {
            return Ok(Place::Baseline(path.to_path_buf(), None));
        }
        if exported::is_at(path) {
            return Ok(Place::Exported(path.to_path_buf()));
        }
    }
    Err(TrainedError::NotFound { path: path.to_path_buf() })
}

/// Where the baseline keeps tokenizers: `tokenizer/` in its base folder, two above a checkpoint's; or files laid beside.
fn baseline_tokenizer(folder: &Path, shape: &ModelShape) -> Option<PathBuf> {
    let folder = folder.canonicalize().ok()?;
    let beside = |folder: &Path| {
        let names =
            [format!("tokenizer_{}.tiktoken", shape.vocab_size), "tokenizer.json".into(), "tokenizer.pkl".into()];
        names.into_iter().map(|name| folder.join(name)).find(|path| path.is_file())
    };
    let above = folder.parent();
    let base = above.and_then(Path::parent).map(|base| base.join("tokenizer"));
    [Some(folder.as_path()), above, base.as_deref()].into_iter().flatten().find_map(beside)
}

fn fitting_tokenizer(
    found: Option<PathBuf>,
    checkpoint: &Path,
    shape: &ModelShape,
) -> Result<Arc<Tokenizer>, TrainedError> {
    let path = found.ok_or_else(|| TrainedError::NoTokenizer { path: checkpoint.to_path_buf() })?;
    let tokenizer = Tokenizer::load(&path)?;
    if tokenizer.vocab_size() != shape.vocab_size {
        let (tokenizer, model) = (tokenizer.vocab_size(), shape.vocab_size);
        return Err(TrainedError::WrongTokenizer { path, tokenizer, model });
    }
    Ok(Arc::new(tokenizer))
}
