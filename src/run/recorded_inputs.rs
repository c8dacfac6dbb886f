//! Recorded runs' inputs against those that are here, for commands that only look: nothing is opened that takes long, and each input
//! is looked at once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nanochat_artifacts::{ResultsRoot, RunFolder, RunStatus, Summary, read_document};
use nanochat_engine::cache::{Cache, DEFAULT_LIMIT, Secret};
use nanochat_engine::checkpoint::{Checkpoints, tensors_sha256};
use nanochat_engine::data::{Known, known, resolve, shard_changes};
use nanochat_engine::evals::core::Bundle;
use nanochat_engine::tokenizer::Tokenizer;
use nanochat_plan::{InitPlan, OnCoreError, RunPlan, TokenizerPlan};

use super::inputs::{self, Inputs};
use super::resources::Resources;

/// Files of at most so many bytes are read on the spot.
const READ_AT_ONCE: u64 = 64 << 20;
/// Most files of an evaluation bundle that are looked at.
const MOST_FILES: usize = 10_000;

/// How the inputs that are here compare with those of a recorded run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputsHere {
    /// They are the same, or the plan alone decides them.
    Same,
    /// Some are other ones: which, in words.
    Changed(String),
    /// Some aren't here: which.
    Absent(Vec<&'static str>),
    /// Some are too large to be read for this, and nobody has read them since they were changed.
    Unread,
}

impl InputsHere {
    /// What to say of a run that is done; nothing where its inputs are those that it was made with.
    pub fn remark(&self) -> Option<String> {
        match self {
            Self::Same => None,
            Self::Changed(what) => Some(format!("changed: {what}")),
            Self::Absent(_) => Some("inputs not here to check".to_string()),
            Self::Unread => Some("inputs not checked; `run` does".to_string()),
        }
    }
}

/// The inputs of a project, each looked at once.
pub struct RecordedInputs {
    base: PathBuf,
    root: ResultsRoot,
    cache: Option<Arc<Cache>>,
    documents: HashMap<String, Known>,
    digests: HashMap<String, Seen>,
}

/// One input beside the data.
#[derive(Debug, Clone)]
enum Seen {
    Absent,
    Unread,
    Digest(String),
}

impl RecordedInputs {
    /// Of the project that holds these results.
    pub fn new(root: &ResultsRoot) -> Self {
        let cache = root.cache().filter(|folder| folder.is_dir());
        Self {
            base: root.project().to_path_buf(),
            root: root.clone().with_cache(None),
            cache: cache.map(|folder| Arc::new(Cache::new(folder, DEFAULT_LIMIT, Secret::of_this_user()))),
            documents: HashMap::new(),
            digests: HashMap::new(),
        }
    }

    /// Of a recorded run, by its own plan; none of one that isn't finished, or that another program made.
    pub fn of_run(&mut self, run: &RunFolder) -> Option<InputsHere> {
        let plan: RunPlan = read_document(&run.plan()).ok()?;
        let summary: Summary = read_document(&run.summary()).ok()?;
        (summary.status == RunStatus::Finished && summary.arm.is_none()).then(|| self.of_summary(&plan, &summary))
    }

    /// Of a finished run, by the plan that names them now.
    pub fn of_summary(&mut self, plan: &RunPlan, summary: &Summary) -> InputsHere {
        self.compare(plan, &Inputs::of(summary))
    }

    /// Of an interrupted run, whose checkpoint of that step holds the digests; none where it doesn't.
    pub(super) fn of_checkpoint(&mut self, plan: &RunPlan, run: &RunFolder, step: u64) -> Option<InputsHere> {
        let store = Checkpoints::open(&run.checkpoints()).ok()?;
        let recorded = serde_json::from_slice(&store.file(step, inputs::FILE)?).ok()?;
        Some(self.compare(plan, &recorded))
    }

