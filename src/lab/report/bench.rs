//! The comparison of two benchmarks, as a Markdown comment and as a page.

use std::path::Path;

use serde::Serialize;

use super::context::Limits;
use super::text::clean;
use super::{MAX_COMMENT_CHARS, Rendered, ReportError, templates};
use crate::scorecard::{BenchComparison, ComparedFigure};
use nanochat_artifacts::Verdict;

/// What the templates `bench.md` and `bench.html` are given.
#[derive(Serialize)]
struct BenchContext {
    kind: String,
    before: String,
    after: String,
    verdict: Verdict,
    reason: String,
    differences: Vec<String>,
    figures: Vec<ComparedFigure>,
    limits: Limits,
    version: &'static str,
}

/// Renders a comparison of benchmarks in both forms.
///
/// # Errors
/// As [`super::render`].
pub fn render_bench_comparison(
    comparison: &BenchComparison,
    overrides: Option<&Path>,
) -> Result<Rendered, ReportError> {
    let environment = templates::environment(overrides)?;
    let named = |figure: &ComparedFigure| ComparedFigure { name: clean(&figure.name), ..figure.clone() };
    let mut context = BenchContext {
        kind: clean(&comparison.kind),
        before: clean(&comparison.before),
        after: clean(&comparison.after),
        verdict: comparison.verdict,
        reason: clean(&comparison.reason),
        differences: comparison.differences.iter().map(|text| clean(text)).collect(),
        figures: comparison.figures.iter().map(named).collect(),
        limits: Limits::LADDER[0],
        version: env!("CARGO_PKG_VERSION"),
    };
    let html = templates::render(&environment, templates::BENCH_HTML, &context)?;
    let mut chars = 0;
    for limits in Limits::LADDER {
        context.limits = limits;
        let markdown = templates::render(&environment, templates::BENCH_MARKDOWN, &context)?;
        chars = markdown.chars().count();
        if chars < MAX_COMMENT_CHARS {
            return Ok(Rendered { markdown, html });
        }
    }
    Err(ReportError::TooLong { chars })
}
