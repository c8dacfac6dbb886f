//! Reads what the baseline's training script prints, as it prints it: partial lines, colours, foreign bytes and all.
//!
//! Refuses nothing: a line that isn't understood is passed over, so that a new release's extra lines do no harm. What matters
//! is recognised by its own form (`scripts/base_train.py` at the pinned commit).

use std::borrow::Cow;

use nanochat_plan::Precision;

/// Something that a line of the log says.
#[derive(Debug, Clone, PartialEq)]
pub enum LogEvent {
    /// Validation bits per byte after so many steps.
    Validation {
        /// Steps done.
        step: u64,
        /// Bits per byte, six digits.
        bpb: f64,
    },
    /// The CORE metric after so many steps.
    Core {
        /// Steps done.
        step: u64,
        /// The metric, four digits.
        metric: f64,
    },
    /// One training step.
    Step {
        /// Step number, from 0.
        step: u64,
        /// Number of steps planned.
        of: u64,
        /// Smoothed training loss (debiased moving average with factor 0.9), nats per token.
        loss: f64,
        /// Seconds for the step.
        seconds: f64,
        /// Tokens per second, a whole number.
        tokens_per_second: f64,
    },
    /// Lowest validation bits per byte, printed at the end: its presence means that the script came to its end.
    Minimum(f64),
    /// Peak device memory in bytes; 0 on a CPU.
    PeakMemory(u64),
    /// Arithmetic of the model.
    Precision(Precision),
    /// How attention is computed.
    Attention(&'static str),
    /// A warning line.
    Warning(String),
    /// The last line of a Python traceback: the exception.
    Exception(String),
}

/// PyTorch's attention, where there is no other.
const SDPA: &str = "PyTorch SDPA, the fallback without Flash Attention 3";
/// PyTorch's attention, where the other doesn't take the arithmetic.
const SDPA_FOR_DTYPE: &str = "PyTorch SDPA, the fallback in this arithmetic";

/// A line of a step, an evaluation, and the end, as the pinned commit prints them: what a log that can't be read lacks.
pub const EXPECTED: [&str; 3] = [
    "step 00000/00060 (0.00%) | loss: 6.900000 | lrm: 1.00 | dt: 40.00ms | tok/sec: 25,600",
    "Step 00060 | Validation bpb: 2.700000",
    "Minimum validation bpb: 2.700000",
];

/// Turns the log's bytes into events, whatever the pieces they arrive in.
#[derive(Debug, Default)]
pub struct LogReader {
    partial: Vec<u8>,
    in_traceback: bool,
}

/// A line longer than this is cut: a log without line ends must not fill the memory.
const LONGEST_LINE: usize = 1 << 20;

impl LogReader {
    /// Takes the next piece of the log and gives the events of the lines that it completes.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<LogEvent> {
        let mut events = Vec::new();
        for &byte in bytes {
            if byte == b'\n' || byte == b'\r' {
                events.extend(self.end_line());
            } else if self.partial.len() < LONGEST_LINE {
                self.partial.push(byte);
            }
        }
        events
    }

    /// The log has ended: what is left of an unfinished line is read too.
    pub fn finish(&mut self) -> Vec<LogEvent> {
        self.end_line().into_iter().collect()
    }

    fn end_line(&mut self) -> Option<LogEvent> {
        let bytes = std::mem::take(&mut self.partial);
        let line = without_colours(&String::from_utf8_lossy(&bytes));
        if line.starts_with("Traceback (most recent call last)") {
            self.in_traceback = true;
            return None;
        }
        if self.in_traceback && !line.is_empty() && !line.starts_with(' ') {
            self.in_traceback = false;
            return Some(LogEvent::Exception(line));
        }
        event_of(line.trim())
    }
}

/// Reads a whole log: UTF-8, any encoding that has ASCII in it, or UTF-16 with its mark (a redirected log on Windows).
pub fn read_log(bytes: &[u8]) -> Vec<LogEvent> {
    let mut reader = LogReader::default();
    let mut events = reader.push(&without_utf16(bytes));
    events.extend(reader.finish());
    events
}

