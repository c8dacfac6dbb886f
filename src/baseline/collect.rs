//! What a log says, gathered into figures. Lines that don't fit the run are passed over, and said to be: a log may have been
//! cut, mixed with another's, or damaged.

use nanochat_artifacts::StepRow;
use nanochat_plan::Precision;

use super::log::{EXPECTED, LogEvent};

/// Most warnings that are kept.
const MOST_WARNINGS: usize = 20;

/// Figures of one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// Steps planned; taken from the log's first step line where it isn't known before.
    pub planned: Option<u64>,
    /// Evaluations: step and bits per byte.
    pub evals: Vec<(u64, f64)>,
    /// When each was printed, in seconds since the start of the process.
    pub eval_printed: Vec<f64>,
    /// Smoothed loss of each step.
    pub losses: Vec<f64>,
    /// Seconds of each step.
    pub step_seconds: Vec<f64>,
    /// When each step was printed, in seconds since the start of the process.
    pub step_printed: Vec<f64>,
    /// The CORE metric, the last one.
    pub core_metric: Option<f64>,
    /// Lowest validation bits per byte; printed at the very end.
    pub minimum: Option<f64>,
    /// Peak memory of the device in bytes, where it has its own.
    pub device_memory: Option<u64>,
    /// Arithmetic.
    pub precision: Option<Precision>,
    /// How attention is computed.
    pub attention: Option<String>,
    /// The first step whose loss isn't a number, and the loss; nothing after it counts.
    pub diverged: Option<(u64, f64)>,
    /// The last exception of a traceback.
    pub exception: Option<String>,
    /// Warnings, and what was passed over.
    pub warnings: Vec<String>,
}

impl Record {
    /// A record of a run of so many steps.
    pub fn of(planned: u64) -> Self {
        Self { planned: Some(planned), ..Self::default() }
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.losses.len() as u64
    }

    /// Takes an event, printed `at` so many seconds after the start of the process.
    pub fn take(&mut self, event: &LogEvent, at: Option<f64>) {
        if self.diverged.is_some() && matches!(event, LogEvent::Step { .. } | LogEvent::Validation { .. }) {
            return;
        }
        match event {
            LogEvent::Step { step, loss, .. } if !loss.is_finite() => self.diverged = Some((*step, *loss)),
            LogEvent::Step { step, of, loss, seconds, .. } => {
                let planned = *self.planned.get_or_insert(*of);
                if *step != self.steps() || *of != planned || *step >= planned || *seconds <= 0.0 {
                    return self.pass_over(format!("a line of step {step}/{of}"));
                }
                self.losses.push(*loss);
                self.step_seconds.push(*seconds);
                self.step_printed.extend(at);
            }
            LogEvent::Validation { step, bpb } => {
                if *step != self.steps() || self.evals.last().is_some_and(|(last, _)| last == step) {
                    return self.pass_over(format!("an evaluation of step {step}"));
                }
                self.evals.push((*step, *bpb));
                self.eval_printed.extend(at);
            }
            LogEvent::Core { metric, .. } => self.core_metric = Some(*metric),
            LogEvent::Minimum(bpb) => self.minimum = Some(*bpb),
            LogEvent::PeakMemory(bytes) => self.device_memory = Some(*bytes).filter(|&bytes| bytes > 0),
            LogEvent::Precision(precision) => self.precision = Some(*precision),
            LogEvent::Attention(how) => {
                self.attention = Some((*how).to_string());
                if how.contains("fallback") {
                    self.warn(format!("attention by {how}"));
                }
            }
            LogEvent::Warning(text) => self.warn(text.clone()),
            LogEvent::Exception(text) => self.exception = Some(text.clone()),
        }
    }

    fn pass_over(&mut self, what: String) {
        self.warn(format!("{what} came when step {} was due, and was passed over", self.steps()));
    }

