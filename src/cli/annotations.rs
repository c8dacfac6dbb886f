//! Annotations of GitHub Actions: workflow commands that show a finding beside the file that it is about.

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// It fails the job.
    Error,
    /// It doesn't.
    Warning,
    /// It informs.
    Notice,
}

/// Prints one annotation; `place` as `file=…,line=…`, empty where no file is to blame.
pub fn annotate(level: Level, place: &str, title: &str, message: &str) {
    let level = match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Notice => "notice",
    };
    let place = if place.is_empty() { String::new() } else { format!("{place},") };
    let command = format!("::{level} {place}title={}::{}", property(title), data(message));
    super::output::text(&(super::outside::command(&command) + "\n"));
}

/// The place of a file.
pub fn file(path: &str) -> String {
    format!("file={}", property(path))
}

/// Text after the `::` of a workflow command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Text within the properties of a workflow command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
