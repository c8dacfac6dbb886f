//! What the planned number of runs can tell apart, from recorded noise.

use std::collections::BTreeSet;

use super::statistics::student_t_quantile;
use super::{CONFIDENCE, Metric, arms};
use nanochat_artifacts::{
    ArtifactError, BaselineResult, BaselineRun, NoiseEntry, NoiseRecord, QualityRule, ResultsRoot,
};
use nanochat_plan::{ModelShape, Power, RunPlan, configuration_hash};

/// Chance that a difference of the stated size is seen.
const POWER: f64 = 0.8;
/// Most seeds that are proposed.
const MAX_SEEDS: u64 = 10_000;

/// The noise of a metric: what the experiment recorded for itself, else what the project did, else what the baseline's
/// authors published. None when nobody measured it.
///
/// # Errors
/// A file in one of these places that isn't a noise record.
pub fn noise(root: &ResultsRoot, experiment: &str, metric: Metric) -> Result<Option<NoiseEntry>, ArtifactError> {
    for path in [root.experiment(experiment)?.noise(), root.noise()] {
        if let Some(entry) = NoiseRecord::recorded(&path)?.as_ref().and_then(|record| record.of(metric.word())) {
            return Ok(Some(entry.clone()));
        }
    }
    Ok(NoiseRecord::published()?.of(metric.word()).cloned())
}

