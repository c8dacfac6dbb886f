//! Verdicts as documents: the blocks that speed is judged on, the cell and the scorecard.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use nanochat_plan::Precision;

use super::Judgement;

/// Outcome of a judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The bound is met.
    Pass,
    /// The bound is broken.
    Fail,
    /// The interval straddles the bound.
    Inconclusive,
    /// The two sides can't be compared.
    NotComparable,
    /// Evidence is lacking.
    Missing,
    /// Nothing is claimed (rules v2).
    Off,
}

/// Figures of one matrix cell over its seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CellSummary {
    /// Values of the axes, by dotted key.
    pub axes: BTreeMap<String, serde_json::Value>,
    /// What the axes say, for people; `all runs` without axes.
    pub label: String,
    /// Run ids in the cell, repeats included.
    pub runs: Vec<String>,
    /// Seeds in the cell, in order.
    pub seeds: Vec<u64>,
    /// Number of runs planned.
    pub planned: u64,
    /// Number of runs finished.
    pub finished: u64,
    /// Training tokens planned, per run.
    pub planned_tokens: u64,
    /// Training tokens spent over all runs in the cell, unfinished ones included.
    pub spent_tokens: u64,
    /// Whether this cell has the best mean of the quality metric among two or more finished cells.
    pub best: bool,
    /// Whether this is the cell that the others are held against; not written where it isn't.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub control: bool,
    /// This cell against the control in one sentence, from rules v2 on, where the two were compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Quality of this cell against the baseline.
    pub quality: Judgement,
    /// Speed of this cell against the fastest variant of the baseline.
    pub speed: Judgement,
    /// Speed of this cell against each variant of the baseline that ran on the same machine, the fastest first.
    pub speed_variants: Vec<SpeedComparison>,
    /// Reproducibility within this cell.
    pub reproducibility: Judgement,
    /// Drift of the evaluations within runs; not written where the spec has no rule for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Judgement>,
    /// Mean of the final validation bits per byte over the seeds.
    pub mean_val_bpb: Option<f64>,
    /// Sample standard deviation over the seeds; none below two.
    pub std_val_bpb: Option<f64>,
    /// 95% t interval of that mean; none below two seeds.
    pub interval_val_bpb: Option<(f64, f64)>,
    /// Median tokens per second over the finished runs.
    pub tokens_per_second: Option<f64>,
    /// Largest peak memory in bytes.
    pub peak_rss_bytes: Option<u64>,
}

/// `scorecard.json`: the verdicts over all runs of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scorecard {
    /// `nanochat.scorecard/v1`.
    pub schema: String,
    /// Name of the experiment.
    pub experiment: String,
    /// What the experiment is about, in the author's words.
    pub description: String,
    /// Rules by which the verdicts were reached.
    pub ruleset: String,
    /// The answer to the spec's question in one sentence, from rules v2 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The cells by their quality, from rules v2 on, where there are several that can be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranking: Option<Ranking>,
    /// Where the cells fall into several groups that can't be compared with each other, such as one for each budget: the
    /// rankings of the groups after the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_rankings: Vec<Ranking>,
    /// Full commit of the pinned baseline.
    pub baseline_commit: String,
    /// Path of the recorded baseline result, when the spec names one.
    pub baseline_results: Option<String>,
    /// Quality over all cells: the worst of them.
    pub quality: Judgement,
    /// Speed over all cells: the worst of them.
    pub speed: Judgement,
    /// Reproducibility over all cells: the worst of them.
    pub reproducibility: Judgement,
    /// Drift of the evaluations within runs; not written where the spec has no rule for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Judgement>,
    /// One entry a matrix cell.
    pub cells: Vec<CellSummary>,
    /// Run ids that the scorecard rests on.
    pub runs: Vec<String>,
    /// Number of runs planned.
    pub planned: u64,
    /// Number of runs finished.
    pub finished: u64,
    /// SHA-256 of every file that the scorecard rests on, by path relative to the experiment's folder; the recorded
    /// baseline by its path as the spec gives it.
    pub evidence: BTreeMap<String, String>,
}

