//! Why no spec was written.

use std::path::{Path, PathBuf};

use nanochat_artifacts::ArtifactError;
use nanochat_engine::data::DataError;
use nanochat_experiment::config::SpecErrors;
use nanochat_plan::PlanError;

use crate::bench::BenchError;
use crate::hardware::Mismatch;
use crate::run::{RunError, duration};

/// Why no spec was written.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum InitError {
    /// Something lies at the file's place.
    #[error("{} is there already, and nothing is overwritten", path.display())]
    #[diagnostic(help("name another file, or remove this one first"))]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file can't be written.
    #[error("can't write {}: {reason}", path.display())]
    #[diagnostic(help("choose a folder that you may write to"))]
    Unwritten {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file's name can't be an experiment's.
    #[error("an experiment can't be called `{name}`")]
    #[diagnostic(help(
        "name the file with letters, digits, `.`, `_` and `-`, ending in .yaml: experiments/my-change.yaml"
    ))]
    Name {
        /// What the file would have it called.
        name: String,
    },
    /// What is compared can't be.
    #[error("{}: {reason}", cannot(argument))]
    #[diagnostic(help("{help}"))]
    Compare {
        /// What was written; nothing where nothing was.
        argument: String,
        /// What is wrong with it.
        reason: String,
        /// How it is written.
        help: String,
    },
    /// Checkouts read the baseline's format alone.
    #[error("a checkout of karpathy/nanochat reads folders of parquet shards, and this data is something else")]
    #[diagnostic(help(
        "name such a folder with --data; `nanochat data write` makes one of other data, and `nanochat data download climbmix` brings one"
    ))]
    ArmsNeedParquet,
    /// The time doesn't reach for the runs.
    #[error(
        "{runs} runs don't fit into {}: each would have {steps} optimizer steps, and fewer than {fewest} say nothing",
        duration(*seconds)
    )]
    #[diagnostic(help("ask for --time {} or more, compare fewer values, or ask for a larger --difference", duration(*enough)))]
    NoTime {
        /// Number of runs.
        runs: u64,
        /// Time asked for in seconds.
        seconds: f64,
        /// Steps that each run would have.
        steps: u64,
        /// Steps that each must have.
        fewest: u64,
        /// Seconds that would do.
        enough: f64,
    },
    /// The difference is smaller than any practical number of seeds shows.
    #[error(
        "no {most} seeds show a difference of {difference} bits per byte: between seeds the figure varies by {deviation:.5} ({known_from})"
    )]
    #[diagnostic(help(
        "ask for --difference {reachable:.5} or more, or measure the noise of a larger model with `nanochat noise SPEC`"
    ))]
    Undetectable {
        /// What was asked for.
        difference: f64,
        /// Most seeds that are proposed.
        most: u64,
        /// Standard deviation between seeds.
        deviation: f64,
        /// Where that is known from.
        known_from: String,
        /// What that many seeds show.
        reachable: f64,
    },
    /// The validation split is smaller than a batch.
    #[error("the validation split of {data} has about {tokens} tokens, and one batch of the evaluation has {batch}")]
    #[diagnostic(help(
        "give more data: the last file of a folder is the validation split, or the last tenth of a single file's documents"
    ))]
    SmallValidation {
        /// The data.
        data: String,
        /// Its tokens.
        tokens: u64,
        /// Tokens of a batch.
        batch: u64,
    },
    /// The data can't be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(#[from] DataError),
    /// The profile isn't one, or the question makes no valid spec.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Spec(#[from] SpecErrors),
    /// The machine isn't what the profile says.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Machine(#[from] Mismatch),
    /// A cell can't be planned.
    #[error("{error}")]
    Plan {
        /// Why.
        error: PlanError,
        /// What to change.
        #[help]
        help: Option<String>,
    },
    /// The engine can't be measured.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Bench(#[from] BenchError),
    /// Data or tokenizer can't be prepared.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Run(#[from] RunError),
    /// The schema or the folder can't be written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Artifact(#[from] ArtifactError),
}

impl InitError {
    pub(super) fn plan(error: PlanError) -> Self {
        Self::Plan { help: error.help(), error }
    }

    pub(super) fn compare(argument: &str, reason: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Compare { argument: argument.to_owned(), reason: reason.into(), help: help.into() }
    }

    /// A file that couldn't be created, which may be there by now.
    pub(super) fn unwritten(path: &Path, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => Self::Exists { path: path.to_path_buf() },
            _ => Self::Unwritten { path: path.to_path_buf(), reason: error.to_string() },
        }
    }
}

/// What can't be compared, which may be nothing at all.
fn cannot(argument: &str) -> String {
    if argument.trim().is_empty() { "nothing is compared".to_owned() } else { format!("can't compare `{argument}`") }
}
