//! The leaderboard: all matrix cells of all experiments, and the recorded baselines, best first among those whose bits per
//! byte can be compared: same data, tokenizer and evaluation.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use nanochat_artifacts::{
    ArtifactError, BaselineResult, BaselineRun, CellSummary, ExperimentDocuments, ExperimentFolder, ResultsRoot,
    RunDocuments, RunStatus, Scorecard, Verdict, read_document, read_experiment,
};

use nanochat_experiment::{self as experiment, LoadOptions};
use nanochat_plan::{DataPlan, RunPlan, TokenizerPlan};

use super::statistics;
use super::variants;

/// How the names of profiles end that only show whether training works.
const SMOKE: &str = "smoke";

/// What the template `leaderboard.md` is given.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct LeaderboardContext {
    /// Groups inside which figures can be compared, the largest first.
    pub groups: Vec<LeaderboardGroup>,
}

/// Rows on the same data and tokenizer.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct LeaderboardGroup {
    /// Data and tokenizer in words; none where only recordings without a plan are here.
    pub words: Option<String>,
    /// SHA-256 of the data.
    pub data: String,
    /// SHA-256 of the tokenizer.
    pub tokenizer: String,
    /// The rows, lowest bits per byte first.
    pub rows: Vec<LeaderboardRow>,
}

/// One matrix cell, or one recording of the baseline.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct LeaderboardRow {
    /// The experiment, or the recording.
    pub name: String,
    /// Link to the report from `results/`, when there is one.
    pub report: Option<String>,
    /// What the axes say; the variant of a recording.
    pub label: String,
    /// Whether this is karpathy/nanochat.
    pub baseline: bool,
    /// Mean of the final validation bits per byte over the seeds.
    pub val_bpb: f64,
    /// Half of its 95% interval.
    pub reach: Option<f64>,
    /// Number of seeds.
    pub seeds: u64,
    /// Layers.
    pub layers: u64,
    /// Width.
    pub width: u64,
    /// Training tokens of a run.
    pub tokens: u64,
    /// Precision.
    pub dtype: String,
    /// Median tokens per second.
    pub tokens_per_second: Option<f64>,
    /// Largest peak memory in bytes.
    pub peak_rss_bytes: Option<u64>,
    /// The first digits of the machine's digest.
    pub machine: Option<String>,
    /// Verdict on quality; none for the baseline itself.
    pub quality: Option<Verdict>,
    /// Verdict on speed.
    pub speed: Option<Verdict>,
    /// Verdict on reproducibility.
    pub reproducibility: Option<Verdict>,
}

/// Collects the rows from everything under `results/` that git doesn't ignore, from the scorecards as they are.
///
/// # Errors
/// Documents that can't be read.
pub fn leaderboard(root: &ResultsRoot) -> Result<LeaderboardContext, ArtifactError> {
    let mut rows: Vec<Placed> = Vec::new();
    let planned = planned(root);
    for folder in root.experiments()? {
        if !root.is_ignored(folder.path()) && folder.scorecard().is_file() {
            rows.extend(of_experiment(root, &folder, planned.get(&folder.name()))?);
        }
    }
    for path in root.baselines()? {
        if !root.is_ignored(&path) {
            rows.extend(of_recording(&read_document::<BaselineResult>(&path)?));
        }
    }
    Ok(LeaderboardContext { groups: grouped(rows) })
}

/// Hashes of the plans of each spec in `experiments/`, by name. A spec that can't be read here leaves nothing out.
fn planned(root: &ResultsRoot) -> BTreeMap<String, BTreeSet<String>> {
    let mut planned = BTreeMap::new();
    let entries = std::fs::read_dir(root.project().join("experiments")).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    for path in paths {
        let Ok(spec) = experiment::load(&path, &LoadOptions::default()) else { continue };
        let Ok(plans) = experiment::expand(&spec) else { continue };
        planned.insert(spec.name.clone(), plans.into_iter().map(|plan| plan.plan_hash).collect());
    }
    planned
}

/// A row with the hashes of its data and tokenizer, and these in words where a plan says them.
type Placed = ((String, String), Option<String>, LeaderboardRow);

fn grouped(rows: Vec<Placed>) -> Vec<LeaderboardGroup> {
    let mut groups: BTreeMap<(String, String), (Option<String>, Vec<LeaderboardRow>)> = BTreeMap::new();
    for (place, words, row) in rows {
        let group = groups.entry(place).or_default();
        // Of several spellings the first in order, so that the order of the experiments doesn't matter.
        group.0 = [group.0.take(), words].into_iter().flatten().min();
        group.1.push(row);
    }
    let mut groups: Vec<LeaderboardGroup> = groups
        .into_iter()
        .map(|((data, tokenizer), (words, mut rows))| {
            rows.sort_by(|a, b| a.val_bpb.total_cmp(&b.val_bpb));
            LeaderboardGroup { words, data, tokenizer, rows }
        })
        .collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.rows.len()));
    groups
}

