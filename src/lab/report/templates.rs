//! The templates: compiled in, overridable one by one from a folder, strict about undefined names. Every text is cleaned
//! where it is printed, and escaped by the kind of file.

use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use super::{ReportError, text};
use nanochat_artifacts::{ArtifactError, files};

/// The HTML report.
pub(super) const HTML: &str = "report.html";
/// The Markdown report.
pub(super) const MARKDOWN: &str = "report.md";

/// The page of a comparison.
pub(super) const COMPARE_HTML: &str = "compare.html";
/// The comment of a comparison.
pub(super) const COMPARE_MARKDOWN: &str = "compare.md";
/// The table of all results.
pub(super) const LEADERBOARD: &str = "leaderboard.md";
/// The page of a comparison of benchmarks.
pub(super) const BENCH_HTML: &str = "bench.html";
/// The comment of a comparison of benchmarks.
pub(super) const BENCH_MARKDOWN: &str = "bench.md";
/// The list of all experiments of a site.
pub(super) const SITE_INDEX: &str = "site_index.html";
/// An experiment's page of a site.
pub(super) const SITE_PAGE: &str = "site_page.html";
/// The longest template that is read, in bytes.
const LONGEST: u64 = 1 << 20;
/// Most steps that rendering may take; the largest reports take some hundred thousand.
const FUEL: u64 = 20_000_000;
/// Name of our own escaping.
const MARKDOWN_ESCAPING: &str = "markdown";

/// All templates, by name.
pub(super) const BUILT_IN: [(&str, &str); 11] = [
    (HTML, include_str!("../../../templates/report.html")),
    (MARKDOWN, include_str!("../../../templates/report.md")),
    (COMPARE_HTML, include_str!("../../../templates/compare.html")),
    (COMPARE_MARKDOWN, include_str!("../../../templates/compare.md")),
    (LEADERBOARD, include_str!("../../../templates/leaderboard.md")),
    (BENCH_HTML, include_str!("../../../templates/bench.html")),
    (BENCH_MARKDOWN, include_str!("../../../templates/bench.md")),
    (SITE_INDEX, include_str!("../../../templates/site_index.html")),
    (SITE_PAGE, include_str!("../../../templates/site_page.html")),
    ("macros.html", include_str!("../../../templates/macros.html")),
    ("style.css", include_str!("../../../templates/style.css")),
];

/// The built-in templates with those of `overrides` in their place.
pub(super) fn environment(overrides: Option<&Path>) -> Result<Environment<'static>, ReportError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|error| blame("syntax", &error))?);
    environment.set_auto_escape_callback(escaping);
    environment.set_formatter(|out, state, value| match state.auto_escape() {
        AutoEscape::Custom(kind) if kind == MARKDOWN_ESCAPING => {
            let text = value.to_string();
            let text = if value.is_safe() { text } else { text::escape_markdown(&text) };
            out.write_str(&text).map_err(minijinja::Error::from)
        }
        _ if value.kind() == ValueKind::String && !value.is_safe() => {
            let text = text::clean(value.as_str().unwrap_or_default());
            minijinja::escape_formatter(out, state, &Value::from(text))
        }
        _ => minijinja::escape_formatter(out, state, value),
    });
    environment.set_fuel(Some(FUEL));
    // These fill any width with spaces, in one step.
    ["indent", "format"].into_iter().for_each(|filter| environment.remove_filter(filter));
    filters(&mut environment);
    for (name, built_in) in BUILT_IN {
        let source = match overrides {
            Some(folder) => overridden(&folder.join(name))?.unwrap_or_else(|| built_in.to_string()),
            None => built_in.to_string(),
        };
        environment.add_template_owned(name, source).map_err(|error| blame(name, &error))?;
    }
    Ok(environment)
}

/// Renders one template.
pub(super) fn render(
    environment: &Environment<'_>,
    name: &str,
    context: &impl Serialize,
) -> Result<String, ReportError> {
    let template = environment.get_template(name).map_err(|error| blame(name, &error))?;
    let mut rendered = template.render(Serde(context)).map_err(|error| blame(name, &error))?;
    if !rendered.ends_with('\n') {
        rendered.push('\n');
    }
    Ok(rendered)
}

fn escaping(name: &str) -> AutoEscape {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => AutoEscape::Html,
        Some("md") => AutoEscape::Custom(MARKDOWN_ESCAPING.into()),
        _ => AutoEscape::None,
    }
}

fn overridden(path: &Path) -> Result<Option<String>, ReportError> {
    match files::refuse_linked_parts(path).and_then(|()| files::read_text(path, LONGEST)) {
        Ok(source) => Ok(Some(source)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ArtifactError::io("read the template", path, error).into()),
    }
}

/// The error with its line, and what caused it.
fn blame(name: &str, error: &minijinja::Error) -> ReportError {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message.push_str(&format!("; caused by: {cause}"));
        source = cause.source();
    }
    ReportError::Template { name: error.name().unwrap_or(name).to_string(), message }
}

fn filters(environment: &mut Environment<'static>) {
    environment.add_filter("fixed", text::fixed);
    environment.add_filter("signed", text::signed);
    environment.add_filter("percent", text::percent);
    environment.add_filter("grouped", text::grouped);
    environment.add_filter("si", text::si);
    environment.add_filter("bytes", text::bytes);
    environment.add_filter("duration", text::duration);
    environment.add_filter("digits", text::digits);
    environment.add_filter("code", |value: Value| text::code(&value.to_string()));
    environment.add_filter("line", text::line);
    environment.add_filter("prose", |state: &minijinja::State<'_, '_>, value: String| match state.auto_escape() {
        AutoEscape::Custom(_) => text::prose_markdown(&value),
        _ => text::prose_html(&value),
    });
    environment.add_filter("verdict", |value: String| text::verdict_words(&value));
    environment.add_filter("mark", |value: String| text::verdict_mark(&value));
}
