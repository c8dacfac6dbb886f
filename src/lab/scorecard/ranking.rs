//! The ranking of a sweep's cells (rules v2): means with intervals, and which differences are resolved when all pairs are
//! tested together (Holm's correction), whether or not a control is named.

use serde_json::Value;

use nanochat_artifacts::{RankedCell, Ranking, RunDocuments, Scorecard};

use super::answer::{self, Difference};
use super::claims::Claims;
use super::evidence::Evidence;
use super::quality::{Metric, rounded_interval};
use super::statistics::{self, rounded};
use super::{CONFIDENCE, cells, comparable};

/// Cells of which every pair is tested; more have means and intervals alone.
const MOST_TESTED: usize = 200;

/// The ranking of each group of cells that can be compared with each other, in the order of their first cells; groups of
/// one cell have none.
pub(super) fn rankings(claims: &Claims<'_>) -> Vec<Ranking> {
    let (groups, alone) = comparable_groups(claims);
    let several = groups.len() > 1;
    let mut rankings: Vec<Ranking> = groups
        .iter()
        .filter_map(|places| {
            Some(Ranking {
                group: several.then(|| shared(claims, places)).flatten(),
                ..ranking(claims, places.clone())?
            })
        })
        .collect();
    if let Some(first) = rankings.first_mut() {
        first.note = alone;
    }
    rankings
}

/// The ranking of cells that can be compared with each other.
fn ranking(claims: &Claims<'_>, mut places: Vec<usize>) -> Option<Ranking> {
    let metric = claims.rule.metric;
    let mean = |place: &usize| claims.sweep.sample(*place).and_then(|sample| sample.mean()).unwrap_or(f64::NAN);
    places.sort_by(|a, b| {
        let order = mean(a).total_cmp(&mean(b));
        if metric.lower_is_better() { order } else { order.reverse() }
    });
    let tests = if places.len() > MOST_TESTED { Tests::default() } else { Tests::of(claims, &places) };
    let best = mean(places.first()?);
    let cell = |(rank, place): (usize, &usize)| {
        let sample = claims.sweep.sample(*place)?;
        let interval = statistics::mean_interval(&sample.values(), CONFIDENCE);
        let against_best = tests.of_pair(0, rank);
        Some(RankedCell {
            label: claims.cells.get(*place)?.first().map(|run| cells::label(run))?,
            mean: rounded(sample.mean()?),
            interval: interval.as_ref().map(rounded_interval),
            seeds: sample.observations.len() as u64,
            difference: (rank > 0).then(|| rounded(mean(place) - best)),
            difference_interval: against_best.map(Test::behind),
            p_value: against_best.map(|test| rounded(test.corrected)),
            better_than: (rank + 1..places.len())
                .filter(|other| tests.of_pair(rank, *other).is_some_and(Test::is_resolved))
                .map(|other| other as u64 + 1)
                .collect(),
        })
    };
    Some(Ranking {
        group: None,
        metric: metric.word().to_string(),
        confidence: CONFIDENCE,
        tests: tests.0.len() as u64,
        cells: places.iter().enumerate().filter_map(cell).collect(),
        note: None,
    })
}

/// Cells with figures in groups that can be compared among themselves, and why those that are alone are left out.
fn comparable_groups(claims: &Claims<'_>) -> (Vec<Vec<usize>>, Option<String>) {
    let with_figure =
        (0..claims.cells.len()).filter(|place| claims.sweep.sample(*place).is_some_and(|s| s.mean().is_some()));
    let first = |place: usize| {
        claims
            .cells
            .get(place)
            .and_then(|runs: &Vec<&RunDocuments>| runs.iter().find_map(|run| Some((&run.plan, run.finished()?))))
    };
    let apart = |place: usize, group: &[usize]| {
        let pair = first(place).zip(group.first().and_then(|against| first(*against)));
        pair.map(|(a, b)| comparable::differences(a, b, claims.rule.metric))
    };
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for place in with_figure {
        match groups.iter_mut().find(|group| apart(place, group).is_some_and(|found| found.is_empty())) {
            Some(group) => group.push(place),
            None => groups.push(vec![place]),
        }
    }
    let (whole, alone): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| group.len() > 1);
    let left_out = alone.first().and_then(|group| group.first()).zip(whole.first());
    let found = left_out.and_then(|(place, group)| apart(*place, group));
    (whole, found.map(|found| format!("cells that differ in {} are left out", found.join(", "))))
}

/// The axes that all cells of a group have in common, as `budget.flops=6e10`; none where they share nothing.
fn shared(claims: &Claims<'_>, places: &[usize]) -> Option<String> {
    let axes_of = |place: &usize| claims.cells.get(*place)?.first().map(|run| &run.plan.axes);
    let first = axes_of(places.first()?)?;
    let in_all = |(key, value): &(&String, &Value)| {
        places.iter().all(|place| axes_of(place).is_some_and(|axes| axes.get(*key) == Some(*value)))
    };
    let named: Vec<String> = first.iter().filter(in_all).map(cells::axis).collect();
    (!named.is_empty()).then(|| named.join(", "))
}

