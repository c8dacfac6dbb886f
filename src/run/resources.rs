//! Resources that several runs share: opened data, trained tokenizers and their cache; and the device.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;

use nanochat_artifacts::ResultsRoot;
use nanochat_engine::cache::{Cache, DEFAULT_LIMIT, Secret};
use nanochat_engine::data::{Corpus, trained_tokenizer};
use nanochat_engine::device::{self, DeviceError};
use nanochat_engine::evals::core::{Bundle, CoreOptions};
use nanochat_engine::model::Gpt;
use nanochat_engine::tokenizer::Tokenizer;
use nanochat_formats::disguise::disguise;
use nanochat_plan::{DataPlan, InitPlan, OnCoreError, RunPlan, TokenizerPlan};

use super::RunError;

/// Opened data and tokenizers by their plan, so that the cells of a matrix don't repeat the work.
pub struct Resources {
    base: PathBuf,
    baseline_commit: Option<String>,
    cache: Option<Arc<Cache>>,
    corpora: HashMap<String, Arc<Corpus>>,
    tokenizers: HashMap<String, Arc<Tokenizer>>,
}

impl Resources {
    /// Resources of a project: relative paths in plans start at its folder; tokens and tokenizers are kept in its cache.
    pub fn new(root: &ResultsRoot) -> Self {
        Self {
            base: root.project().to_path_buf(),
            baseline_commit: None,
            cache: root.cache().map(|folder| Arc::new(Cache::new(folder, DEFAULT_LIMIT, Secret::of_this_user()))),
            corpora: HashMap::new(),
            tokenizers: HashMap::new(),
        }
    }

    /// The first problem of the cache, if there was one: it costs time, nothing else.
    pub fn cache_problem(&self) -> Option<&str> {
        self.cache.as_ref()?.problem()
    }

    /// Sets the commit whose initial weights `init: baseline` stands for.
    pub fn with_baseline(self, commit: &str) -> Self {
        Self { baseline_commit: Some(commit.to_string()), ..self }
    }

    /// The plan's data, opened once.
    pub fn corpus(&mut self, plan: &DataPlan) -> Result<Arc<Corpus>, RunError> {
        let key = format!("{plan:?}");
        if let Some(corpus) = self.corpora.get(&key) {
            return Ok(corpus.clone());
        }
        let corpus = Corpus::open(plan, &self.base)?;
        let corpus = Arc::new(match &self.cache {
            Some(cache) => corpus.with_cache(cache.clone()),
            None => corpus,
        });
        self.corpora.insert(key, corpus.clone());
        Ok(corpus)
    }

    /// The plan's tokenizer, loaded or trained once.
    pub fn tokenizer(&mut self, plan: &RunPlan, corpus: &Corpus) -> Result<Arc<Tokenizer>, RunError> {
        let key = match &plan.tokenizer {
            TokenizerPlan::Path(path) => path.clone(),
            trained => format!("{trained:?} on {:?}", plan.data),
        };
        if let Some(tokenizer) = self.tokenizers.get(&key) {
            return Ok(tokenizer.clone());
        }
        let tokenizer = Arc::new(match &plan.tokenizer {
            TokenizerPlan::Path(path) => Tokenizer::load(&nanochat_engine::data::resolve(path, &self.base))?,
            TokenizerPlan::Train { vocab_size, max_chars_per_document, max_chars } => {
                trained_tokenizer(corpus, *vocab_size, *max_chars_per_document, *max_chars)?
            }
        });
        if tokenizer.vocab_size() != plan.model.vocab_size {
            let (found, planned) = (tokenizer.vocab_size(), plan.model.vocab_size);
            return Err(RunError::VocabularyMismatch { found, planned });
        }
        self.tokenizers.insert(key, tokenizer.clone());
        Ok(tokenizer)
    }

    /// The plan's CORE tasks.
    pub fn bundle(&self, plan: &RunPlan, tokenizer: &Tokenizer) -> Result<Option<Bundle>, RunError> {
        let Some(core) = &plan.eval.core else { return Ok(None) };
        let most = (core.max_per_task > 0).then_some(core.max_per_task as usize);
        let folder = nanochat_engine::data::resolve(&core.bundle, &self.base);
        let mut bundle = Bundle::open(&folder, most, core.on_error)?;
        if core.on_error == OnCoreError::Skip {
            bundle.skip_unposable(tokenizer, CoreOptions::default().max_prompt_tokens)?;
        }
        Ok(Some(bundle))
    }

    /// A model with the plan's starting weights.
    pub fn model(&self, plan: &RunPlan, device: &Device) -> Result<Gpt, RunError> {
        match &plan.init {
            InitPlan::Random => Ok(Gpt::initialized(&plan.model, plan.seed, device)?),
            InitPlan::Baseline | InitPlan::Control => {
                let commit = self.baseline_commit.as_deref().unwrap_or_default();
                let path = ResultsRoot::new(&self.base).baseline_weights(commit, plan)?;
                if !path.is_file() {
                    return Err(RunError::BaselineWeights { path: path.display().to_string() });
                }
                weights(plan, &path, device)
            }
            InitPlan::Weights(path) => weights(plan, &nanochat_engine::data::resolve(path, &self.base), device),
        }
    }
}

fn weights(plan: &RunPlan, path: &Path, device: &Device) -> Result<Gpt, RunError> {
    let tensors = candle_core::safetensors::load(path, device)
        .map_err(|error| disguise(path).map_or_else(|| error.to_string(), str::to_owned))
        .map_err(|reason| RunError::Weights { path: path.display().to_string(), reason })?;
    Ok(Gpt::from_tensors(&plan.model, &tensors, device)?)
}

/// Opens the plan's device, and checks that its free memory holds the plan's estimate. Never opens another device.
pub fn open_device(plan: &RunPlan) -> Result<Device, RunError> {
    if plan.device_count > 1 {
        return Err(DeviceError::Several { profile: plan.hardware.clone(), count: plan.device_count }.into());
    }
    let device = device::open_device(plan.device)?;
    if let Some(memory) = device::device_memory(&device) {
        device::has_room(&memory, plan.estimate.memory_gib)?;
    }
    Ok(device)
}