/// The cells of a sweep by their mean, the best first, and which differences between them are resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ranking {
    /// What the cells have in common that those of other rankings haven't, such as `budget.flops=6e10`; none where there is
    /// one ranking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The metric.
    pub metric: String,
    /// Confidence level of the intervals, and of all resolved differences together.
    pub confidence: f64,
    /// Number of pairs of cells that were tested, for which the p values are corrected (Holm); 0 where none were.
    pub tests: u64,
    /// The cells, the best mean first.
    pub cells: Vec<RankedCell>,
    /// What keeps cells out, or differences from being tested; none where nothing does.
    pub note: Option<String>,
}

impl Scorecard {
    /// All rankings, the first group's first.
    pub fn rankings(&self) -> impl Iterator<Item = &Ranking> {
        self.ranking.iter().chain(&self.further_rankings)
    }
}

/// One cell of a ranking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RankedCell {
    /// Label of the cell.
    pub label: String,
    /// Mean of the metric over the seeds.
    pub mean: f64,
    /// 95% t interval of that mean by itself; none below two seeds.
    pub interval: Option<(f64, f64)>,
    /// Number of seeds.
    pub seeds: u64,
    /// This cell's mean minus the best one's; none for the best.
    pub difference: Option<f64>,
    /// 95% interval of that difference, by itself.
    pub difference_interval: Option<(f64, f64)>,
    /// Two-sided p value of that difference, corrected for all tests of the ranking.
    pub p_value: Option<f64>,
    /// Places, from 1, of the cells that this one is better than, with all tests of the ranking together in error with a
    /// probability of at most one minus the confidence.
    pub better_than: Vec<u64>,
}

/// Speed against one variant of the baseline: one way to run it that its own switches allow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpeedComparison {
    /// Name of the variant, such as `bf16-threads2`.
    pub variant: String,
    /// The variant's arithmetic.
    pub dtype: Precision,
    /// Whether this is the baseline's fastest variant, against which the verdict is reached.
    pub fastest: bool,
    /// Whether the candidate's arithmetic is the same.
    pub same_dtype: bool,
    /// The candidate against this variant.
    pub judgement: Judgement,
    /// Largest peak of the baseline's resident memory in bytes over the runs compared.
    pub baseline_peak_rss_bytes: Option<u64>,
    /// Blocks in which both arms ran back to back, in order; empty when the arms were timed apart.
    pub blocks: Vec<SpeedBlock>,
}

/// One run of each arm, back to back on one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpeedBlock {
    /// Number of the block, from 1.
    pub number: u64,
    /// Whether the baseline ran first in it.
    pub baseline_first: bool,
    /// Run id of the candidate's run.
    pub candidate_run: String,
    /// The candidate's figures.
    pub candidate: BlockArm,
    /// The baseline's figures.
    pub baseline: BlockArm,
    /// The candidate's tokens per second over the baseline's.
    pub ratio: f64,
    /// Bootstrap interval of that ratio from the step times inside the two runs, which is blind to noise between runs.
    pub interval: Option<(f64, f64)>,
    /// Validation bits per byte that both arms reach: the higher of their two final figures.
    pub target_val_bpb: Option<f64>,
}

/// What one arm did in a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlockArm {
    /// Tokens per second: median over the steps after warm-up, optimizer included.
    pub tokens_per_second: f64,
    /// Peak resident memory in bytes.
    pub peak_rss_bytes: Option<u64>,
    /// Seconds from the start to the end of the first step.
    pub startup_seconds: Option<f64>,
    /// Seconds to the target loss from the start, with everything that comes before the first step, and evaluations.
    pub target_seconds_with_startup: Option<f64>,
    /// Seconds to the target loss spent in steps, the first step left out.
    pub target_seconds_in_steps: Option<f64>,
}