/// One pair of cells, by their ranks.
struct Test {
    pair: (usize, usize),
    evidence: Evidence,
    corrected: f64,
}

impl Test {
    /// The interval of how far the second cell is behind the first.
    fn behind(&self) -> (f64, f64) {
        let estimate = self.evidence.estimate();
        (rounded(-estimate.high), rounded(-estimate.low))
    }

    fn is_resolved(&self) -> bool {
        self.corrected <= 1.0 - CONFIDENCE
    }
}

/// All pairs of cells with an interval.
#[derive(Default)]
struct Tests(Vec<Test>);

impl Tests {
    fn of(claims: &Claims<'_>, places: &[usize]) -> Self {
        let pairs = places.iter().enumerate().flat_map(|(rank, place)| {
            places.iter().enumerate().skip(rank + 1).map(move |(other, there)| ((rank, other), *place, *there))
        });
        let found: Vec<_> =
            pairs.filter_map(|(pair, here, there)| Some((pair, claims.sweep.compare(here, there)?))).collect();
        let p_values: Vec<f64> = found.iter().map(|(_, evidence)| evidence.p_value()).collect();
        let corrected = statistics::holm(&p_values);
        let tests = found.into_iter().zip(corrected);
        Self(tests.map(|((pair, evidence), corrected)| Test { pair, evidence, corrected }).collect())
    }

    fn of_pair(&self, better: usize, other: usize) -> Option<&Test> {
        self.0.iter().find(|test| test.pair == (better, other))
    }
}

/// The ranking's first place in one sentence; none without a ranking.
pub(super) fn sentence(card: &Scorecard) -> Option<String> {
    if !card.further_rankings.is_empty() {
        return of_groups(card);
    }
    let ranking = card.ranking.as_ref()?;
    let metric = Metric::ALL.iter().copied().find(|metric| metric.word() == ranking.metric)?;
    let (best, next) = (ranking.cells.first()?, ranking.cells.get(1)?);
    let axes = |label: &str| card.cells.iter().find(|cell| cell.label == label).map(|cell| &cell.axes);
    let (name, other) = (answer::cell_name(axes(&best.label)?), answer::other_name(axes(&next.label)?));
    let others = ranking.cells.len() - 1;
    let Some((low, high)) = next.difference_interval else {
        return Some(format!(
            "{name} has the best mean of {} cells, {:.5}; no interval says whether it is better",
            others + 1,
            best.mean
        ));
    };
    let difference = Difference { metric, value: -next.difference?, interval: (-high, -low), reference: next.mean };
    let counts = answer::seeds(best.seeds, next.seeds, "seed");
    let resolved = best.better_than.len();
    if others == 1 {
        let relation = if resolved == 1 { "is better than" } else { "can't be told from" };
        return Some(format!("{name} {relation} {other}: {}, {counts}", difference.words()));
    }
    let relation = match resolved {
        0 => format!("has the best mean of {} cells and can't be told from any of the others", others + 1),
        _ if resolved == others => format!("is the best of {} cells, resolved from all others", others + 1),
        _ => format!("has the best mean of {} cells, resolved from {resolved} of the others", others + 1),
    };
    Some(format!("{name} {relation} (Holm, 95%); next is {other}: {}, {counts}", difference.words()))
}

/// The best cell of each group in one sentence.
fn of_groups(card: &Scorecard) -> Option<String> {
    let rankings: Vec<&Ranking> = card.rankings().collect();
    let axes = |label: &str| card.cells.iter().find(|cell| cell.label == label).map(|cell| &cell.axes);
    let parts: Option<Vec<String>> = rankings
        .iter()
        .map(|ranking| {
            let best = ranking.cells.first()?;
            let in_group = |(key, value): &(&String, &Value)| {
                let mut labels = ranking.cells.iter().map(|cell| axes(&cell.label));
                labels.all(|axes| axes.is_some_and(|axes| axes.get(*key) == Some(*value)))
            };
            let (common, own): (Vec<_>, Vec<_>) = axes(&best.label)?.iter().partition(in_group);
            let name = |axes: Vec<(&String, &Value)>| {
                answer::cell_name(&axes.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect())
            };
            let others = ranking.cells.len() - 1;
            let relation = match best.better_than.len() {
                0 => format!("has the best mean of {} cells, told from none", others + 1),
                resolved if resolved == others => format!("is the best of {} cells", others + 1),
                resolved => {
                    format!("has the best mean of {} cells, resolved from {resolved} of the others", others + 1)
                }
            };
            Some(format!("at {} {} {relation}", name(common), name(own)))
        })
        .collect();
    let seeds = rankings.iter().flat_map(|ranking| &ranking.cells).map(|cell| cell.seeds);
    let (least, most) = (seeds.clone().min()?, seeds.max()?);
    let seeds =
        if least == most { answer::seeds(least, most, "seed") } else { format!("{least} to {most} seeds each") };
    Some(format!("{} (Holm, 95%, {seeds})", parts?.join("; ")))
}
