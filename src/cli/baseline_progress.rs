//! Progress of the baseline's runs on standard error: a bar on a terminal, plain lines otherwise.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::progress::thousands;
use crate::baseline::{Event, LogEvent, Report};
use nanochat_plan::RunPlan;

/// Without a terminal, a step is printed at most this often.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Shows what happens.
#[derive(Default)]
pub struct Progress {
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
    bpb: Option<f64>,
}

impl Progress {
    /// Takes note of a report.
    pub fn show(&mut self, plan: &RunPlan, report: Report<'_>) {
        match report {
            Report::Doing(what) => {
                self.end();
                self.line(&format!("baseline     {what}"));
            }
            Report::Warning(text) => self.line(&format!("warning      {text}")),
            Report::Run(Event::Started) => self.start(plan),
            Report::Run(Event::Log(event, _)) => self.log(plan, event),
            Report::Ended(run) => {
                self.end();
                let bpb = run.final_val_bpb.map_or_else(|| "–".to_string(), |bpb| format!("{bpb:.4}"));
                let rate = run.tokens_per_second.map_or_else(|| "–".to_string(), thousands);
                let seconds = run.elapsed_seconds.unwrap_or_default();
                match &run.reason {
                    None => self.line(&format!("finished     val bpb {bpb}  {rate} tok/s  {seconds:.1} s")),
                    Some(reason) => self.line(&format!("FAILED       {reason}")),
                }
            }
        }
    }

    /// Shows a problem.
    pub fn warn(&mut self, text: &str) {
        self.line(&format!("warning      the baseline has no run in this block: {text}"));
    }

    /// Takes the bar off the screen.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn start(&mut self, plan: &RunPlan) {
        self.bpb = None;
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(plan.num_iterations), ProgressDrawTarget::stderr());
            let template = "  {bar:24} step {pos}/{len}  {msg}  {eta} left";
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message("importing and compiling");
            bar.enable_steady_tick(Duration::from_millis(250));
            self.bar = Some(bar);
        }
    }

    fn log(&mut self, plan: &RunPlan, event: &LogEvent) {
        match event {
            LogEvent::Validation { step, bpb } => {
                self.bpb = Some(*bpb);
                if self.bar.is_none() {
                    self.line(&format!("             step {step}/{}  val bpb {bpb:.4}", plan.num_iterations));
                }
            }
            LogEvent::Step { step, loss, tokens_per_second, .. } => {
                let bpb = self.bpb.map(|bpb| format!("  val bpb {bpb:.4}")).unwrap_or_default();
                let message = format!("loss {loss:.4}{bpb}  {} tok/s", thousands(*tokens_per_second));
                match &self.bar {
                    Some(bar) if *step == 0 => {
                        bar.set_position(1);
                        bar.reset_eta();
                        bar.set_message(message);
                    }
                    Some(bar) => {
                        bar.set_position(step + 1);
                        bar.set_message(message);
                    }
                    None if self.last_line.is_none_or(|last| last.elapsed() >= LINE_INTERVAL) => {
                        self.line(&format!("             step {}/{}  {message}", step + 1, plan.num_iterations));
                    }
                    None => {}
                }
            }
            LogEvent::Exception(text) => self.line(&format!("exception    {text}")),
            _ => {}
        }
    }

    fn line(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
        self.last_line = Some(Instant::now());
    }
}
