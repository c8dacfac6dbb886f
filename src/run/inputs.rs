//! What a run reads, by digest: a run is done, or goes on, only with the inputs that it began with.

use serde::{Deserialize, Serialize};

use nanochat_artifacts::Summary;
use nanochat_engine::checkpoint::tensors_sha256;
use nanochat_engine::data::Corpus;
use nanochat_engine::evals::core::Bundle;
use nanochat_engine::tokenizer::Tokenizer;
use nanochat_plan::{InitPlan, RunPlan};

use super::resources::Resources;
use super::{RunError, open_device};

/// Name of the file in a checkpoint that holds the digests of the run's inputs.
pub(super) const FILE: &str = "inputs.json";

/// SHA-256 of everything that decides a run beside its plan, as 64 hex digits each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inputs {
    /// Of the documents, in order, with the borders of shards and groups.
    pub data: String,
    /// Of the tokenizer.
    pub tokenizer: String,
    /// Of the starting weights, where a file holds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_weights: Option<String>,
    /// Of the CORE tasks, where the plan asks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
}

impl Inputs {
    /// Those of opened resources; `initial_weights` is the digest of the model's starting weights.
    pub(super) fn new(
        plan: &RunPlan,
        corpus: &Corpus,
        tokenizer: &Tokenizer,
        initial_weights: Option<String>,
        bundle: Option<&Bundle>,
    ) -> Result<Self, RunError> {
        Ok(Self {
            data: corpus.sha256()?,
            tokenizer: tokenizer.sha256(),
            initial_weights: initial_weights.filter(|_| plan.init != InitPlan::Random),
            bundle: bundle.map(Bundle::sha256),
        })
    }

    /// What differs from a record's inputs, in words; what the record doesn't hold differs from nothing.
    pub(super) fn differences(&self, recorded: &Self) -> Vec<&'static str> {
        let both = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
        let mut differences = Vec::new();
        if self.data != recorded.data && !recorded.data.is_empty() {
            differences.push("data");
        }
        // A tokenizer that is trained on the data changes with it.
        if self.tokenizer != recorded.tokenizer && !recorded.tokenizer.is_empty() {
            differences.push("tokenizer");
        }
        if both(&self.initial_weights, &recorded.initial_weights) {
            differences.push("initial weights");
        }
        if both(&self.bundle, &recorded.bundle) {
            differences.push("evaluation bundle");
        }
        differences
    }

    /// Those that a summary records.
    pub(super) fn of(summary: &Summary) -> Self {
        Self {
            data: summary.data_sha256.clone(),
            tokenizer: summary.tokenizer_sha256.clone(),
            initial_weights: summary.initial_weights_sha256.clone(),
            bundle: summary.bundle_sha256.clone(),
        }
    }

    /// Refuses to go on with other inputs than a checkpoint's, which may hold none.
    pub(super) fn refuse_others(&self, checkpoint: Option<&Vec<u8>>) -> Result<(), RunError> {
        let Some(bytes) = checkpoint else { return Ok(()) };
        let unreadable = |error| RunError::OtherInputs { what: format!("its `{FILE}` can't be read: {error}") };
        let recorded = serde_json::from_slice::<Self>(bytes).map_err(unreadable)?;
        let differences = self.differences(&recorded);
        match differences.is_empty() {
            true => Ok(()),
            false => Err(RunError::OtherInputs { what: differences.join(", ") }),
        }
    }
}

/// How the inputs that are here compare with those of a recorded run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Compared {
    /// They are the same.
    Same,
    /// Some are other ones.
    Other(Vec<&'static str>),
    /// They can't be read here, for this reason.
    Unread(String),
}

/// Compares a recorded run's inputs with those that its plan names now.
pub(super) fn compare(plan: &RunPlan, summary: &Summary, resources: &mut Resources) -> Compared {
    match of_plan(plan, resources) {
        Ok(inputs) => match inputs.differences(&Inputs::of(summary)) {
            differences if differences.is_empty() => Compared::Same,
            differences => Compared::Other(differences),
        },
        Err(error) => Compared::Unread(error.to_string()),
    }
}

fn of_plan(plan: &RunPlan, resources: &mut Resources) -> Result<Inputs, RunError> {
    let corpus = resources.corpus(&plan.data)?;
    let tokenizer = resources.tokenizer(plan, &corpus)?;
    let weights = match &plan.init {
        InitPlan::Random => None,
        _ => Some(tensors_sha256(resources.model(plan, &open_device(plan)?)?.parameters())?),
    };
    let bundle = resources.bundle(plan, &tokenizer)?;
    Inputs::new(plan, &corpus, &tokenizer, weights, bundle.as_ref())
}
