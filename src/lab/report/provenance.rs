//! Where a report's figures come from: the two arms side by side, programs, machines, data.

use schemars::JsonSchema;
use serde::Serialize;

use super::Sources;
use nanochat_artifacts::Environment;

/// One row of the comparison of arms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Arm {
    /// What is compared.
    pub what: String,
    /// The baseline's.
    pub baseline: String,
    /// Ours.
    pub candidate: String,
    /// Whether the two differ.
    pub differs: bool,
}

/// Where the figures come from. Lists have one entry where all runs agree.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Provenance {
    /// Full commit of the baseline.
    pub baseline_commit: String,
    /// Path of the recorded baseline.
    pub baseline_results: Option<String>,
    /// Whether it is there.
    pub baseline_recorded: bool,
    /// Commits of this program, marked where the checkout had changes.
    pub code: Vec<String>,
    /// Machines in words.
    pub machines: Vec<String>,
    /// Operating systems.
    pub systems: Vec<String>,
    /// Versions of libraries.
    pub libraries: Vec<String>,
    /// Hashes of the data.
    pub data: Vec<String>,
    /// Hashes of the tokenizer.
    pub tokenizer: Vec<String>,
    /// Hardware profiles and precision.
    pub hardware: Vec<String>,
    /// Number of files whose hashes the scorecard holds.
    pub files: usize,
}

/// The two arms side by side: the first planned run and the first recorded one.
pub(super) fn arms(sources: &Sources) -> Vec<Arm> {
    let Some((run, base)) = sources.documents.runs.first().zip(sources.baseline.as_ref().and_then(|b| b.runs.first()))
    else {
        return Vec::new();
    };
    let (plan, summary) = (&run.plan, run.summary.as_ref());
    let shape = |m: &nanochat_plan::ModelShape| {
        format!(
            "{} layers, {} wide, {}/{} heads, context {}, vocabulary {}, windows {}",
            m.n_layer, m.n_embd, m.n_head, m.n_kv_head, m.sequence_len, m.vocab_size, m.window_pattern
        )
    };
    let hash = |hash: Option<&String>| {
        hash.filter(|hash| !hash.is_empty()).map_or("–".to_string(), |h| h.chars().take(12).collect())
    };
    let row = |what: &str, baseline: String, candidate: String| Arm {
        what: what.to_string(),
        differs: baseline != candidate && baseline != "–" && candidate != "–",
        baseline,
        candidate,
    };
    let machine = run.environment.as_ref().map(|e| &e.machine_id);
    vec![
        row("model", shape(&base.model), shape(&plan.model)),
        row("steps", base.steps.to_string(), plan.num_iterations.to_string()),
        row("tokens per step", base.total_batch_size.to_string(), plan.total_batch_size.to_string()),
        row("tokens", base.tokens.to_string(), plan.total_tokens.to_string()),
        row("precision", format!("{:?}", base.dtype).to_lowercase(), format!("{:?}", plan.dtype).to_lowercase()),
        row("data", hash(base.data_sha256.as_ref()), hash(summary.map(|s| &s.data_sha256))),
        row("tokenizer", hash(base.tokenizer_sha256.as_ref()), hash(summary.map(|s| &s.tokenizer_sha256))),
        row(
            "first batch",
            hash(base.first_batch_sha256.as_ref()),
            hash(summary.and_then(|s| s.first_batch_sha256.as_ref())),
        ),
        row("machine", hash(base.machine_id.as_ref()), hash(machine)),
    ]
}

/// Where all figures come from, over all runs.
pub(super) fn provenance(sources: &Sources) -> Provenance {
    let (card, runs) = (&sources.scorecard, &sources.documents.runs);
    let environments = || runs.iter().filter_map(|run| run.environment.as_ref());
    let summaries = || runs.iter().filter_map(|run| run.summary.as_ref());
    Provenance {
        baseline_commit: card.baseline_commit.clone(),
        baseline_results: card.baseline_results.clone(),
        baseline_recorded: sources.baseline.is_some(),
        code: distinct(environments().map(code)),
        machines: distinct(environments().map(machine)),
        systems: distinct(environments().map(|e| format!("{} on {}", e.os, e.arch))),
        libraries: distinct(
            environments().flat_map(|e| e.libraries.iter().map(|(name, version)| format!("{name} {version}"))),
        ),
        data: distinct(summaries().map(|s| s.data_sha256.clone()).filter(|hash| !hash.is_empty())),
        tokenizer: distinct(summaries().map(|s| s.tokenizer_sha256.clone()).filter(|hash| !hash.is_empty())),
        hardware: distinct(
            runs.iter().map(|run| format!("{}, {}", run.plan.hardware, format!("{:?}", run.plan.dtype).to_lowercase())),
        ),
        files: card.evidence.len(),
    }
}

/// Different values in order of appearance.
fn distinct(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

fn code(environment: &Environment) -> String {
    let commit =
        environment.code_commit.as_ref().map(|commit| format!(" at {}", commit.chars().take(12).collect::<String>()));
    let changed = if environment.code_clean == Some(false) { ", with uncommitted changes" } else { "" };
    format!("nanochat {}{}{changed}", environment.program_version, commit.unwrap_or_default())
}

fn machine(environment: &Environment) -> String {
    let gpus = if environment.gpus.is_empty() { String::new() } else { format!(", {}", environment.gpus.join(", ")) };
    let short: String = environment.machine_id.chars().take(12).collect();
    let mismatch = if environment.hardware_matches_profile { "" } else { ", not what the profile says" };
    let stepping = environment.cpu_stepping.as_ref().map(|stepping| format!(", {stepping}")).unwrap_or_default();
    let memory = environment.memory_bytes as f64 / f64::from(1 << 30);
    format!(
        "{}{stepping} ({} cores, {} threads, {memory:.0} GiB{gpus}){mismatch}, machine {short}",
        environment.cpu, environment.cores, environment.threads
    )
}
