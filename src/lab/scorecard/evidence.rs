//! Evidence of rules v2: the difference of two arms with its standard error and degrees of freedom, from seeds.
//!
//! An arm has one value a seed; repeats of a seed are one. Two arms with at least two seeds each give an interval by the t
//! quantile of that few. Values are paired where the hashes of the initial weights agree, seed by seed. Cells of one
//! configuration, which differ in the treatment alone, pool their variance: over the residuals of cells and seeds where all
//! of them are paired, else over the spread inside the cells. Arms of other configurations are compared by Welch's interval.

use nanochat_artifacts::Method;

use super::statistics::{self, Estimated, student_t_quantile};
use super::{CONFIDENCE, SEEDS_FOR_INTERVAL};

/// One seed of an arm.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Observation {
    /// The seed.
    pub seed: u64,
    /// The metric.
    pub value: f64,
    /// Hash of the weights before the first step, where it is known.
    pub initial_weights: Option<String>,
}

/// An arm: one observation a seed, in the order of seeds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sample {
    /// The observations.
    pub observations: Vec<Observation>,
    /// Hash of the configuration, which arms that differ in the treatment alone have in common; none where it isn't known.
    pub configuration: Option<String>,
}

impl Sample {
    /// The values alone.
    pub fn values(&self) -> Vec<f64> {
        self.observations.iter().map(|one| one.value).collect()
    }

    /// The mean over the seeds.
    pub fn mean(&self) -> Option<f64> {
        statistics::mean(&self.values())
    }

    fn has_interval(&self) -> bool {
        self.observations.len() >= SEEDS_FOR_INTERVAL
    }

    /// Whether both arms have the same seeds, and each seed the same initial weights.
    fn pairs_with(&self, other: &Self) -> bool {
        let agree = |(a, b): (&Observation, &Observation)| {
            a.seed == b.seed && a.initial_weights.is_some() && a.initial_weights == b.initial_weights
        };
        self.observations.len() == other.observations.len()
            && self.observations.iter().zip(&other.observations).all(agree)
    }
}

/// How degrees of freedom grow with the seeds of an arm.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Degrees {
    /// So many for each seed beyond the first.
    PerSeed(f64),
    /// As many, whatever the seeds.
    Fixed(f64),
}

/// The difference of two arms.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Evidence {
    /// The first arm's mean minus the second's.
    pub difference: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Degrees of freedom.
    pub degrees: f64,
    /// How it was found.
    pub method: Method,
    /// Seeds of the smaller arm.
    seeds: u64,
    /// Standard deviation of the difference of one seed.
    deviation: f64,
    growth: Degrees,
}

impl Evidence {
    fn new(difference: f64, standard_error: f64, degrees: f64, method: Method) -> Self {
        let growth = Degrees::Fixed(degrees);
        Self { difference, standard_error, degrees, method, seeds: 0, deviation: 0.0, growth }
    }

    /// With what says how many seeds would decide.
    fn growing(self, seeds: usize, deviation: f64, growth: Degrees) -> Self {
        Self { seeds: seeds as u64, deviation, growth, ..self }
    }

    /// How many more seeds an arm would bring the interval's end to a bound that is so far away, if mean and noise stay; none
    /// where no practical number would.
    pub fn more_seeds(&self, distance: f64) -> Option<u64> {
        let needed = statistics::fewest(distance, |seeds| {
            let degrees = match self.growth {
                Degrees::PerSeed(each) => each * (seeds - 1.0),
                Degrees::Fixed(degrees) => degrees,
            };
            student_t_quantile(0.5 + CONFIDENCE / 2.0, degrees) * self.deviation / seeds.sqrt()
        })?;
        Some(needed.saturating_sub(self.seeds).max(1))
    }

    /// The difference with its interval.
    pub fn estimate(&self) -> Estimated {
        statistics::around(self.difference, self.standard_error, self.degrees, CONFIDENCE)
    }

    /// Two-sided p value of the difference.
    pub fn p_value(&self) -> f64 {
        statistics::p_value(self.difference, self.standard_error, self.degrees)
    }
}

/// The variance that cells of one configuration have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Spread {
    /// Of the residuals of cells and seeds, all cells paired.
    Blocks { variance: f64, each: f64 },
    /// Inside the cells.
    Within { variance: f64, degrees: f64, each: f64 },
}

/// The arms of an experiment, and what those of one configuration have in common.
#[derive(Debug, Clone, Default)]
pub(super) struct Sweep {
    samples: Vec<Sample>,
    groups: Vec<Group>,
}

#[derive(Debug, Clone)]
struct Group {
    members: Vec<usize>,
    spread: Option<Spread>,
}

impl Sweep {
    /// Groups the arms by their configuration.
    pub fn new(samples: Vec<Sample>) -> Self {
        let mut groups: Vec<(&String, Vec<usize>)> = Vec::new();
        for (place, sample) in samples.iter().enumerate().filter(|(_, sample)| sample.has_interval()) {
            let Some(configuration) = &sample.configuration else { continue };
            match groups.iter_mut().find(|(other, _)| *other == configuration) {
                Some((_, members)) => members.push(place),
                None => groups.push((configuration, vec![place])),
            }
        }
        let groups = groups.into_iter().map(|(_, members)| {
            let arms: Vec<&Sample> = members.iter().filter_map(|place| samples.get(*place)).collect();
            Group { spread: spread(&arms), members }
        });
        Self { groups: groups.collect(), samples }
    }

    /// The arm of a cell.
    pub fn sample(&self, place: usize) -> Option<&Sample> {
        self.samples.get(place)
    }

