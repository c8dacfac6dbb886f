//! The user's own command at the end of an experiment.

use std::io;
use std::process::{Command, Stdio};

use super::Outcome;

/// Runs a command through the shell, with what happened in its environment.
///
/// # Errors
/// It can't be started, or says that it failed.
pub fn run_hook(command: &str, experiment: &str, outcome: &Outcome) -> io::Result<()> {
    let status = if outcome.interrupted {
        "interrupted"
    } else if outcome.failed.is_empty() && outcome.unfinished.is_empty() && outcome.no_timing.is_none() {
        "finished"
    } else {
        "failed"
    };
    let report = outcome.judged.as_ref().map(|judged| judged.reports.markdown.display().to_string());
    let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let ended = Command::new(shell)
        .args([flag, command])
        .env("NANOCHAT_EXPERIMENT", experiment)
        .env("NANOCHAT_STATUS", status)
        .env("NANOCHAT_FAILED_RUNS", outcome.failed.len().to_string())
        .env("NANOCHAT_REPORT", report.unwrap_or_default())
        .stdin(Stdio::null())
        .status()?;
    if ended.success() { Ok(()) } else { Err(io::Error::other(format!("it ended with {ended}"))) }
}
