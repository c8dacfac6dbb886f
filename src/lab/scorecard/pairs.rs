//! Runs that both sides of a comparison have, and what their documents say of each other.

use nanochat_artifacts::{Outcome, RunDocuments, Summary};

use super::compare::{input_difference, plan_difference};

/// A run on both sides, both finished.
pub(super) struct Pair<'a> {
    pub earlier: &'a RunDocuments,
    pub later: &'a RunDocuments,
    pub old: &'a Summary,
    pub new: &'a Summary,
}

impl Pair<'_> {
    /// Whether both sides end with the same weights, as far as they are recorded.
    pub fn has_same_weights(&self) -> bool {
        self.old.weights_sha256.is_some() && self.old.weights_sha256 == self.new.weights_sha256
    }

    /// Why the evaluations of the same weights can't both be right; none where they agree or the weights differ.
    pub fn contradiction(&self) -> Option<String> {
        let figures =
            |summary: &Summary| [summary.final_val_bpb, summary.core_metric].map(|figure| figure.map(f64::to_bits));
        (self.has_same_weights() && figures(self.old) != figures(self.new)).then(|| {
            format!(
                "`{}` ends with the same weights as before, bit for bit, and with other figures: the evaluation changed, \
                 or a figure was written by hand",
                self.later.plan.run_id
            )
        })
    }

    /// Whether both sides hold one and the same run, not one that was made again.
    pub fn is_one_recording(&self) -> bool {
        self.old == self.new && self.earlier.environment == self.later.environment
    }
}

/// Runs that are finished on both sides and comparable; with the reason why some aren't.
pub(super) fn pairs<'a>(
    earlier: &[&'a RunDocuments],
    later: &[&'a RunDocuments],
) -> (Vec<Pair<'a>>, Option<(Outcome, String)>) {
    let mut found = Vec::new();
    let mut problem = None;
    for run in later {
        let same = |other: &&&RunDocuments| (other.plan.seed, other.plan.repeat) == (run.plan.seed, run.plan.repeat);
        let Some(other) = earlier.iter().find(same) else { continue };
        if let Some(difference) = plan_difference(other, run) {
            problem = Some((
                Outcome::NotComparable(None),
                format!("the plan of `{}` changed: {difference}", run.plan.run_id),
            ));
            continue;
        }
        let unfinished =
            run.unfinished_because().map(|why| (why, "now")).or(other.unfinished_because().map(|why| (why, "before")));
        if let Some((why, side)) = unfinished {
            problem.get_or_insert((Outcome::Missing(None), format!("{side}, `{}` {why}", run.plan.run_id)));
            continue;
        }
        let (Some(old), Some(new)) = (other.finished(), run.finished()) else { continue };
        match input_difference(old, new) {
            Some(what) => {
                problem = Some((Outcome::NotComparable(None), format!("{what} of `{}` changed", run.plan.run_id)))
            }
            None => found.push(Pair { earlier: other, later: run, old, new }),
        }
    }
    (found, problem)
}