/// The cells of an experiment; `planned` are the hashes of its spec's plans, where there is one.
fn of_experiment(
    root: &ResultsRoot,
    folder: &ExperimentFolder,
    planned: Option<&BTreeSet<String>>,
) -> Result<Vec<Placed>, ArtifactError> {
    let card: Scorecard = read_document(&folder.scorecard())?;
    let documents = read_experiment(folder)?;
    let report = root.report_markdown(&card.experiment)?;
    let link = report.is_file().then(|| format!("../reports/{}.md", card.experiment));
    let rows = card.cells.iter().filter_map(|cell| of_cell(cell, &card, &documents, link.clone(), planned));
    Ok(rows.collect())
}

fn of_cell(
    cell: &CellSummary,
    card: &Scorecard,
    documents: &ExperimentDocuments,
    report: Option<String>,
    planned: Option<&BTreeSet<String>>,
) -> Option<Placed> {
    let finished = |run: &&RunDocuments| cell.runs.contains(&run.plan.run_id) && run.finished().is_some();
    let run = documents.runs.iter().find(finished)?;
    let (plan, summary) = (&run.plan, run.finished()?);
    // What was run under other values than the spec's, and what only shows that training works, are no results to rank.
    let as_specified = planned.is_none_or(|planned| planned.contains(&plan.plan_hash));
    if plan.hardware.ends_with(SMOKE) || !as_specified {
        return None;
    }
    let machine = run.environment.as_ref().map(|environment| environment.machine_id.chars().take(12).collect());
    let row = LeaderboardRow {
        name: card.experiment.clone(),
        report,
        label: cell.label.clone(),
        baseline: false,
        val_bpb: cell.mean_val_bpb?,
        reach: cell.interval_val_bpb.map(|(low, high)| (high - low) / 2.0),
        seeds: cell.seeds.len() as u64,
        layers: plan.model.n_layer as u64,
        width: plan.model.n_embd as u64,
        tokens: plan.total_tokens,
        dtype: plan.dtype.word().to_string(),
        tokens_per_second: cell.tokens_per_second,
        peak_rss_bytes: cell.peak_rss_bytes,
        machine,
        quality: Some(cell.quality.verdict()),
        speed: Some(cell.speed.verdict()),
        reproducibility: Some(cell.reproducibility.verdict()),
    };
    Some(((summary.data_sha256.clone(), summary.tokenizer_sha256.clone()), Some(words(plan)), row))
}

/// `books (parquet), tokenizer of 4096 tokens trained on it`.
fn words(plan: &RunPlan) -> String {
    let last = |path: &str| path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path).to_string();
    let data = match &plan.data {
        DataPlan::Parquet { path, .. } => format!("{} (parquet)", last(path)),
        DataPlan::Jsonl { path, .. } => format!("{} (JSON lines)", last(path)),
        DataPlan::Text { path } => format!("{} (text)", last(path)),
        DataPlan::Climbmix { shards, .. } => format!("climbmix, {shards} shards"),
        DataPlan::Synthetic { seed, bytes } => format!("generated corpus of {bytes} bytes, seed {seed}"),
    };
    match &plan.tokenizer {
        TokenizerPlan::Path(path) => format!("{data}, tokenizer {} of {} tokens", last(path), plan.model.vocab_size),
        TokenizerPlan::Train { vocab_size, .. } => format!("{data}, tokenizer of {vocab_size} tokens trained on it"),
    }
}

/// One row a variant and shape, over its finished runs; the baseline's seed doesn't change, so that it counts once.
fn of_recording(result: &BaselineResult) -> Vec<Placed> {
    let mut variants: Vec<(&str, Vec<&BaselineRun>)> = Vec::new();
    for run in result.runs.iter().filter(|run| run.status == RunStatus::Finished) {
        let name = variants::name(run);
        let same =
            |runs: &[&BaselineRun]| runs.iter().all(|other| other.model == run.model && other.tokens == run.tokens);
        match variants.iter_mut().find(|(other, runs)| *other == name && same(runs)) {
            Some((_, runs)) => runs.push(run),
            None => variants.push((name, vec![run])),
        }
    }
    variants.iter().filter_map(|(name, runs)| of_variant(result, name, runs)).collect()
}

fn of_variant(result: &BaselineResult, name: &str, runs: &[&BaselineRun]) -> Option<Placed> {
    let first = runs.first()?;
    let rates: Vec<f64> = runs.iter().filter_map(|run| run.tokens_per_second).collect();
    let row = LeaderboardRow {
        name: format!("karpathy/nanochat, {}", result.name),
        report: None,
        label: name.to_string(),
        baseline: true,
        val_bpb: first.final_val_bpb?,
        reach: None,
        seeds: 1,
        layers: first.model.n_layer as u64,
        width: first.model.n_embd as u64,
        tokens: first.tokens,
        dtype: first.dtype.word().to_string(),
        tokens_per_second: statistics::median(&rates),
        peak_rss_bytes: runs.iter().filter_map(|run| run.peak_rss_bytes).max(),
        machine: first.machine_id.as_ref().map(|id| id.chars().take(12).collect()),
        quality: None,
        speed: None,
        reproducibility: None,
    };
    let hash = |hash: &Option<String>| hash.clone().unwrap_or_else(|| "unknown".to_string());
    Some(((hash(&first.data_sha256), hash(&first.tokenizer_sha256)), None, row))
}