    fn warn(&mut self, text: String) {
        if self.warnings.len() < MOST_WARNINGS && !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }

    /// Why this isn't the record of a whole run; none when it is.
    pub fn incomplete(&self) -> Option<String> {
        let planned = self.planned?;
        let [step, evaluation, end] = EXPECTED;
        if self.steps() < planned {
            let unread = if self.steps() == 0 { format!("; no line reads as `{step}`") } else { String::new() };
            Some(format!("the log ends after {} of {planned} steps{unread}", self.steps()))
        } else if self.evals.last().map(|(step, _)| *step) != Some(planned) {
            Some(format!("the log has no evaluation after the last step; no line of it reads as `{evaluation}`"))
        } else if self.minimum.is_none() {
            Some(format!(
                "the log lacks its last lines: the script didn't come to its end, or no line reads as `{end}`"
            ))
        } else {
            None
        }
    }

    /// Step times as rows, for the same arithmetic as our own runs go through.
    pub fn rows(&self, total_batch_size: u64) -> Vec<StepRow> {
        let steps = (0u64..).zip(self.losses.iter().zip(&self.step_seconds));
        let row = |(step, (&loss, &seconds)): (u64, (&f64, &f64))| StepRow {
            step,
            tokens: (step + 1) * total_batch_size,
            loss,
            lr_multiplier: 0.0,
            muon_momentum: 0.0,
            muon_weight_decay: 0.0,
            seconds,
            rss_bytes: 0,
        };
        steps.map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::read_log;

    fn record(planned: Option<u64>, log: &str) -> Record {
        let mut record = Record { planned, ..Record::default() };
        read_log(log.as_bytes()).iter().for_each(|event| record.take(event, None));
        record
    }

    fn step(step: u64, of: u64) -> String {
        format!("step {step:05}/{of:05} (0.00%) | loss: 6.9 | lrm: 1.00 | dt: 40.00ms | tok/sec: 25,600\n")
    }

    #[test]
    fn what_does_not_fit_is_passed_over_and_said() {
        let cases = [
            ("repeated", format!("{}{}", step(0, 2), step(0, 2)), 1),
            ("skipped", format!("{}{}", step(0, 3), step(2, 3)), 1),
            ("of another run", format!("{}{}", step(0, 2), step(1, 9)), 1),
            ("past the end", format!("{}{}{}", step(0, 2), step(1, 2), step(2, 2)), 2),
            ("absurd", format!("{}step 18446744073709551615/00002 | loss: 1 | dt: 1ms | tok/sec: 1\n", step(0, 2)), 1),
            ("negative time", "step 00000/00002 | loss: 1 | dt: -1ms | tok/sec: 1\n".to_string(), 0),
        ];
        for (name, log, steps) in cases {
            let record = record(Some(if name == "skipped" { 3 } else { 2 }), &log);
            assert_eq!(record.steps(), steps, "{name}");
            assert_eq!(record.warnings.len(), 1, "{name}: {:?}", record.warnings);
        }
    }

    #[test]
    fn a_whole_run_is_told_from_a_part() {
        let start = "Step 00000 | Validation bpb: 3.3\n";
        let end = "Step 00002 | Validation bpb: 3.1\n";
        let last = "Minimum validation bpb: 3.1\n";
        let steps = format!("{}{}", step(0, 2), step(1, 2));
        let cases = [
            (format!("{start}{steps}{end}{last}"), None),
            (format!("{start}{}", step(0, 2)), Some("after 1 of 2 steps")),
            (format!("{start}{steps}"), Some("no evaluation after the last step")),
            (format!("{start}{steps}{end}"), Some("lacks its last lines")),
        ];
        for (log, words) in cases {
            let incomplete = record(None, &log).incomplete();
            assert_eq!(incomplete.is_some(), words.is_some(), "{log}");
            assert!(incomplete.unwrap_or_default().contains(words.unwrap_or_default()), "{log}");
        }
    }
}
