//! One verdict: what each outcome has in Rust, and the flat form in which documents hold it.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::Verdict;
use super::claims::Effect;

/// One verdict with the figures behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Flat", try_from = "Flat")]
pub struct Judgement {
    /// What was measured.
    pub metric: String,
    /// The side that the candidate is compared with.
    pub baseline: ArmFigure,
    /// The side that is judged.
    pub candidate: ArmFigure,
    /// The bound, where one applies.
    pub bound: Option<Bound>,
    /// The verdict with what was found.
    pub outcome: Outcome,
    /// The sentence that explains the verdict.
    pub reason: String,
}

/// The figure of one side.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ArmFigure {
    /// The metric; none where no run has it.
    pub figure: Option<f64>,
    /// Number of runs behind it.
    pub runs: u64,
}

/// The bound that a difference or ratio is compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// The bound itself.
    pub threshold: f64,
    /// Share of it below which an effect counts as none, for speed.
    pub minimum_effect: Option<f64>,
}

impl Bound {
    /// A bound without a minimum effect.
    pub fn at(threshold: f64) -> Self {
        Self { threshold, minimum_effect: None }
    }

    /// The bound less the minimum effect.
    pub fn effective(&self) -> f64 {
        self.threshold * (1.0 - self.minimum_effect.unwrap_or(0.0))
    }
}

/// A verdict, and what each has.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The bound is met.
    Pass(Finding),
    /// The bound is broken.
    Fail(Finding),
    /// The interval straddles the bound.
    Inconclusive {
        /// The difference or ratio.
        finding: Finding,
        /// How many more runs an arm would decide, if means and noise stay as they are.
        more_runs: Option<u64>,
    },
    /// The two sides can't be compared.
    NotComparable(Option<Finding>),
    /// Evidence is lacking; what was found so far, where there is something.
    Missing(Option<Finding>),
    /// Nothing is claimed.
    Off,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Finding {
    /// How it was judged.
    pub method: Method,
    /// Candidate minus baseline.
    pub difference: Option<f64>,
    /// Candidate over baseline.
    pub ratio: Option<f64>,
    /// Confidence interval of the difference or ratio, low and high.
    pub interval: Option<(f64, f64)>,
    /// Confidence level of the interval, such as 0.95.
    pub confidence: Option<f64>,
    /// The recorded noise between runs.
    pub noise: Option<CitedNoise>,
    /// What the interval says of the direction (rules v2).
    pub effect: Option<Effect>,
    /// Standard error of the difference, in the metric's unit (rules v2).
    pub standard_error: Option<f64>,
    /// Degrees of freedom of the interval's t quantile (rules v2).
    pub degrees_of_freedom: Option<f64>,
}

/// How a comparison was judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Nothing could be judged, or nothing had to be.
    #[default]
    None,
    /// One figure against another.
    Point,
    /// Welch's interval of the difference of means.
    NonInferiorityWelch,
    /// The t interval of the differences, paired by seed.
    NonInferiorityPaired,
    /// The t interval of the logarithms of the blocks' ratios.
    BlockLogRatio,
    /// Welch's interval on logarithms.
    WelchLogRatio,
    /// The t interval of the logarithms of ratios, run by run.
    PairedLogRatio,
    /// Block bootstrap over the steps inside the runs.
    Bootstrap,
    /// Equality bit for bit.
    Bitwise,
    /// A bound on the difference of repeats.
    Numeric,
    /// A prediction interval over seeds.
    Statistical,
    /// Each run by itself.
    PerRun,
    /// The t interval of the differences, paired by initial weights (rules v2).
    Paired,
    /// The same with the variance pooled over the cells of a sweep, seeds as blocks (rules v2).
    PairedPooled,
    /// The t interval of the difference of means with the variance pooled over the cells of a sweep (rules v2).
    Pooled,
    /// Welch's interval of the difference of means (rules v2).
    Welch,
    /// The t interval with a standard deviation that a noise document of the same configuration lends (rules v2).
    LentNoise,
}

/// Noise that a judgement cites.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CitedNoise {
    /// Sample standard deviation of the metric between runs, in its unit.
    pub standard_deviation: f64,
    /// Number of runs behind it.
    pub runs: u64,
    /// The noise document, from the project's folder.
    pub source: String,
    /// Hash of the configuration that the noise was measured in (rules v2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,
}

