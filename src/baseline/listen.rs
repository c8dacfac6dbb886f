//! Listens to a run's output as it comes: reads its log, keeps it, and says why a run failed.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use nanochat_artifacts::files;

use super::BaselineError;
use super::arm::Event;
use super::collect::Record;
use super::log::{LogEvent, LogReader};
use super::process::{Ending, Finished, Stream};
use super::words::hex;

/// Listens to both streams.
pub(super) struct Listener<'o> {
    out: LogReader,
    error: LogReader,
    record: Record,
    hash: Sha256,
    complaints: Tail,
    everything: Tail,
    kept: Option<File>,
    observe: &'o mut dyn FnMut(Event<'_>),
}

/// What was heard.
pub(super) struct Heard {
    pub record: Record,
    pub log_sha256: String,
    /// The last line of standard error that isn't empty.
    pub last_words: String,
    /// The last lines of both streams.
    pub last_lines: Vec<String>,
}

/// Lines that are kept of a run that failed.
const LAST_LINES: usize = 20;

impl<'o> Listener<'o> {
    /// A listener for a run of so many steps; `output` is where all of it is kept, replacing an earlier run's.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn new(
        planned: u64,
        output: Option<&Path>,
        observe: &'o mut dyn FnMut(Event<'_>),
    ) -> Result<Self, BaselineError> {
        let fresh = |path: &Path| -> Result<File, BaselineError> {
            files::remove(path).map_err(BaselineError::io("remove", path))?;
            files::append(path).map_err(BaselineError::io("write", path))
        };
        let kept = output.map(fresh).transpose()?;
        observe(Event::Started);
        Ok(Self {
            out: LogReader::default(),
            error: LogReader::default(),
            record: Record::of(planned),
            hash: Sha256::new(),
            complaints: Tail::default(),
            everything: Tail::default(),
            kept,
            observe,
        })
    }

    /// Takes a piece of output.
    pub fn hear(&mut self, stream: Stream, bytes: &[u8], at: f64) {
        self.everything.hear(bytes);
        if let Some(file) = &mut self.kept {
            // A disk that is full must not end the run; the figures are kept elsewhere.
            let _ = file.write_all(bytes);
        }
        let reader = match stream {
            Stream::Out => {
                self.hash.update(bytes);
                &mut self.out
            }
            Stream::Error => {
                self.complaints.hear(bytes);
                &mut self.error
            }
        };
        for event in reader.push(bytes) {
            take(&mut self.record, self.observe, &event, at);
        }
    }

    /// Whether the loss has ceased to be a number.
    pub fn has_diverged(&self) -> bool {
        self.record.diverged.is_some()
    }

    /// The process has ended.
    pub fn end(mut self, at: f64) -> Heard {
        for event in self.out.finish().into_iter().chain(self.error.finish()) {
            take(&mut self.record, self.observe, &event, at);
        }
        Heard {
            record: self.record,
            log_sha256: hex(&self.hash.finalize()),
            last_words: self.complaints.lines().pop().unwrap_or_default(),
            last_lines: self.everything.lines(),
        }
    }
}

fn take(record: &mut Record, observe: &mut dyn FnMut(Event<'_>), event: &LogEvent, at: f64) {
    record.take(event, Some(at));
    observe(Event::Log(event, at));
}

/// The end of what was printed.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    const KEPT: usize = 1 << 13;

    fn hear(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let excess = self.0.len().saturating_sub(Self::KEPT);
        self.0.drain(..excess);
    }

    /// The last lines that aren't empty, in order.
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.0);
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
        let skipped = lines.len().saturating_sub(LAST_LINES);
        lines.into_iter().skip(skipped).map(str::to_string).collect()
    }
}

/// The reason of a failure; none when the run came to its end.
pub(super) fn why_failed(finished: &Finished, heard: &Heard, timeout: Duration) -> Option<String> {
    let record = &heard.record;
    let after =
        |words: &str| format!("{words} after {} of {} steps", record.steps(), record.planned.unwrap_or_default());
    let last_words = heard.last_words.trim().to_string();
    let said = record.exception.clone().unwrap_or(last_words);
    let with_words = |reason: String| if said.is_empty() { reason } else { format!("{reason}: {said}") };
    if let Some((step, loss)) = record.diverged {
        return Some(format!("the loss is no number ({loss}) in step {step}"));
    }
    match finished.ending {
        Ending::Exited(0) => record.incomplete(),
        Ending::Exited(code) => Some(with_words(after(&format!("ended with exit code {code}")))),
        Ending::Killed(9) => Some(after("killed by signal 9, as the system does when memory runs out,")),
        Ending::Killed(signal) => Some(with_words(after(&format!("killed by signal {signal}")))),
        Ending::TimedOut => Some(after(&format!("stopped at the time limit of {} seconds", timeout.as_secs_f64()))),
        Ending::Stopped => Some("stopped by a signal".to_string()),
    }
}