    /// The first arm against the second; none where one has fewer than two seeds.
    pub fn compare(&self, ours: usize, theirs: usize) -> Option<Evidence> {
        let (a, b) = (self.samples.get(ours)?, self.samples.get(theirs)?);
        let group = self.groups.iter().find(|group| group.members.contains(&ours) && group.members.contains(&theirs));
        let Some((group, spread)) = group.and_then(|group| Some((group, group.spread?))) else { return compare(a, b) };
        let difference = a.mean()? - b.mean()?;
        let (n, m) = (a.observations.len() as f64, b.observations.len() as f64);
        match spread {
            Spread::Blocks { variance, each } => {
                let degrees = each * (n - 1.0);
                let method = if group.members.len() > 2 { Method::PairedPooled } else { Method::Paired };
                let evidence = Evidence::new(difference, (2.0 * variance / n).sqrt(), degrees, method);
                Some(evidence.growing(a.observations.len(), (2.0 * variance).sqrt(), Degrees::PerSeed(each)))
            }
            Spread::Within { .. } if a.pairs_with(b) => compare(a, b),
            Spread::Within { variance, degrees, each } => {
                let error = (variance * (1.0 / n + 1.0 / m)).sqrt();
                let evidence = Evidence::new(difference, error, degrees, Method::Pooled);
                Some(evidence.growing(n.min(m) as usize, (2.0 * variance).sqrt(), Degrees::PerSeed(each)))
            }
        }
    }
}

/// What arms of one configuration have in common; none for one arm alone.
fn spread(arms: &[&Sample]) -> Option<Spread> {
    let (first, others) = arms.split_first()?;
    if others.is_empty() {
        return None;
    }
    let cells = arms.len() as f64;
    if others.iter().all(|other| first.pairs_with(other)) {
        let seeds = first.observations.len();
        let variance = residual_squares(arms, seeds)? / ((cells - 1.0) * (seeds as f64 - 1.0));
        return Some(Spread::Blocks { variance, each: cells - 1.0 });
    }
    let degrees: f64 = arms.iter().map(|arm| arm.observations.len() as f64 - 1.0).sum();
    let squares = |arm: &&Sample| Some(statistics::variance(&arm.values())? * (arm.observations.len() as f64 - 1.0));
    let squares: f64 = arms.iter().map(squares).collect::<Option<Vec<f64>>>()?.iter().sum();
    Some(Spread::Within { variance: squares / degrees, degrees, each: cells })
}

/// Sum of squares of what means of cells and of seeds leave over.
fn residual_squares(arms: &[&Sample], seeds: usize) -> Option<f64> {
    let rows: Vec<Vec<f64>> = arms.iter().map(|arm| arm.values()).collect();
    let of_seed = |seed: usize| rows.iter().filter_map(|row| row.get(seed).copied()).collect::<Vec<f64>>();
    let seed_means = (0..seeds).map(|seed| statistics::mean(&of_seed(seed))).collect::<Option<Vec<f64>>>()?;
    let cell_means = rows.iter().map(|row| statistics::mean(row)).collect::<Option<Vec<f64>>>()?;
    let grand = statistics::mean(&cell_means)?;
    let of_row = |(row, cell): (&Vec<f64>, &f64)| {
        row.iter().zip(&seed_means).map(|(value, seed)| (value - cell - seed + grand).powi(2)).sum::<f64>()
    };
    Some(rows.iter().zip(&cell_means).map(of_row).sum())
}

/// Two arms by themselves: paired where their initial weights agree, else Welch's interval.
pub(super) fn compare(a: &Sample, b: &Sample) -> Option<Evidence> {
    if !a.has_interval() || !b.has_interval() {
        return None;
    }
    let (ours, theirs) = (a.values(), b.values());
    let (n, m) = (ours.len() as f64, theirs.len() as f64);
    if a.pairs_with(b) {
        let differences: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a - b).collect();
        let deviation = statistics::variance(&differences)?.sqrt();
        let evidence = Evidence::new(statistics::mean(&differences)?, deviation / n.sqrt(), n - 1.0, Method::Paired);
        return Some(evidence.growing(ours.len(), deviation, Degrees::PerSeed(1.0)));
    }
    let (var_a, var_b) = (statistics::variance(&ours)?, statistics::variance(&theirs)?);
    let (a, b) = (var_a / n, var_b / m);
    // Without any spread the quotient would be none; the interval is a point then, whatever the degrees.
    let spread = (a * a / (n - 1.0) + b * b / (m - 1.0)).max(f64::MIN_POSITIVE);
    let degrees = ((a + b).powi(2) / spread).max(n.min(m) - 1.0);
    let difference = statistics::mean(&ours)? - statistics::mean(&theirs)?;
    let evidence = Evidence::new(difference, (a + b).sqrt(), degrees, Method::Welch);
    Some(evidence.growing(n.min(m) as usize, (var_a + var_b).sqrt(), Degrees::PerSeed(2.0)))
}

/// Two arms, one of which has too few seeds, by the noise of their configuration: its standard deviation with its own
/// degrees of freedom.
pub(super) fn lent(a: &Sample, b: &Sample, deviation: f64, runs: u64) -> Option<Evidence> {
    let (n, m) = (a.observations.len() as f64, b.observations.len() as f64);
    if runs < SEEDS_FOR_INTERVAL as u64 || n < 1.0 || m < 1.0 {
        return None;
    }
    let degrees = runs as f64 - 1.0;
    let difference = a.mean()? - b.mean()?;
    let evidence = Evidence::new(difference, deviation * (1.0 / n + 1.0 / m).sqrt(), degrees, Method::LentNoise);
    Some(evidence.growing(n.min(m) as usize, deviation * 2.0f64.sqrt(), Degrees::Fixed(degrees)))
}
