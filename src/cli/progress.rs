//! Progress of this engine's runs.

use nanochat_artifacts::{Environment, RunStatus, Summary};
use nanochat_engine::train;
use nanochat_plan::RunPlan;

use super::bar::Bar;
pub use super::bar::thousands;
use super::output::number;
use crate::run::{Event, Pace, RunStep, duration, with_help};

/// Shows the events of an experiment.
#[derive(Default)]
pub struct Progress {
    bar: Bar,
    pace: Pace,
    /// FLOPs of the runs after this one.
    flops_after: f64,
}

impl Progress {
    /// Shows an event.
    pub fn show(&mut self, event: Event<'_>) {
        match event {
            Event::Preparing { plan, number, total, flops_after } => {
                (self.pace, self.flops_after) = (Pace::new(plan), flops_after);
                self.bar.line(&format!("run {number}/{total}      {}", plan.run_id));
                self.bar.start(plan.num_iterations, "preparing data and tokenizer");
            }
            Event::Run { plan, step } => self.step(plan, step),
            Event::AlreadyDone { plan, summary, environment, unchecked } => {
                self.done_before(plan, summary, environment, unchecked);
            }
            Event::Waiting { plan, error } => {
                self.bar.line(&format!("waiting      {}  {error}", plan.run_id));
            }
            Event::OtherInputs { plan, what } => {
                self.bar.line(&format!(
                    "changed      {}  other {} than recorded: made again",
                    plan.run_id,
                    what.join(", ")
                ));
            }
            Event::Timing { block, attempt } => {
                let again = if attempt > 1 { format!(", disturbed: attempt {attempt}") } else { String::new() };
                self.bar.line(&format!("timing       block {block}{again}"));
            }
            Event::TimingWaits { error } => self.bar.line(&format!("waiting      the timing session  {error}")),
            Event::TimingFailed { error } => {
                self.bar.finish();
                self.bar.line(&format!("FAILED       the timing session  {}", with_help(error)));
            }
            Event::Ended { plan, summary } => self.end(plan, summary),
            Event::Failed { plan, error } => {
                self.bar.finish();
                self.bar.line(&format!("FAILED       {}  {}", plan.run_id, with_help(error)));
            }
        }
    }

    fn done_before(
        &mut self,
        plan: &RunPlan,
        summary: &Summary,
        environment: Option<&Environment>,
        unchecked: Option<&str>,
    ) {
        let made = environment.map(|environment| {
            let commit = environment.code_commit.as_deref();
            let commit = commit.map_or("an unknown commit", |commit| commit.get(..12).unwrap_or(commit));
            format!(", made at {commit} on {} ({})", environment.cpu, environment.finished_at)
        });
        let bpb = number(summary.final_val_bpb, 4);
        let unchecked = unchecked.map(|reason| format!("; its inputs can't be checked: {reason}")).unwrap_or_default();
        self.bar.line(&format!("done before  {}  val bpb {bpb}{}{unchecked}", plan.run_id, made.unwrap_or_default()));
    }

    /// Time that is left of the run, and of all runs.
    fn left(&mut self) {
        let Some(run) = self.pace.seconds_left() else { return };
        let after = self.pace.seconds_of(self.flops_after).filter(|seconds| *seconds > 0.0);
        let all = after.map(|after| format!(", {} of all runs", duration(run + after))).unwrap_or_default();
        self.bar.left(format!("{} left{all}", duration(run)));
    }

    fn step(&mut self, plan: &RunPlan, step: RunStep<'_>) {
        if let RunStep::Training(event) = &step {
            self.pace.note(event);
        }
        match step {
            RunStep::Ready { resumed_from } => {
                if let Some(step) = resumed_from {
                    self.bar.jump(step);
                    self.bar.line(&format!("             continues from its checkpoint at step {step}"));
                }
                self.bar.reset_time();
            }
            RunStep::Warning(text) => self.bar.line(&format!("warning      {text}")),
            RunStep::Training(train::Event::Step(row)) => {
                self.bar.step(row.step, row.loss, plan.total_batch_size as f64 / row.seconds);
                self.left();
            }
            RunStep::Training(train::Event::Evaluating { .. }) => self.bar.evaluating(),
            RunStep::Training(train::Event::Evaluated(row)) => {
                self.bar.evaluated(row.step, row.val_bpb, row.step < plan.num_iterations);
            }
            RunStep::Training(train::Event::EvaluationFailed { step, reason }) => {
                self.bar.line(&format!("warning      evaluation at step {step} failed, training continues: {reason}"));
            }
            RunStep::Training(train::Event::RolledBack(record)) => {
                self.bar.jump(record.to_step);
                let (reason, from, to) = (&record.reason, record.from_step, record.to_step);
                self.bar.line(&format!(
                    "warning      {reason} at step {from}: back to step {to}, continuing with the data after step {from}"
                ));
            }
            RunStep::Training(train::Event::Phase(_) | train::Event::MicroStep(_) | train::Event::Losses(_)) => {}
        }
    }

    fn end(&mut self, plan: &RunPlan, summary: &Summary) {
        self.bar.finish();
        let line = match summary.status {
            RunStatus::Finished => {
                let bpb = number(summary.final_val_bpb, 4);
                let rate = summary.tokens_per_second.map_or_else(|| "–".to_string(), thousands);
                let seconds = summary.elapsed_seconds;
                format!("finished     {}  val bpb {bpb}  {rate} tok/s  {seconds:.1} s", plan.run_id)
            }
            _ => {
                let reason = summary.reason.as_deref().unwrap_or("stopped");
                format!("stopped      {} at step {}/{}: {reason}", plan.run_id, summary.steps, plan.num_iterations)
            }
        };
        self.bar.line(&line);
    }
}
