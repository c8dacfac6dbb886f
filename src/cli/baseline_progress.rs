//! Progress of the baseline's runs.

use nanochat_artifacts::BaselineRun;
use nanochat_plan::RunPlan;

use super::bar::{Bar, thousands};
use super::output::number;
use crate::baseline::{Event, LogEvent, Report};
use crate::run::with_help;

/// Shows the reports of a session.
#[derive(Default)]
pub struct Progress(Bar);

impl Progress {
    /// Shows a report.
    pub fn show(&mut self, plan: &RunPlan, report: Report<'_>) {
        match report {
            Report::Doing(what) => {
                self.end();
                self.0.line(&format!("baseline     {what}"));
            }
            Report::Warning(text) => self.0.line(&format!("warning      {text}")),
            Report::Run(Event::Started) => self.0.start(plan.num_iterations, "importing and compiling"),
            Report::Run(Event::Log(event, _)) => self.log(event),
            Report::Ended(run) => self.ended(run),
            Report::BlockEnded(failure) => {
                self.end();
                if let Some(error) = failure {
                    let error = with_help(error);
                    self.0.line(&format!("warning      the baseline has no run in this block: {error}"));
                }
            }
        }
    }

    /// Removes the bar.
    pub fn end(&mut self) {
        self.0.finish();
    }

    fn ended(&mut self, run: &BaselineRun) {
        self.end();
        let bpb = number(run.final_val_bpb, 4);
        let rate = run.tokens_per_second.map_or_else(|| "–".to_string(), thousands);
        let seconds = run.elapsed_seconds.unwrap_or_default();
        match &run.reason {
            None => self.0.line(&format!("finished     val bpb {bpb}  {rate} tok/s  {seconds:.1} s")),
            Some(reason) => self.0.line(&format!("FAILED       {reason}")),
        }
    }

    fn log(&mut self, event: &LogEvent) {
        match event {
            LogEvent::Validation { step, bpb } => self.0.evaluated(*step, Some(*bpb), true),
            LogEvent::Step { step, loss, tokens_per_second, .. } => {
                self.0.step(*step, *loss, *tokens_per_second);
                if *step == 0 {
                    self.0.reset_time();
                }
            }
            LogEvent::Exception(text) => self.0.line(&format!("exception    {text}")),
            _ => {}
        }
    }
}
