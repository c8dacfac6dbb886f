//! Exit codes, which scripts rely on, and the error type of the command line.

use std::process::ExitCode;

use super::outside::Handler;

/// Exit code of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The work failed.
    Failed = 1,
    /// Wrong usage or an invalid document.
    Invalid = 2,
    /// With `--gate`: a verdict failed.
    VerdictFailed = 3,
    /// With `--gate`: a verdict is inconclusive.
    Inconclusive = 4,
    /// With `--gate`: nothing could be compared.
    NothingCompared = 5,
    /// With `--gate`: something changed and wasn't judged, or results are stale against their spec.
    Unjudged = 6,
    /// A run of a cluster's job was stopped before it came a step further; can be resumed.
    NoProgress = 75,
    /// Stopped by a signal; can be resumed.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// An error with its exit code.
#[derive(Debug)]
pub struct CliError {
    exit: Exit,
    report: miette::Report,
}

/// Result of a command.
pub type CliResult = Result<Exit, CliError>;

impl CliError {
    /// The work failed (exit code 1).
    pub fn failed(report: impl Into<miette::Report>) -> Self {
        Self { exit: Exit::Failed, report: report.into() }
    }

    /// Wrong usage or an invalid document (exit code 2).
    pub fn invalid(report: impl Into<miette::Report>) -> Self {
        Self { exit: Exit::Invalid, report: report.into() }
    }

    /// Wrong usage or an invalid document (exit code 2), as a message with optional help.
    pub fn usage(message: impl std::fmt::Display, help: Option<&str>) -> Self {
        let report = match help {
            Some(help) => miette::miette!(help = help.to_string(), "{message}"),
            None => miette::miette!("{message}"),
        };
        Self { exit: Exit::Invalid, report }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Prints the error to standard error.
    pub fn print(&self) {
        super::output::report(&self.report);
    }
}

/// How errors are printed. Messages include their causes, so the chain of causes is not printed again.
pub(super) fn report_handler() -> Handler {
    Handler(miette::MietteHandlerOpts::new().without_cause_chain().build())
}