/// Noise that rules v2 know of these plans: recorded in the same configuration, by the experiment or the project. None where
/// there is no such record; other depths and budgets say nothing.
///
/// # Errors
/// As [`noise`].
pub fn noise_of_configuration(
    root: &ResultsRoot,
    experiment: &str,
    metric: Metric,
    plans: &[RunPlan],
) -> Result<Option<NoiseEntry>, ArtifactError> {
    let wanted: BTreeSet<String> = plans.iter().map(configuration_hash).collect();
    for path in [root.experiment(experiment)?.noise(), root.noise()] {
        let entries = NoiseRecord::recorded(&path)?.map(|record| record.entries).unwrap_or_default();
        let fits = |entry: &NoiseEntry| {
            entry.metric == metric.word() && entry.configuration.as_ref().is_some_and(|own| wanted.contains(own))
        };
        if let Some(entry) = entries.into_iter().find(fits) {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// Smallest true difference of two means that a verdict sees with 80% probability: the half-width of its interval and
/// the quantile of that probability (the usual approximation of the noncentral distribution). None for arms too small
/// for an interval.
pub fn detectable(deviation: f64, candidate: u64, baseline: u64, fewest: usize) -> Option<f64> {
    if candidate.min(baseline) < fewest as u64 {
        return None;
    }
    let (n, m) = (candidate as f64, baseline as f64);
    let df = n + m - 2.0;
    let reach = student_t_quantile(0.5 + CONFIDENCE / 2.0, df) + student_t_quantile(POWER, df);
    Some(reach * deviation * (1.0 / n + 1.0 / m).sqrt())
}

/// Holds the tolerance against the noise for the seeds of these plans. The baseline counts with its recorded runs, or,
/// where none are recorded, with as many as there are seeds; of several shapes the one with the fewest runs stands.
/// `fewest`: runs an arm that the rules need for an interval.
pub fn power(
    rule: &QualityRule,
    plans: &[RunPlan],
    noise: &NoiseEntry,
    baseline: Option<&BaselineResult>,
    fewest: usize,
) -> Power {
    let seeds = plans.iter().map(|plan| plan.seed).collect::<BTreeSet<u64>>().len() as u64;
    let recorded = baseline.and_then(|result| weakest_arm(result, plans, rule.metric));
    let baseline_runs = recorded.as_ref().map_or(seeds, |arm| arm.len() as u64);
    let mean = recorded.as_deref().and_then(super::statistics::mean);
    let tolerance = rule.absolute.or_else(|| Some(rule.relative? * mean?.abs()));
    let smallest = detectable(noise.standard_deviation, seeds, baseline_runs, fewest);
    let reaches = |candidate: u64, baseline: u64| {
        Some(detectable(noise.standard_deviation, candidate, baseline, fewest)? <= tolerance?)
    };
    let mut needed = fewest as u64..=MAX_SEEDS;
    let is_known = tolerance.is_some_and(|tolerance| tolerance > 0.0);
    let seeds_needed = needed
        .find(|&seeds| is_known && reaches(seeds, recorded.as_ref().map_or(seeds, |_| baseline_runs)) == Some(true));
    let mut power = Power {
        metric: rule.metric,
        seeds,
        baseline_runs,
        standard_deviation: noise.standard_deviation,
        noise_source: noise.source.clone(),
        smallest_difference: smallest,
        tolerance,
        seeds_needed,
        is_enough: tolerance.map(|_| reaches(seeds, baseline_runs) == Some(true)),
        sentence: String::new(),
    };
    power.sentence = sentence(&power, fewest);
    power
}

/// The figures of the shape that the recording has the fewest counting runs of; none when it has none of these shapes.
fn weakest_arm(result: &BaselineResult, plans: &[RunPlan], metric: Metric) -> Option<Vec<f64>> {
    let mut shapes: Vec<&ModelShape> = Vec::new();
    for plan in plans {
        if !shapes.contains(&&plan.model) {
            shapes.push(&plan.model);
        }
    }
    let arm = |shape: &ModelShape| {
        let runs: Vec<&BaselineRun> = result.runs.iter().filter(|run| run.model == *shape).collect();
        arms::baseline(&runs, metric).figures()
    };
    shapes.into_iter().map(arm).filter(|arm| !arm.is_empty()).min_by_key(Vec::len)
}

fn sentence(power: &Power, fewest: usize) -> String {
    let Power { metric, seeds, baseline_runs, .. } = power;
    let planned = if *seeds == 1 { "1 seed is".to_owned() } else { format!("{seeds} seeds are") };
    let more = match power.seeds_needed {
        Some(seeds) => format!("{seeds} seeds would test the tolerance"),
        None if power.tolerance.is_some() => format!("no number of seeds up to {MAX_SEEDS} would test the tolerance"),
        None => "the tolerance is relative, and no baseline is recorded to give it a size".to_owned(),
    };
    let Some(smallest) = power.smallest_difference else {
        let why = if *seeds < fewest as u64 {
            format!("{planned} planned")
        } else {
            format!("the recorded baseline counts as {baseline_runs}")
        };
        return format!(
            "{metric} will be compared as a point: an interval takes {fewest} runs an arm, and {why}; {more}"
        );
    };
    let judged = match (power.tolerance, power.is_enough) {
        (Some(tolerance), Some(true)) => format!("enough for the tolerance of {}", brief(tolerance)),
        (Some(tolerance), _) => format!("too little for the tolerance of {}; {more}", brief(tolerance)),
        (None, _) => more,
    };
    format!(
        "{planned} enough to detect a difference of about {} in {metric} (standard deviation {}, {}); {judged}",
        brief(smallest),
        brief(power.standard_deviation),
        power.noise_source
    )
}

/// Three significant digits, as people read differences.
fn brief(value: f64) -> String {
    let digits = if value > 0.0 { (2.0 - value.log10().floor()).clamp(0.0, 12.0) } else { 0.0 };
    format!("{value:.*}", digits as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: t(0.975, 4) = 2.77645, t(0.8, 4) = 0.94096, so (2.77645 + 0.94096) × 0.00023 × √(2/3) = 0.00069811.
    #[test]
    fn the_published_noise_and_three_seeds() {
        let smallest = detectable(0.00023, 3, 3, 3).unwrap();
        assert!((smallest - 0.000_698_11).abs() < 5e-9, "{smallest}");
        assert_eq!((detectable(1.0, 2, 9, 3), detectable(1.0, 9, 1, 3), detectable(1.0, 0, 0, 3)), (None, None, None));
    }

    /// By hand: t(0.975, 21) = 2.07961, t(0.8, 21) = 0.85907, so (2.07961 + 0.85907) × √(1/3 + 1/20) = 1.81945.
    #[test]
    fn more_recorded_runs_of_the_baseline_sharpen_the_verdict() {
        let smallest = detectable(1.0, 3, 20, 3).unwrap();
        assert!((smallest - 1.81945).abs() < 5e-5, "{smallest}");
    }

    #[test]
    fn differences_are_written_with_three_digits() {
        let written = [0.000_698_11, 0.0062, 1.5, 123.4, 0.0].map(brief);
        assert_eq!(written, ["0.000698", "0.00620", "1.50", "123", "0"]);
    }

    #[test]
    fn noise_is_the_experiments_own_then_the_projects_then_the_published() {
        let folder = tempfile::tempdir().unwrap();
        let root = ResultsRoot::new(folder.path());
        let deviation = |metric: Metric| noise(&root, "case", metric).unwrap().map(|entry| entry.standard_deviation);
        assert_eq!((deviation(Metric::ValBpb), deviation(Metric::CoreMetric)), (Some(0.00023), Some(0.0062)));
        assert_eq!(deviation(Metric::MinValBpb), None);
        let write = |path: std::path::PathBuf, standard_deviation: f64| {
            let mut record = NoiseRecord::published().unwrap();
            record.entries.retain(|entry| entry.metric == "val_bpb");
            record.entries[0].standard_deviation = standard_deviation;
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            nanochat_artifacts::write_document(&path, &record).unwrap();
        };
        write(root.noise(), 0.5);
        assert_eq!((deviation(Metric::ValBpb), deviation(Metric::CoreMetric)), (Some(0.5), Some(0.0062)));
        write(root.experiment("case").unwrap().noise(), 0.25);
        assert_eq!(deviation(Metric::ValBpb), Some(0.25));
        std::fs::write(root.noise(), "{}").unwrap();
        assert!(noise(&root, "case", Metric::CoreMetric).is_err());
    }
}
