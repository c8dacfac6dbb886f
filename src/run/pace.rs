//! How fast a run goes, and how long it still takes: steps, evaluations, and the runs after it.

use nanochat_artifacts::lease::Doing;
use nanochat_engine::checkpoint::RunLock;
use nanochat_engine::train;
use nanochat_plan::RunPlan;

use super::execute::Step;

/// Weight of the newest step in the mean.
const NEWEST: f64 = 0.02;

/// Pace of one run.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    /// Steps done.
    done: u64,
    steps: u64,
    every: u64,
    flops: f64,
    step_seconds: Option<f64>,
    eval_seconds: f64,
}

impl Pace {
    /// Of a run at its start.
    pub fn new(plan: &RunPlan) -> Self {
        let (steps, every, flops) = (plan.num_iterations, plan.eval.every, plan.total_flops as f64);
        Self { steps, every, flops, ..Self::default() }
    }

    /// Takes note of what happens.
    pub fn note(&mut self, event: &train::Event<'_>) {
        match event {
            train::Event::Step(row) => {
                self.done = row.step + 1;
                let mean = self.step_seconds.filter(|_| row.step > 1);
                self.step_seconds = Some(mean.map_or(row.seconds, |mean| mean + NEWEST * (row.seconds - mean)));
            }
            train::Event::Evaluated(row) => self.eval_seconds = row.eval_seconds,
            train::Event::RolledBack(record) => self.done = record.to_step,
            _ => {}
        }
    }

    /// Seconds that the run still takes; none before its first step.
    pub fn seconds_left(&self) -> Option<f64> {
        let steps = self.steps.saturating_sub(self.done) as f64;
        Some(steps * self.step_seconds? + self.evaluations(self.done) as f64 * self.eval_seconds)
    }

    /// Seconds that runs of so many FLOPs take at the pace of this one; none before its first step.
    pub fn seconds_of(&self, flops: f64) -> Option<f64> {
        let whole = self.steps as f64 * self.step_seconds? + self.evaluations(0) as f64 * self.eval_seconds;
        Some(whole * flops / self.flops.max(1.0))
    }

    /// Evaluations after so many steps, the one at the end included.
    fn evaluations(&self, done: u64) -> u64 {
        let between = |step: u64| step.checked_div(self.every).unwrap_or(0);
        let last = self.steps.saturating_sub(1);
        between(last).saturating_sub(between(done.min(last))) + u64::from(done < self.steps)
    }
}

/// Writes into the run's lease how far it is.
pub(super) fn note(lock: &RunLock, plan: &RunPlan, pace: &mut Pace, step: &Step<'_>) {
    let event = match step {
        Step::Ready { resumed_from } => {
            lock.note(|progress| (progress.doing, progress.step) = (Doing::Training, resumed_from.unwrap_or(0)));
            lock.publish();
            return;
        }
        Step::Warning(_) => return,
        Step::Training(event) => event,
    };
    pace.note(event);
    lock.note(|progress| match event {
        train::Event::Step(row) => {
            progress.doing = Doing::Training;
            progress.step = row.step + 1;
            progress.loss = row.loss.is_finite().then_some(row.loss);
            progress.tokens_per_second = Some(plan.total_batch_size as f64 / row.seconds);
            progress.seconds_left = pace.seconds_left();
            progress.rss_bytes = row.rss_bytes;
        }
        train::Event::Evaluating { .. } => progress.doing = Doing::Evaluating,
        train::Event::Evaluated(row) => {
            progress.doing = Doing::Training;
            progress.val_bpb = row.val_bpb.or(progress.val_bpb);
        }
        train::Event::RolledBack(record) => progress.step = record.to_step,
        _ => {}
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_that_are_left_count() {
        let pace = |done| Pace { done, steps: 10, every: 4, flops: 100.0, step_seconds: Some(2.0), eval_seconds: 5.0 };
        // After the steps 4, 8 and 10.
        assert_eq!(pace(0).seconds_left(), Some(20.0 + 15.0));
        assert_eq!(pace(4).seconds_left(), Some(12.0 + 10.0));
        assert_eq!(pace(9).seconds_left(), Some(2.0 + 5.0));
        assert_eq!(pace(10).seconds_left(), Some(0.0));
        assert_eq!(pace(3).seconds_of(200.0), Some(70.0));
        assert_eq!(Pace::default().seconds_left(), None);
    }
}
