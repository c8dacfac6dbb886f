//! Progress of runs on standard error: a bar with rate and time left on a terminal, plain lines otherwise.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::run::Event;
use crate::run::RunStep;
use nanochat_artifacts::{EvalRow, RunStatus, StepRow, Summary};
use nanochat_engine::train;
use nanochat_plan::RunPlan;

/// Without a terminal, a line is printed at most this often within a run.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Shows what happens.
pub struct Progress {
    bar: Option<ProgressBar>,
    terminal: bool,
    last_line: Instant,
    val_bpb: Option<f64>,
}

impl Progress {
    /// Decides by whether standard error is a terminal.
    pub fn new() -> Self {
        Self { bar: None, terminal: std::io::stderr().is_terminal(), last_line: Instant::now(), val_bpb: None }
    }

    /// Takes note of an event.
    pub fn show(&mut self, event: Event<'_>) {
        match event {
            Event::Preparing { plan, number, total } => self.prepare(plan, number, total),
            Event::Run { plan, step } => self.step(plan, step),
            Event::AlreadyDone { plan, summary, environment } => {
                let made = environment.map(|environment| {
                    let commit = environment
                        .code_commit
                        .as_deref()
                        .map_or("an unknown commit", |commit| &commit[..commit.len().min(12)]);
                    format!(", made at {commit} on {} ({})", environment.cpu, environment.finished_at)
                });
                let bpb = summary.final_val_bpb.map_or_else(|| "–".to_string(), |bpb| format!("{bpb:.4}"));
                self.line(&format!("done before  {}  val bpb {bpb}{}", plan.run_id, made.unwrap_or_default()));
            }
            Event::Ended { plan, summary } => self.end(plan, summary),
            Event::Failed { plan, error } => {
                self.finish_bar();
                self.line(&format!("FAILED       {}  {error}", plan.run_id));
            }
        }
    }

    fn prepare(&mut self, plan: &RunPlan, number: usize, total: usize) {
        self.val_bpb = None;
        self.line(&format!("run {number}/{total}      {}", plan.run_id));
        if self.terminal {
            let bar = ProgressBar::with_draw_target(Some(plan.num_iterations), ProgressDrawTarget::stderr());
            let template = "  {bar:24} step {pos}/{len}  {msg}  {eta} left";
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message("preparing data and tokenizer");
            bar.enable_steady_tick(Duration::from_millis(250));
            self.bar = Some(bar);
        }
    }

    fn step(&mut self, plan: &RunPlan, step: RunStep<'_>) {
        match step {
            RunStep::Ready { resumed_from: Some(step) } => {
                if let Some(bar) = &self.bar {
                    bar.set_position(step);
                    bar.reset_eta();
                }
                self.line(&format!("             continues from its checkpoint at step {step}"));
            }
            RunStep::Ready { resumed_from: None } => {
                if let Some(bar) = &self.bar {
                    bar.reset_eta();
                }
            }
            RunStep::Warning(text) => self.line(&format!("warning      {text}")),
            RunStep::Training(train::Event::Step(row)) => self.trained(plan, row),
            RunStep::Training(train::Event::Evaluated(row)) => self.evaluated(plan, row),
            RunStep::Training(train::Event::EvaluationFailed { step, reason }) => {
                self.line(&format!("warning      evaluation at step {step} failed, training goes on: {reason}"));
            }
            RunStep::Training(train::Event::RolledBack(record)) => {
                if let Some(bar) = &self.bar {
                    bar.set_position(record.to_step);
                }
                let (reason, from, to) = (&record.reason, record.from_step, record.to_step);
                self.line(&format!(
                    "warning      {reason} at step {from}: back to step {to}, on with the data after that"
                ));
            }
            RunStep::Training(train::Event::Phase(_) | train::Event::MicroStep { .. }) => {}
        }
    }

    fn trained(&mut self, plan: &RunPlan, row: &StepRow) {
        let rate = plan.total_batch_size as f64 / row.seconds;
        let bpb = self.val_bpb.map(|bpb| format!("  val bpb {bpb:.4}")).unwrap_or_default();
        let message = format!("loss {:.4}{bpb}  {} tok/s", row.loss, thousands(rate));
        match &self.bar {
            Some(bar) => {
                bar.set_position(row.step + 1);
                bar.set_message(message);
            }
            None if self.last_line.elapsed() >= LINE_INTERVAL => {
                self.line(&format!("             step {}/{}  {message}", row.step + 1, plan.num_iterations));
            }
            None => {}
        }
    }

    fn evaluated(&mut self, plan: &RunPlan, row: &EvalRow) {
        self.val_bpb = row.val_bpb.or(self.val_bpb);
        if self.bar.is_none() && row.step < plan.num_iterations {
            let bpb = row.val_bpb.map(|bpb| format!("  val bpb {bpb:.4}")).unwrap_or_default();
            self.line(&format!("             step {}/{}{bpb}", row.step, plan.num_iterations));
        }
    }

    fn end(&mut self, plan: &RunPlan, summary: &Summary) {
        self.finish_bar();
        let bpb = summary.final_val_bpb.map_or_else(|| "–".to_string(), |bpb| format!("{bpb:.4}"));
        let rate = summary.tokens_per_second.map_or_else(|| "–".to_string(), thousands);
        let seconds = summary.elapsed_seconds;
        let line = match summary.status {
            RunStatus::Finished => {
                format!("finished     {}  val bpb {bpb}  {rate} tok/s  {seconds:.1} s", plan.run_id)
            }
            _ => {
                let reason = summary.reason.as_deref().unwrap_or("stopped");
                format!("stopped      {} at step {}/{}: {reason}", plan.run_id, summary.steps, plan.num_iterations)
            }
        };
        self.line(&line);
    }

    fn finish_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn line(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
        self.last_line = Instant::now();
    }
}

/// A whole number with thousands parted by commas.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn thousands_are_parted() {
        for (value, text) in
            [(0.0, "0"), (999.4, "999"), (1000.0, "1,000"), (1234567.0, "1,234,567"), (-1234.0, "-1,234")]
        {
            assert_eq!(thousands(value), text);
        }
    }
}
