//! Reports: one Markdown comment and one self-contained HTML file from a scorecard and the documents beneath it.
//!
//! Formats, never computes: every figure comes from a document; only the geometry of drawings is worked out here. The
//! templates are compiled in and can be overridden one by one from a folder; what they are given is [`Context`]. Refuses to
//! print anything that came from a file unescaped, to load anything over a network, and to outgrow a pull-request comment.

mod bench;
mod comparison;
mod context;
mod differences;
mod effort;
mod leaderboard;
mod named_arms;
mod plot;
mod provenance;
mod site;
mod templates;
mod text;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::Serialize;

use nanochat_artifacts::{
    ArtifactError, BaselineResult, ExperimentDocuments, ExperimentFolder, ResultsRoot, Scorecard, files, read_document,
    read_experiment, write_atomic,
};

pub use bench::render_bench_comparison;
pub use comparison::{ComparisonContext, ComparisonRow, render_comparison};
pub use context::{BlockView, Context, HeatRow, HeatView, IntervalView, Limits, RunView, TimedView, VerdictView};
pub use differences::{Differences, DifferingCell, DifferingValue};
pub use effort::Effort;
pub use leaderboard::{leaderboard, refresh_leaderboard, write_leaderboard};
pub use named_arms::{ArmFailure, DiffView, NamedArm};
pub use plot::{LegendEntry, Plot, Point, Series, Tick};
pub use provenance::{Arm, Provenance};
pub use site::{DiffLine, SiteIndex, SitePage, SpecChange, write_site};

/// GitHub's limit on a comment, in characters.
pub const MAX_COMMENT_CHARS: usize = 65_536;

/// The line by which a manifest is this program's own.
const OWN_NAME: &str = "name = \"nanochat-rs-next\"";
/// Longest manifest that is looked at, in bytes.
const LONGEST_MANIFEST: u64 = 1 << 20;

/// Why no report could be made.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum ReportError {
    /// A document couldn't be read or written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Artifact(#[from] ArtifactError),
    /// A template that can't be parsed or rendered.
    #[error("the template `{name}` can't be rendered: {message}")]
    #[diagnostic(help("templates use minijinja's syntax; the built-in ones in `templates/` show what they are given"))]
    Template {
        /// Its name.
        name: String,
        /// What is wrong, with the line.
        message: String,
    },
    /// A Markdown report that can't be made short enough.
    #[error("the Markdown report has {chars} characters, more than the {MAX_COMMENT_CHARS} of a comment")]
    #[diagnostic(help("shorten the template: it prints more than the rows it was limited to"))]
    TooLong {
        /// Its length.
        chars: usize,
    },
}

/// Both forms of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// One pull-request comment.
    pub markdown: String,
    /// One self-contained file.
    pub html: String,
}

/// What a report is made from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The verdicts.
    pub scorecard: Scorecard,
    /// The documents that they rest on.
    pub documents: ExperimentDocuments,
    /// The recorded baseline, when there is one.
    pub baseline: Option<BaselineResult>,
    /// The spec's path from the project's root: the recorded one, or that of the usual place where a spec lies there.
    pub spec: Option<String>,
    /// Whether the project is this program's own source, whose commits the runs name.
    pub is_own_repository: bool,
}

impl Sources {
    /// Reads everything from an experiment's folder; the baseline's path is taken from `project_root`.
    pub fn read(folder: &ExperimentFolder, project_root: &Path) -> Result<Self, ReportError> {
        let scorecard: Scorecard = read_document(&folder.scorecard())?;
        Self::with_scorecard(scorecard, folder, project_root)
    }

    /// Reads everything but the scorecard, which is given.
    pub fn with_scorecard(
        scorecard: Scorecard,
        folder: &ExperimentFolder,
        project_root: &Path,
    ) -> Result<Self, ReportError> {
        let documents = read_experiment(folder)?;
        let baseline = match &documents.record.baseline_results {
            None => None,
            Some(path) => match read_document(&files::beneath(project_root, path)?) {
                Ok(result) => Some(result),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error.into()),
            },
        };
        let spec = match &documents.record.spec {
            // Whether it is still there or not, so that the report stays what it was.
            Some(spec) => files::beneath(project_root, spec).map(|_| Some(spec.clone()))?,
            None => {
                let usual = format!("experiments/{}.yaml", documents.record.name);
                files::is_there(&files::beneath(project_root, &usual)?).then_some(usual)
            }
        };
        let manifest = files::beneath(project_root, "Cargo.toml")?;
        let is_own_repository = files::read_text(&manifest, LONGEST_MANIFEST).is_ok_and(|text| text.contains(OWN_NAME));
        Ok(Self { scorecard, documents, baseline, spec, is_own_repository })
    }
}

/// Renders both forms. Templates found in `overrides` take the place of the built-in ones of the same name.
///
/// # Errors
/// Tables that can't be read, templates that can't be rendered, a comment that can't be made short enough.
pub fn render(sources: &Sources, overrides: Option<&Path>) -> Result<Rendered, ReportError> {
    let names = [templates::HTML, templates::MARKDOWN];
    render_both(overrides, names, context::build(sources)?, |context, limits| context.limits = limits)
}

/// Renders the page and the comment, the latter within the widest limits that keep it short enough.
fn render_both<C: Serialize>(
    overrides: Option<&Path>,
    [html, markdown]: [&str; 2],
    mut context: C,
    limit: fn(&mut C, Limits),
) -> Result<Rendered, ReportError> {
    let environment = templates::environment(overrides)?;
    let html = templates::render(&environment, html, &context)?;
    let mut chars = 0;
    for limits in Limits::LADDER {
        limit(&mut context, limits);
        let markdown = templates::render(&environment, markdown, &context)?;
        chars = markdown.chars().count();
        if chars < MAX_COMMENT_CHARS {
            return Ok(Rendered { markdown, html });
        }
    }
    Err(ReportError::TooLong { chars })
}

/// Where [`write`] put the two files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    /// `reports/<experiment>.md`.
    pub markdown: PathBuf,
    /// `reports/<experiment>.html`.
    pub html: PathBuf,
}

/// Writes both forms to `reports/`, atomically.
pub fn write(root: &ResultsRoot, experiment: &str, rendered: &Rendered) -> Result<Written, ReportError> {
    let written = Written { markdown: root.report_markdown(experiment)?, html: root.report_html(experiment)? };
    write_atomic(&written.markdown, rendered.markdown.as_bytes())?;
    write_atomic(&written.html, rendered.html.as_bytes())?;
    Ok(written)
}

/// Reads, renders and writes the report of one experiment of a project.
pub fn update(root: &ResultsRoot, experiment: &str, overrides: Option<&Path>) -> Result<Written, ReportError> {
    let sources = Sources::read(&root.experiment(experiment)?, root.project())?;
    write(root, &sources.scorecard.experiment, &render(&sources, overrides)?)
}
