//! The comparison of two benchmarks, as a Markdown comment and as a page.

use std::path::Path;

use serde::Serialize;

use super::context::Limits;
use super::text::clean;
use super::{MAX_COMMENT_CHARS, Rendered, ReportError, templates};
use crate::scorecard::{BenchComparison, ComparedFigure};

/// What the templates `bench.md` and `bench.html` are given.
#[derive(Serialize)]
struct BenchContext {
    #[serde(flatten)]
    comparison: BenchComparison,
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
    let (comparison, version) = (cleaned(comparison), env!("CARGO_PKG_VERSION"));
    let mut context = BenchContext { comparison, limits: Limits::LADDER[0], version };
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

/// The comparison with the texts that come from files made harmless.
fn cleaned(comparison: &BenchComparison) -> BenchComparison {
    let named = |figure: &ComparedFigure| ComparedFigure {
        name: clean(&figure.name),
        unit: clean(&figure.unit),
        ..figure.clone()
    };
    BenchComparison {
        before: clean(&comparison.before),
        after: clean(&comparison.after),
        differences: comparison.differences.iter().map(|text| clean(text)).collect(),
        figures: comparison.figures.iter().map(named).collect(),
        ..comparison.clone()
    }
}
