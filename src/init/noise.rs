//! What is known of the noise between seeds before the experiment has run: from the project's own results, else assumed.

use std::collections::BTreeMap;

use nanochat_artifacts::{ResultsRoot, RunDocuments, read_experiment};
use nanochat_lab::scorecard::statistics;
use nanochat_plan::configuration_hash;

/// Fewest seeds that say anything of their spread.
const FEWEST: usize = 3;
/// Where nothing was recorded: about what small models on generated text have, in bits per byte.
const ASSUMED: Noise = Noise { between: 0.007, paired: 0.0025 };
/// Two-sided confidence of a verdict's interval, as its upper quantile.
const INTERVAL: f64 = 0.975;
/// Chance that a difference of the stated size is seen.
const POWER: f64 = 0.8;

/// Standard deviations of a run's figure in bits per byte.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Noise {
    /// Between the seeds of a cell.
    between: f64,
    /// Of what is left when cells with the same seeds and initial weights are compared seed by seed.
    paired: f64,
}

/// The noise that a comparison has.
#[derive(Debug, Clone, PartialEq)]
pub struct Deviation {
    /// Standard deviation of a run's figure in bits per byte.
    pub value: f64,
    /// Where it is known from, as the end of a sentence.
    pub source: String,
    /// Degrees of freedom that each seed beyond the first adds.
    degrees: f64,
}

impl Deviation {
    /// The smallest true difference that so many seeds a cell show with 80% probability: the half-width of the interval and
    /// the quantile of that probability.
    pub(super) fn detects(&self, seeds: u64) -> f64 {
        let degrees = self.degrees * (seeds as f64 - 1.0);
        let reach = statistics::student_t_quantile(INTERVAL, degrees) + statistics::student_t_quantile(POWER, degrees);
        reach * self.value * (2.0 / seeds as f64).sqrt()
    }
}

/// The noise of the smallest budget that the project has recorded with several seeds; small specs come first. `paired`: the
/// cells start from the same weights, seed by seed.
pub(super) fn deviation(root: &ResultsRoot, cells: u64, paired: bool) -> Deviation {
    let folders = root.experiments().unwrap_or_default();
    // What can't be read there is no reason not to go on.
    let recorded = folders.iter().filter_map(|folder| read_experiment(folder).ok());
    let found = recorded.flat_map(|documents| of_runs(&documents.record.name, &documents.runs));
    let smallest = found.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, noise, source)| (noise, source));
    let assumed = || (ASSUMED, "assumed, since this project has recorded no three seeds yet".to_owned());
    let (noise, source) = smallest.unwrap_or_else(assumed);
    let degrees = if paired { cells.saturating_sub(1).max(1) as f64 } else { 2.0 };
    Deviation { value: if paired { noise.paired } else { noise.between }, source, degrees }
}

/// The values of a cell by seed.
type Cell = BTreeMap<u64, f64>;

/// The configurations with enough seeds, each with its FLOPs and its name.
fn of_runs(experiment: &str, runs: &[RunDocuments]) -> Vec<(f64, Noise, String)> {
    let mut configurations: BTreeMap<String, (f64, BTreeMap<String, Cell>)> = BTreeMap::new();
    for run in runs {
        let Some(bpb) = run.finished().and_then(|summary| summary.final_val_bpb) else { continue };
        let configuration = configurations.entry(configuration_hash(&run.plan));
        let (_, cells) = configuration.or_insert_with(|| (run.plan.total_flops as f64, BTreeMap::new()));
        cells.entry(format!("{:?}", run.plan.axes)).or_default().entry(run.plan.seed).or_insert(bpb);
    }
    let noise = |(flops, cells): (f64, BTreeMap<String, Cell>)| {
        let cells: Vec<Cell> = cells.into_values().filter(|cell| cell.len() >= FEWEST).collect();
        let seeds = cells.first()?.len();
        let source = format!("measured over {seeds} seeds of {experiment}");
        Some((flops, noise(&cells)?, source))
    };
    configurations.into_values().filter_map(noise).collect()
}

/// The noise of cells of one configuration; none where all seeds came to the same figure.
fn noise(cells: &[Cell]) -> Option<Noise> {
    let variances: Vec<f64> =
        cells.iter().filter_map(|cell| statistics::variance(&cell.values().copied().collect::<Vec<f64>>())).collect();
    let between = statistics::mean(&variances)?.sqrt();
    let paired = residual(cells).unwrap_or(between);
    (between > 0.0 && paired > 0.0).then_some(Noise { between, paired })
}

/// What means of cells and of seeds leave over; none for one cell, or cells of different seeds.
fn residual(cells: &[Cell]) -> Option<f64> {
    let (first, others) = cells.split_first()?;
    if others.is_empty() || !others.iter().all(|cell| cell.keys().eq(first.keys())) {
        return None;
    }
    let (count, seeds) = (cells.len() as f64, first.len() as f64);
    let of_cell = |cell: &Cell| cell.values().sum::<f64>() / seeds;
    let of_seed = |seed: &u64| cells.iter().filter_map(|cell| cell.get(seed)).sum::<f64>() / count;
    let grand = cells.iter().map(of_cell).sum::<f64>() / count;
    let squares = cells.iter().flat_map(|cell| {
        let mean = of_cell(cell);
        cell.iter().map(move |(seed, value)| (value - mean - of_seed(seed) + grand).powi(2))
    });
    Some((squares.sum::<f64>() / ((count - 1.0) * (seeds - 1.0))).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(values: [f64; 3]) -> Cell {
        (42..).zip(values).collect()
    }

    /// By hand: the differences are 0.0509, 0.0467 and 0.0434, with a standard deviation of 0.00376, and each run has its √2th.
    #[test]
    fn seeds_that_move_all_cells_alike_are_no_noise_of_a_paired_comparison() {
        let cells = [cell([1.2222, 1.2316, 1.2367]), cell([1.1713, 1.1849, 1.1933])];
        let noise = noise(&cells).unwrap();
        assert!((noise.paired - 0.00376 / 2f64.sqrt()).abs() < 1e-5, "{noise:?}");
        assert!(noise.between > 3.0 * noise.paired, "{noise:?}");
        assert_eq!(residual(&cells[..1]), None);
    }

    /// By hand: t(0.975, 2) = 4.30265 and t(0.8, 2) = 1.06066, so 5.36331 × 0.0025 × √(2/3) = 0.010948.
    #[test]
    fn two_cells_of_three_seeds_have_two_degrees_of_freedom() {
        let folder = tempfile::tempdir().unwrap();
        let deviation = deviation(&ResultsRoot::new(folder.path()), 2, true);
        assert!((deviation.detects(3) - 0.010_948).abs() < 1e-6, "{}", deviation.detects(3));
        assert!(deviation.source.starts_with("assumed"));
    }
}