/// UTF-16 as UTF-8, everything else as it is.
fn without_utf16(bytes: &[u8]) -> Cow<'_, [u8]> {
    let (pairs, big_endian) = match bytes {
        [0xFF, 0xFE, pairs @ ..] => (pairs, false),
        [0xFE, 0xFF, pairs @ ..] => (pairs, true),
        _ => return Cow::Borrowed(bytes),
    };
    let number = |pair: &[u8; 2]| if big_endian { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) };
    let units: Vec<u16> = pairs.as_chunks::<2>().0.iter().map(number).collect();
    Cow::Owned(String::from_utf16_lossy(&units).into_bytes())
}

fn event_of(line: &str) -> Option<LogEvent> {
    if let Some(rest) = line.strip_prefix("Step ") {
        let (step, what) = rest.split_once(" | ")?;
        let step = step.trim().parse().ok()?;
        let (name, value) = what.split_once(": ")?;
        let value = finite(value)?;
        return match name {
            "Validation bpb" => Some(LogEvent::Validation { step, bpb: value }),
            "CORE metric" => Some(LogEvent::Core { step, metric: value }),
            _ => None,
        };
    }
    if let Some(rest) = line.strip_prefix("step ") {
        return step_of(rest);
    }
    if let Some(value) = line.strip_prefix("Minimum validation bpb: ") {
        return finite(value).map(LogEvent::Minimum);
    }
    if let Some(value) = line.strip_prefix("Peak memory usage: ") {
        let mebibytes = finite(value.strip_suffix("MiB")?)?;
        return (mebibytes >= 0.0).then(|| LogEvent::PeakMemory((mebibytes * f64::from(1 << 20)) as u64));
    }
    if let Some(rest) = line.strip_prefix("COMPUTE_DTYPE: torch.") {
        return match rest.split_whitespace().next()? {
            "float32" => Some(LogEvent::Precision(Precision::F32)),
            "bfloat16" => Some(LogEvent::Precision(Precision::Bf16)),
            _ => None,
        };
    }
    if line.contains("Using Flash Attention 3") {
        return Some(LogEvent::Attention("Flash Attention 3"));
    }
    if let Some(text) = line.strip_prefix("WARNING: ").filter(|text| text.contains("SDPA fallback")) {
        // Which of the two it is, is part of the warning.
        let is_dtype = text.contains("only supports");
        return Some(LogEvent::Attention(if is_dtype { SDPA_FOR_DTYPE } else { SDPA }));
    }
    line.strip_prefix("WARNING: ").map(|text| LogEvent::Warning(text.to_string()))
}

/// `00012/00040 (30.00%) | loss: 6.842333 | lrm: 1.00 | dt: 41.44ms | tok/sec: 24,708 | …`
fn step_of(rest: &str) -> Option<LogEvent> {
    let mut fields = rest.split(" | ");
    let (step, of) = fields.next()?.split_whitespace().next()?.split_once('/')?;
    let (step, of) = (step.parse().ok()?, of.parse().ok()?);
    let (mut loss, mut seconds, mut rate) = (None, None, None);
    for field in fields {
        match field.split_once(": ")? {
            ("loss", value) => loss = value.trim().parse().ok(),
            ("dt", value) => seconds = value.trim().strip_suffix("ms").and_then(finite).map(|ms| ms / 1000.0),
            ("tok/sec", value) => rate = finite(&value.replace(',', "")),
            _ => {}
        }
    }
    Some(LogEvent::Step { step, of, loss: loss?, seconds: seconds?, tokens_per_second: rate? })
}

fn finite(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|value: &f64| value.is_finite())
}

