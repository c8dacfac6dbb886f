//! Differences in words (rules v2): which cell, how much in the unit and in percent, in which direction, interval, seeds.

use std::collections::BTreeMap;

use serde_json::Value;

use nanochat_artifacts::{Effect, Judgement, QualityClaim, Scorecard, SpeedClaim, Verdict};
use nanochat_plan::{ARM_AXIS, QualityMetric as Metric};

use super::quality::plural;

/// What a cell is called: `matrix_lr 0.3, depth 4`; an arm by its name.
pub(super) fn cell_name(axes: &BTreeMap<String, Value>) -> String {
    if axes.is_empty() {
        return "the candidate".to_string();
    }
    let named = axes.iter().map(|(key, value)| match key.as_str() {
        ARM_AXIS => text(value),
        key => format!("{} {}", key.rsplit('.').next().unwrap_or(key), text(value)),
    });
    named.collect::<Vec<_>>().join(", ")
}

/// What a cell is called beside one that was named: by its value where only one key varies.
pub(super) fn other_name(axes: &BTreeMap<String, Value>) -> String {
    match axes.values().next() {
        Some(value) if axes.len() == 1 => text(value),
        _ => cell_name(axes),
    }
}

/// A value as people write it.
pub(super) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| number(value), str::to_string)
}

/// Large numbers of few digits as powers of ten, as specs write them: `6e10`.
pub(crate) fn number(value: &Value) -> String {
    match value.as_f64().filter(|number| number.abs() >= 1e7) {
        Some(number) => {
            let short = format!("{number:e}");
            if short.len() <= 7 { short } else { value.to_string() }
        }
        None => value.to_string(),
    }
}

/// A difference in a metric, with what it is a difference of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Difference {
    /// The metric.
    pub metric: Metric,
    /// The first arm's mean minus the second's.
    pub value: f64,
    /// Its interval.
    pub interval: (f64, f64),
    /// The second arm's mean.
    pub reference: f64,
}

impl Difference {
    /// What the interval says.
    pub fn effect(&self) -> Effect {
        let (low, high) = self.interval;
        match (low > 0.0, high < 0.0) {
            (false, false) => Effect::Unresolved,
            (_, lower) if lower == self.metric.lower_is_better() => Effect::Better,
            _ => Effect::Worse,
        }
    }

    /// `0.0332 bpb lower (4.4%), 95% interval 0.0292 to 0.0372`.
    pub fn words(&self) -> String {
        let (low, high) = self.interval;
        let decimals = decimals((high - low) / 2.0);
        let number = |value: f64| format!("{:.decimals$}", value.abs());
        let sided = |value: f64| format!("{} {}", number(value), direction(value));
        let interval = match self.effect() {
            Effect::Unresolved => format!("{} to {}", sided(low), sided(high)),
            _ => format!("{} to {}", number(low.abs().min(high.abs())), number(low.abs().max(high.abs()))),
        };
        let percent = 100.0 * (self.value / self.reference).abs();
        let percent = if percent.is_finite() { format!(" ({})", share(percent)) } else { String::new() };
        format!(
            "{} {} {}{percent}, 95% interval {interval}",
            number(self.value),
            unit(self.metric),
            direction(self.value)
        )
    }
}

fn direction(value: f64) -> &'static str {
    if value < 0.0 { "lower" } else { "higher" }
}

fn unit(metric: Metric) -> &'static str {
    match metric {
        Metric::ValBpb => "bpb",
        Metric::MinValBpb => "bpb (lowest of the run)",
        Metric::CoreMetric => "CORE",
    }
}

/// Two digits of the interval's half-width, which is as far as the difference is known.
fn decimals(half_width: f64) -> usize {
    if half_width > 0.0 { (1.0 - half_width.log10().floor()).clamp(0.0, 9.0) as usize } else { 6 }
}

/// Percent with two digits.
fn share(percent: f64) -> String {
    let decimals = if percent > 0.0 { (1.0 - percent.log10().floor()).clamp(0.0, 6.0) as usize } else { 0 };
    format!("{percent:.decimals$}%")
}

/// `3 seeds each`, or `3 seeds against 2 baseline runs`.
pub(super) fn seeds(ours: u64, theirs: u64, noun: &str) -> String {
    match (ours == theirs, noun) {
        (true, "seed") => format!("{} each", plural(ours as usize, "seed")),
        _ => format!("{} against {}", plural(ours as usize, "seed"), plural(theirs as usize, noun)),
    }
}