impl Finding {
    /// The outcome that this finding gives by a verdict on it.
    pub fn judged(self, verdict: Verdict) -> Outcome {
        match verdict {
            Verdict::Pass => Outcome::Pass(self),
            Verdict::Fail => Outcome::Fail(self),
            Verdict::Inconclusive => Outcome::Inconclusive { finding: self, more_runs: None },
            Verdict::NotComparable => Outcome::NotComparable(self.if_any()),
            Verdict::Missing => Outcome::Missing(self.if_any()),
            Verdict::Off => Outcome::Off,
        }
    }

    /// The same by whether the bound is met.
    pub fn within(self, passed: bool) -> Outcome {
        if passed { Outcome::Pass(self) } else { Outcome::Fail(self) }
    }

    fn if_any(self) -> Option<Self> {
        (self != Self::default()).then_some(self)
    }
}

impl Judgement {
    /// A judgement without figures.
    pub fn undecided(metric: &str, outcome: Outcome, reason: impl Into<String>) -> Self {
        let (baseline, candidate) = (ArmFigure::default(), ArmFigure::default());
        Self { metric: metric.to_string(), baseline, candidate, bound: None, outcome, reason: reason.into() }
    }

    /// A judgement for which evidence is lacking.
    pub fn missing(metric: &str, reason: impl Into<String>) -> Self {
        Self::undecided(metric, Outcome::Missing(None), reason)
    }

    /// The verdict alone.
    pub fn verdict(&self) -> Verdict {
        match self.outcome {
            Outcome::Pass(_) => Verdict::Pass,
            Outcome::Fail(_) => Verdict::Fail,
            Outcome::Inconclusive { .. } => Verdict::Inconclusive,
            Outcome::NotComparable(_) => Verdict::NotComparable,
            Outcome::Missing(_) => Verdict::Missing,
            Outcome::Off => Verdict::Off,
        }
    }

    /// What was found, if anything.
    pub fn finding(&self) -> Option<&Finding> {
        match &self.outcome {
            Outcome::Pass(finding) | Outcome::Fail(finding) | Outcome::Inconclusive { finding, .. } => Some(finding),
            Outcome::NotComparable(finding) | Outcome::Missing(finding) => finding.as_ref(),
            Outcome::Off => None,
        }
    }

    /// The same to be changed.
    pub fn finding_mut(&mut self) -> Option<&mut Finding> {
        match &mut self.outcome {
            Outcome::Pass(finding) | Outcome::Fail(finding) | Outcome::Inconclusive { finding, .. } => Some(finding),
            Outcome::NotComparable(finding) | Outcome::Missing(finding) => finding.as_mut(),
            Outcome::Off => None,
        }
    }

    /// How it was judged.
    pub fn method(&self) -> Method {
        self.finding().map_or(Method::None, |finding| finding.method)
    }

    /// Candidate minus baseline, where it was judged by that.
    pub fn difference(&self) -> Option<f64> {
        self.finding()?.difference
    }

    /// Candidate over baseline, where it was judged by that.
    pub fn ratio(&self) -> Option<f64> {
        self.finding()?.ratio
    }

    /// The confidence interval, where there is one.
    pub fn interval(&self) -> Option<(f64, f64)> {
        self.finding()?.interval
    }

    /// How many more runs an arm would decide an inconclusive verdict.
    pub fn more_runs(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Inconclusive { more_runs, .. } => more_runs,
            _ => None,
        }
    }
}

impl JsonSchema for Judgement {
    fn schema_name() -> Cow<'static, str> {
        Flat::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Flat::json_schema(generator)
    }
}

/// One verdict with the figures behind it.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Judgement")]
struct Flat {
    /// The verdict.
    verdict: Verdict,
    /// What was measured.
    metric: String,
    /// Figure of the baseline.
    baseline: Option<f64>,
    /// Figure of the candidate.
    candidate: Option<f64>,
    /// Candidate minus baseline, for quality.
    difference: Option<f64>,
    /// Candidate over baseline, for speed.
    ratio: Option<f64>,
    /// Confidence interval of the difference or ratio, low and high.
    interval: Option<(f64, f64)>,
    /// The bound that the difference or ratio is held against.
    threshold: Option<f64>,
    /// Effects smaller than this share of the threshold count as none, for speed: the ratio is held against
    /// `threshold * (1 - minimum_effect)`.
    minimum_effect: Option<f64>,
    /// Confidence level of the interval, such as 0.95.
    confidence: Option<f64>,
    /// Number of baseline runs behind it.
    baseline_runs: u64,
    /// Number of candidate runs behind it.
    candidate_runs: u64,
    /// How many more runs an arm would decide an inconclusive verdict, if means and noise stay as they are.
    more_runs: Option<u64>,
    /// The recorded noise between runs that the figures are to be read against; none where none was recorded here.
    noise: Option<CitedNoise>,
    /// How it was judged: `non_inferiority_welch`, `non_inferiority_paired`, `point`, `block_log_ratio`,
    /// `welch_log_ratio`, `paired_log_ratio`, `bootstrap`, `bitwise`, `numeric`, `statistical`, `per_run`; under rules v2
    /// also `paired`, `paired_pooled`, `pooled`, `welch`, `lent_noise`; or `none` where nothing could be.
    #[schemars(with = "String")]
    method: Method,
    /// What the interval says of the direction, under rules v2: `better`, `worse`, `unresolved`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    effect: Option<Effect>,
    /// Standard error of the difference, in the metric's unit, under rules v2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    standard_error: Option<f64>,
    /// Degrees of freedom of the interval's t quantile, under rules v2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    degrees_of_freedom: Option<f64>,
    /// The sentence that explains the verdict.
    reason: String,
}