/// Drops ANSI escape sequences (ESC `[` … letter).
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '\u{1b}' {
            plain.push(character);
        } else if characters.next_if_eq(&'[').is_some() {
            while characters.next_if(|c| !c.is_ascii_alphabetic()).is_some() {}
            characters.next();
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: &str = "step 00012/00040 (30.00%) | loss: 6.842333 | lrm: 1.00 | dt: 41.44ms | tok/sec: 24,708 | bf16_mfu: 0.00 | epoch: 1 pq: 2 rg: 0 | total time: 0.00m | eta: 0.0m";

    #[test]
    fn every_kind_of_line_is_read() {
        let step = LogEvent::Step { step: 12, of: 40, loss: 6.842333, seconds: 0.04144, tokens_per_second: 24708.0 };
        let cases = [
            (STEP, Some(step)),
            ("Step 00010 | Validation bpb: 3.268846", Some(LogEvent::Validation { step: 10, bpb: 3.268846 })),
            ("Step 02000 | CORE metric: 0.1234", Some(LogEvent::Core { step: 2000, metric: 0.1234 })),
            ("\u{1b}[1mStep 00010\u{1b}[0m | Validation bpb: 3.5", Some(LogEvent::Validation { step: 10, bpb: 3.5 })),
            ("Minimum validation bpb: 2.931366", Some(LogEvent::Minimum(2.931366))),
            ("Peak memory usage: 1.50MiB", Some(LogEvent::PeakMemory(1_572_864))),
            (
                "COMPUTE_DTYPE: torch.bfloat16 (set via NANOCHAT_DTYPE=bfloat16)",
                Some(LogEvent::Precision(Precision::Bf16)),
            ),
            ("COMPUTE_DTYPE: torch.float16", None),
            ("\u{2713} Using Flash Attention 3: efficient", Some(LogEvent::Attention("Flash Attention 3"))),
            ("WARNING: Flash Attention 3 not available, using PyTorch SDPA fallback", Some(LogEvent::Attention(SDPA))),
            ("WARNING: slow", Some(LogEvent::Warning("slow".to_string()))),
            ("Step 00010 | Validation bpb: nan", None),
            ("step 00012/00040 (30.00%) | loss: 6.84", None),
            ("step x/y", None),
            ("anything else", None),
        ];
        for (line, event) in cases {
            assert_eq!(read_log(line.as_bytes()), event.into_iter().collect::<Vec<_>>(), "{line}");
        }
    }

    #[test]
    fn pieces_and_foreign_bytes_do_no_harm() {
        let mut reader = LogReader::default();
        let mut events = Vec::new();
        let mut log = b"\xe9\xff\xfe vrai\n".to_vec();
        log.extend(STEP.as_bytes());
        for byte in log {
            events.extend(reader.push(&[byte]));
        }
        assert!(events.is_empty());
        assert_eq!(reader.finish().len(), 1);
    }

    #[test]
    fn utf16_is_read() {
        let text = format!("début\r\n{STEP}\r\nMinimum validation bpb: 2.5\r\n");
        let expected = read_log(text.as_bytes());
        assert_eq!(expected.len(), 2);
        let little = text.encode_utf16().flat_map(u16::to_le_bytes);
        let big = text.encode_utf16().flat_map(u16::to_be_bytes);
        assert_eq!(read_log(&[0xFF, 0xFE].into_iter().chain(little).collect::<Vec<_>>()), expected);
        assert_eq!(read_log(&[0xFE, 0xFF].into_iter().chain(big).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn a_traceback_gives_its_exception() {
        let log = "Traceback (most recent call last):\n  File \"x.py\", line 1, in <module>\n    f()\nRuntimeError: out of memory\n";
        assert_eq!(read_log(log.as_bytes()), [LogEvent::Exception("RuntimeError: out of memory".to_string())]);
    }

    #[test]
    fn the_recorded_log_is_read_whole() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference/base_train.log");
        let Ok(bytes) = std::fs::read(&path) else {
            eprintln!("skipped: no recorded log beside the project");
            return;
        };
        let events = read_log(&bytes);
        let count = |wanted: fn(&LogEvent) -> bool| events.iter().filter(|event| wanted(event)).count();
        assert_eq!(count(|event| matches!(event, LogEvent::Step { .. })), 40);
        assert_eq!(count(|event| matches!(event, LogEvent::Validation { .. })), 5);
        assert_eq!(count(|event| matches!(event, LogEvent::Minimum(_))), 1);
    }
}