/// The sentence on one comparison: `matrix_lr 0.3 is better than 0.2: …, 3 seeds each`.
pub(super) fn sentence(
    names: (&str, &str),
    difference: &Difference,
    verdict: (QualityClaim, Verdict),
    seeds: &str,
) -> String {
    let relation = match (difference.effect(), verdict) {
        (Effect::Better, _) => "is better than",
        (Effect::Worse, (QualityClaim::NoWorse, Verdict::Pass)) => "is worse by less than the tolerance than",
        (Effect::Worse, _) => "is worse than",
        (Effect::Unresolved, (QualityClaim::NoWorse, Verdict::Pass)) => "is no worse than",
        (Effect::Unresolved, _) => "can't be told from",
    };
    format!("{} {relation} {}: {}, {seeds}", names.0, names.1, difference.words())
}

/// The answer to the question of a whole experiment: the candidate's, or the best candidate's, or the ranking's.
pub(super) fn answer(card: &Scorecard, quality: QualityClaim, speed: Option<SpeedClaim>) -> String {
    let mut answer = match quality {
        QualityClaim::Off => super::ranking::sentence(card),
        _ => on_quality(card).or_else(|| super::ranking::sentence(card)),
    }
    .unwrap_or_else(|| format!("no answer yet: {}", card.quality.reason));
    if speed.is_some_and(|claim| claim != SpeedClaim::Off) {
        answer.push_str(&on_speed(&card.speed));
    }
    answer
}

/// The best candidate that was compared with the control, and how the others fared; none where none was.
fn on_quality(card: &Scorecard) -> Option<String> {
    let compared: Vec<_> = card
        .cells
        .iter()
        .filter(|cell| !cell.control && cell.quality.finding().is_some_and(|found| found.effect.is_some()))
        .collect();
    let order = |judgement: &Judgement| match judgement.finding().and_then(|found| found.effect) {
        Some(Effect::Better) => 0,
        Some(Effect::Unresolved) => 1,
        _ => 2,
    };
    let first = compared.iter().min_by_key(|cell| (order(&cell.quality), !cell.best))?;
    let sentence = first.answer.clone()?;
    let candidates = card.cells.iter().filter(|cell| !cell.control).count();
    if candidates == 1 {
        return Some(sentence);
    }
    let count = |effect: Effect| compared.iter().filter(|cell| has(&cell.quality, effect)).count();
    let mut parts = Vec::new();
    for (effect, word) in [(Effect::Better, "better"), (Effect::Unresolved, "not told apart"), (Effect::Worse, "worse")]
    {
        let found = count(effect);
        if found > 0 {
            parts.push(format!("{found} {word}"));
        }
    }
    if compared.len() < candidates {
        parts.push(format!("{} not compared", candidates - compared.len()));
    }
    Some(format!("{sentence}; of {candidates} cells {}", parts.join(", ")))
}

fn has(judgement: &Judgement, effect: Effect) -> bool {
    judgement.finding().and_then(|found| found.effect) == Some(effect)
}

fn on_speed(speed: &Judgement) -> String {
    match (speed.ratio(), speed.interval()) {
        (Some(ratio), Some((low, high))) => {
            format!(
                "; {ratio:.3} times as fast, 95% interval {low:.3} to {high:.3}, {}",
                plural(speed.candidate.runs as usize, "block")
            )
        }
        _ => "; speed isn't judged".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_say_how_much_and_in_which_direction() {
        let difference = |value, interval| Difference { metric: Metric::ValBpb, value, interval, reference: 0.75 };
        let better = difference(-0.03318, (-0.0372, -0.0292));
        assert_eq!(better.words(), "0.0332 bpb lower (4.4%), 95% interval 0.0292 to 0.0372");
        assert_eq!(better.effect(), Effect::Better);
        let open = difference(0.0004, (-0.0012, 0.002));
        assert_eq!(open.words(), "0.0004 bpb higher (0.053%), 95% interval 0.0012 lower to 0.0020 higher");
        assert_eq!(open.effect(), Effect::Unresolved);
        let core = Difference { metric: Metric::CoreMetric, value: 0.02, interval: (0.01, 0.03), reference: 0.2 };
        assert_eq!(
            (core.words().as_str(), core.effect()),
            ("0.020 CORE higher (10%), 95% interval 0.010 to 0.030", Effect::Better)
        );
        assert_eq!(difference(0.01, (0.01, 0.01)).effect(), Effect::Worse);
        assert_eq!(difference(0.0, (0.0, 0.0)).effect(), Effect::Unresolved);
    }
}