impl From<Judgement> for Flat {
    fn from(judgement: Judgement) -> Self {
        let (verdict, more_runs) = (judgement.verdict(), judgement.more_runs());
        let finding = judgement.finding().cloned().unwrap_or_default();
        Self {
            verdict,
            metric: judgement.metric,
            baseline: judgement.baseline.figure,
            candidate: judgement.candidate.figure,
            difference: finding.difference,
            ratio: finding.ratio,
            interval: finding.interval,
            threshold: judgement.bound.map(|bound| bound.threshold),
            minimum_effect: judgement.bound.and_then(|bound| bound.minimum_effect),
            confidence: finding.confidence,
            baseline_runs: judgement.baseline.runs,
            candidate_runs: judgement.candidate.runs,
            more_runs,
            noise: finding.noise,
            method: finding.method,
            effect: finding.effect,
            standard_error: finding.standard_error,
            degrees_of_freedom: finding.degrees_of_freedom,
            reason: judgement.reason,
        }
    }
}

impl TryFrom<Flat> for Judgement {
    type Error = &'static str;

    fn try_from(flat: Flat) -> Result<Self, Self::Error> {
        if flat.more_runs.is_some() && flat.verdict != Verdict::Inconclusive {
            return Err("only an inconclusive verdict has `more_runs`");
        }
        if flat.minimum_effect.is_some() && flat.threshold.is_none() {
            return Err("`minimum_effect` needs a `threshold`");
        }
        let Flat { method, difference, ratio, interval, confidence, noise, minimum_effect, .. } = flat;
        let Flat { effect, standard_error, degrees_of_freedom, .. } = flat;
        let finding = Finding {
            method,
            difference,
            ratio,
            interval,
            confidence,
            noise,
            effect,
            standard_error,
            degrees_of_freedom,
        };
        let mut outcome = finding.judged(flat.verdict);
        if let Outcome::Inconclusive { more_runs, .. } = &mut outcome {
            *more_runs = flat.more_runs;
        }
        Ok(Self {
            metric: flat.metric,
            baseline: ArmFigure { figure: flat.baseline, runs: flat.baseline_runs },
            candidate: ArmFigure { figure: flat.candidate, runs: flat.candidate_runs },
            bound: flat.threshold.map(|threshold| Bound { threshold, minimum_effect }),
            outcome,
            reason: flat.reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_flat_form_comes_back_as_it_was() {
        let mut flat = json!({
            "verdict": "inconclusive", "metric": "val_bpb", "baseline": 1.0, "candidate": 1.5, "difference": 0.5,
            "ratio": null, "interval": [0.25, 0.75], "threshold": 0.5, "minimum_effect": null, "confidence": 0.95,
            "baseline_runs": 3, "candidate_runs": 4, "more_runs": 2, "noise": null, "method": "non_inferiority_welch",
            "reason": "why",
        });
        for verdict in ["inconclusive", "pass", "fail", "not_comparable", "missing"] {
            flat["verdict"] = json!(verdict);
            let judgement: Judgement = serde_json::from_value(flat.clone()).expect(verdict);
            assert_eq!(serde_json::to_value(&judgement).expect("JSON"), flat);
            flat["more_runs"] = json!(null);
        }
        flat["more_runs"] = json!(1);
        assert!(serde_json::from_value::<Judgement>(flat).is_err(), "only an inconclusive verdict has more runs");
        let blank = serde_json::to_value(Judgement::missing("val_bpb", "why")).expect("JSON");
        assert_eq!((&blank["method"], &blank["ratio"]), (&json!("none"), &json!(null)));
        let again: Judgement = serde_json::from_value(blank).expect("a judgement");
        assert_eq!(again, Judgement::missing("val_bpb", "why"));
    }
}
