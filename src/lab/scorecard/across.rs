//! Before and after across plans (rules v2): the change of the plan is the treatment, judged on the claim of the side whose rules hold.
//!
//! All finished runs of a cell on both sides count, by the evidence of rules v2. Only another budget, data, tokenizer or
//! evaluation keeps two sides from being compared. A cell whose plan didn't change is judged as no worse than before.

use nanochat_artifacts::{Judgement, Outcome, QualityClaim, QualityRule, RunDocuments, SpeedClaim, Summary};
use nanochat_plan::{Change, RunPlan, changes};

use super::claims::{self, Arms};
use super::evidence;
use super::quality::unfinished;
use super::{V1, answer, comparable};
use nanochat_artifacts::ExperimentRecord;

/// One cell's runs before and after.
pub(super) struct Across<'a> {
    /// The record whose rules hold.
    pub record: &'a ExperimentRecord,
    /// Runs of the earlier side.
    pub earlier: &'a [&'a RunDocuments],
    /// Runs of the later side.
    pub later: &'a [&'a RunDocuments],
}

impl Across<'_> {
    /// Whether rules v2 judge this cell: the record asks for them, or the plan changed, which rules v1 can't judge.
    pub fn applies(&self) -> bool {
        self.record.ruleset != V1 || !self.changes().is_empty()
    }

    /// What changed between the plans: of a seed that both sides have, else of the first runs without their seeds.
    pub fn changes(&self) -> Vec<Change> {
        let same_seed = |run: &&&RunDocuments| self.earlier.iter().find(|other| other.plan.seed == run.plan.seed);
        let pair = self.later.iter().find_map(|run| Some((*same_seed(&run)?, *run)));
        let pair = pair.or_else(|| Some((*self.earlier.first()?, *self.later.first()?)));
        let Some((before, now)) = pair else { return Vec::new() };
        let mut found = changes(&before.plan, &now.plan);
        found.retain(|change| change.key != "seed");
        found
    }

    /// Quality after against before, with the sentence that says so.
    pub fn quality(&self) -> (Judgement, Option<String>) {
        let changed = self.changes();
        let stated = self.record.quality.claim.unwrap_or(QualityClaim::NoWorse);
        let claim = match stated {
            QualityClaim::Better if changed.is_empty() => QualityClaim::NoWorse,
            claim => claim,
        };
        let rule = QualityRule { claim: Some(claim), ..self.record.quality.clone() };
        let judgement = Judgement::missing(rule.metric.word(), "");
        if claim == QualityClaim::Off {
            let reason = "the spec claims nothing of quality".to_string();
            return (Judgement { outcome: Outcome::Off, reason, ..judgement }, None);
        }
        let undecided = |outcome, reason| (Judgement { outcome, reason, ..judgement.clone() }, None);
        for (side, runs) in [("before", self.earlier), ("now", self.later)] {
            if let Some(reason) = unfinished(runs) {
                return undecided(Outcome::Missing(None), format!("{side}, {reason}"));
            }
        }
        let (Some(before), Some(now)) = (finished(self.earlier), finished(self.later)) else {
            return undecided(Outcome::Missing(None), "no run is finished on both sides".to_string());
        };
        let differences = comparable::differences(now, before, rule.metric);
        if !differences.is_empty() {
            let reason = format!("the two sides differ in {}", differences.join(", "));
            return undecided(Outcome::NotComparable(None), reason);
        }
        let (ours, theirs) = (claims::sample(self.later, rule.metric), claims::sample(self.earlier, rule.metric));
        let arms = Arms {
            names: names(&changed),
            evidence: evidence::compare(&ours, &theirs),
            ours: &ours,
            theirs,
            noun: "seed",
            note: None,
        };
        let mut judgement = judgement;
        judgement.candidate = claims::figure(&ours);
        claims::judge(judgement, &arms, &rule, &[])
    }

    /// Speed under rules v2: two sides are two sessions, so that it is off or not judged.
    pub fn speed(&self) -> Judgement {
        let judgement = Judgement::missing(
            "tokens_per_second",
            "the two sides were timed in sessions of their own, and speed is judged within one",
        );
        match self.record.speed.claim {
            Some(SpeedClaim::Faster | SpeedClaim::NoSlower) => judgement,
            _ => {
                Judgement { outcome: Outcome::Off, reason: "the spec claims nothing of speed".to_string(), ..judgement }
            }
        }
    }
}

fn finished<'a>(runs: &[&'a RunDocuments]) -> Option<(&'a RunPlan, &'a Summary)> {
    runs.iter().find_map(|run| Some((&run.plan, run.finished()?)))
}

/// What the sides are called: by the value that changed where that is one, else `after` and `before`.
fn names(changed: &[Change]) -> (String, String) {
    let causes: Vec<&Change> = changed.iter().filter(|change| !nanochat_plan::follows(&change.key)).collect();
    let [change] = causes.as_slice() else { return ("after".to_string(), "before".to_string()) };
    let key = change.key.rsplit('.').next().unwrap_or(&change.key);
    (format!("{key} {}", answer::text(&change.now)), answer::text(&change.before))
}
