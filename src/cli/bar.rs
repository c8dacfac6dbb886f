//! Progress on standard error: a bar on a terminal, plain lines otherwise.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Without a terminal, a step is printed at most this often.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Progress of one run at a time.
#[derive(Default)]
pub struct Bar {
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
    steps: u64,
    bpb: Option<f64>,
}

impl Bar {
    /// Starts a run of so many steps.
    pub fn start(&mut self, steps: u64, message: &'static str) {
        self.finish();
        (self.steps, self.bpb) = (steps, None);
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
            let template = "  {bar:24} step {pos}/{len}  {msg}  {eta} left";
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(message);
            bar.enable_steady_tick(Duration::from_millis(250));
            self.bar = Some(bar);
        }
    }

    /// Moves to a step without training.
    pub fn jump(&mut self, step: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(step);
        }
    }

    /// Starts the estimate of the remaining time here.
    pub fn reset_time(&mut self) {
        if let Some(bar) = &self.bar {
            bar.reset_eta();
        }
    }

    /// Shows a trained step, counted from 0.
    pub fn step(&mut self, step: u64, loss: f64, tokens_per_second: f64) {
        let bpb = self.bpb.map(|bpb| format!("  val bpb {bpb:.4}")).unwrap_or_default();
        let message = format!("loss {loss:.4}{bpb}  {} tok/s", thousands(tokens_per_second));
        match &self.bar {
            Some(bar) => {
                bar.set_position(step + 1);
                bar.set_message(message);
            }
            None if self.last_line.is_none_or(|last| last.elapsed() >= LINE_INTERVAL) => {
                self.line(&format!("             step {}/{}  {message}", step + 1, self.steps));
            }
            None => {}
        }
    }

    /// Shows that an evaluation is going on.
    pub fn evaluating(&mut self) {
        if let Some(bar) = &self.bar {
            bar.set_message("evaluating");
        }
    }

    /// Shows this in the place of the bar's own estimate of the remaining time, which knows of steps alone.
    pub fn left(&mut self, text: String) {
        if let Some(bar) = &self.bar {
            if bar.prefix().is_empty() {
                let template = "  {bar:24} step {pos}/{len}  {msg}  {prefix}";
                bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            }
            bar.set_prefix(text);
        }
    }

    /// Shows an evaluation; without a terminal as a line, unless the run's end follows.
    pub fn evaluated(&mut self, step: u64, bpb: Option<f64>, shows_line: bool) {
        self.bpb = bpb.or(self.bpb);
        if self.bar.is_none() && shows_line {
            let bpb = bpb.map(|bpb| format!("  val bpb {bpb:.4}")).unwrap_or_default();
            self.line(&format!("             step {step}/{}{bpb}", self.steps));
        }
    }

    /// Prints a line, above the bar if there is one.
    pub fn line(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tell!("{text}")),
            None => tell!("{text}"),
        }
        self.last_line = Some(Instant::now());
    }

    /// Removes the bar.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// A whole number with thousands separated by commas.
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
    fn thousands_are_separated() {
        for (value, text) in
            [(0.0, "0"), (999.4, "999"), (1000.0, "1,000"), (1234567.0, "1,234,567"), (-1234.0, "-1,234")]
        {
            assert_eq!(thousands(value), text);
        }
    }
}