    fn compare(&mut self, plan: &RunPlan, recorded: &Inputs) -> InputsHere {
        let (mut changed, mut absent, mut unread) = (Vec::new(), Vec::new(), false);
        match self.documents(plan) {
            Known::Made => {}
            Known::Absent => absent.push("data"),
            Known::Unread => unread = true,
            Known::Digest(now) if recorded.data.is_empty() || now == recorded.data => {}
            Known::Digest(now) => {
                let how = self.cache.as_ref().and_then(|cache| shard_changes(cache, &recorded.data, &now));
                changed.push(how.map_or_else(|| "data".to_string(), |how| format!("data ({how})")));
            }
        }
        let others = [
            ("tokenizer", self.tokenizer(plan), Some(&recorded.tokenizer)),
            ("initial weights", self.weights(plan), recorded.initial_weights.as_ref()),
            ("evaluation bundle", self.bundle(plan), recorded.bundle.as_ref()),
        ];
        for (name, seen, recorded) in others {
            match (seen, recorded.filter(|digest| !digest.is_empty())) {
                (None, _) | (_, None) => {}
                (Some(Seen::Absent), _) => absent.push(name),
                (Some(Seen::Unread), _) => unread = true,
                (Some(Seen::Digest(now)), Some(recorded)) => {
                    changed.extend((now != *recorded).then(|| name.to_string()))
                }
            }
        }
        match () {
            () if !changed.is_empty() => InputsHere::Changed(changed.join(", ")),
            () if !absent.is_empty() => InputsHere::Absent(absent),
            () if unread => InputsHere::Unread,
            () => InputsHere::Same,
        }
    }

    fn documents(&mut self, plan: &RunPlan) -> Known {
        let (base, cache) = (&self.base, self.cache.as_ref());
        let found = self.documents.entry(format!("{:?}", plan.data));
        found.or_insert_with(|| known(&plan.data, base, cache)).clone()
    }

    /// Of a stored tokenizer; one that is trained changes with the data.
    fn tokenizer(&mut self, plan: &RunPlan) -> Option<Seen> {
        let TokenizerPlan::Path(path) = &plan.tokenizer else { return None };
        let place = resolve(path, &self.base);
        Some(self.seen(format!("tokenizer {path}"), std::slice::from_ref(&place), || {
            Ok(Tokenizer::load(&place).map_err(drop)?.sha256())
        }))
    }

    fn weights(&mut self, plan: &RunPlan) -> Option<Seen> {
        let InitPlan::Weights(path) = &plan.init else { return None };
        let (place, root) = (resolve(path, &self.base), self.root.clone());
        Some(self.seen(format!("weights {path}"), &[place], || {
            let model = Resources::new(&root).model(plan, &candle_core::Device::Cpu).map_err(drop)?;
            tensors_sha256(model.parameters()).map_err(drop)
        }))
    }

    fn bundle(&mut self, plan: &RunPlan) -> Option<Seen> {
        let core = plan.eval.core.as_ref()?;
        let folder = resolve(&core.bundle, &self.base);
        let most = (core.max_per_task > 0).then_some(core.max_per_task as usize);
        let files = files_below(&folder);
        Some(self.seen(format!("bundle {core:?}"), &files, || {
            Ok(Bundle::open(&folder, most, OnCoreError::Skip).map_err(drop)?.sha256())
        }))
    }

    /// The digest of files, once; they aren't read where they are long.
    fn seen(&mut self, name: String, files: &[PathBuf], digest: impl FnOnce() -> Result<String, ()>) -> Seen {
        if let Some(seen) = self.digests.get(&name) {
            return seen.clone();
        }
        let seen = if files.is_empty() || files.iter().any(|file| !file.exists()) {
            Seen::Absent
        } else if files.iter().flat_map(|file| bytes_of(file)).sum::<u64>() > READ_AT_ONCE {
            Seen::Unread
        } else {
            digest().map_or(Seen::Unread, Seen::Digest)
        };
        self.digests.insert(name, seen.clone());
        seen
    }
}

/// Bytes of a file, or of each file in a folder.
fn bytes_of(path: &Path) -> Vec<u64> {
    let files = if path.is_dir() { files_below(path) } else { vec![path.to_path_buf()] };
    files.iter().filter_map(|file| file.metadata().ok()).map(|found| found.len()).collect()
}

/// The files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten().take(MOST_FILES) {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ => files.push(entry.path()),
            }
        }
        if files.len() > MOST_FILES {
            break;
        }
    }
    files
}
