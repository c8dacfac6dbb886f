//! What is wrong with a text, with place and way out: for people through miette, for scripts as plain fields.

use std::fmt;

use miette::{LabeledSpan, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

use super::Place;

/// Longest sentence in bytes; what names a value of thousands of letters is cut.
const MAX_SENTENCE: usize = 1_000;
/// Most problems that are told of at once.
pub const MAX_PROBLEMS: usize = 100;
/// A line longer than this many bytes is shown around the mark only.
const MAX_LINE: usize = 300;
/// Bytes that are shown on either side of a mark in such a line.
const AROUND: usize = 60;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The document can't be used.
    Error,
    /// It can, but the author should know.
    Warning,
}

/// One problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    /// Stable name of the kind, such as `unknown-key`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The sentence.
    pub message: String,
    /// Where, when it is somewhere.
    pub place: Option<Place>,
    /// What to write under the mark.
    pub label: String,
    /// Another place in the same source, such as the first of two equal keys.
    pub other: Option<(Place, String)>,
    /// The way out.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error without place.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: cut(message.into()),
            place: None,
            label: "here".to_owned(),
            other: None,
            help: None,
        }
    }

    /// A warning without place.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Says where.
    pub fn at(mut self, place: Option<&Place>) -> Self {
        self.place = place.cloned();
        self
    }

    /// Says what to write under the mark.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Marks another place too.
    pub fn other(mut self, place: &Place, label: impl Into<String>) -> Self {
        self.other = Some((place.clone(), label.into()));
        self
    }

    /// Says what to do.
    pub fn help(self, help: impl Into<String>) -> Self {
        self.help_if_any(Some(help.into()))
    }

    /// Says what to do, where something can be done.
    pub fn help_if_any(mut self, help: Option<String>) -> Self {
        self.help = help.map(cut);
        self
    }
}

/// A text of bounded length.
fn cut(mut text: String) -> String {
    if text.len() > MAX_SENTENCE {
        text.truncate(text.floor_char_boundary(MAX_SENTENCE));
        text.push('…');
    }
    text
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

/// A source as miette wants it: whole lines around a span, under the source's name.
impl SourceCode for Place {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, miette::MietteError> {
        let contents = self.source().text().read_span(span, before, after)?;
        if contents.data().split(|&byte| byte == b'\n').any(|line| line.len() > MAX_LINE) {
            return Ok(Box::new(self.part_of_line(span)));
        }
        Ok(Box::new(MietteSpanContents::new_named(
            self.source().name().to_owned(),
            contents.data(),
            *contents.span(),
            contents.line(),
            contents.column(),
            contents.line_count(),
        )))
    }
}

impl Place {
    /// What stands around a mark in a line that is too long to be shown.
    fn part_of_line(&self, span: &SourceSpan) -> MietteSpanContents<'_> {
        let text = self.source().text();
        let (line, _) = self.source().line_column(span.offset());
        let whole = self.source().line_range(line);
        let end = (span.offset() + span.len().min(MAX_LINE - 2 * AROUND)).clamp(whole.start, whole.end);
        let start = text.floor_char_boundary(span.offset().min(end).saturating_sub(AROUND).max(whole.start));
        let end = text.ceil_char_boundary((end + AROUND).min(whole.end));
        let (_, column) = self.source().line_column(start);
        let shown = text.get(start..end).unwrap_or_default();
        let name = self.source().name().to_owned();
        let span = SourceSpan::from((start, end - start));
        MietteSpanContents::new_named(name, shown.as_bytes(), span, line - 1, column - 1, 1)
    }
}

impl miette::Diagnostic for Diagnostic {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as _)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.place.as_ref().map(|place| place as _)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.place.as_ref()?;
        let span = |place: &Place| {
            let mark = place.mark();
            let end = place.source().text().floor_char_boundary(mark.end.min(mark.start + MAX_LINE - 2 * AROUND));
            SourceSpan::from(mark.start..end)
        };
        let main = LabeledSpan::new_primary_with_span(Some(self.label.clone()), span(place));
        let other = (self.other.iter())
            .filter(|(other, _)| std::sync::Arc::ptr_eq(other.source(), place.source()) && shown_together(place, other))
            .map(move |(other, label)| LabeledSpan::new_with_span(Some(label.clone()), span(other)));
        Some(Box::new(std::iter::once(main).chain(other)))
    }
}

/// Whether two places can stand in one picture: not when either lies in a line that is shown in part.
fn shown_together(one: &Place, other: &Place) -> bool {
    let is_short = |place: &Place| {
        let (line, _) = place.line_column();
        place.source().line_range(line).len() <= MAX_LINE
    };
    is_short(one) && is_short(other)
}

/// Everything that is wrong with a spec, never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct SpecErrors {
    /// What it is about, usually a file name.
    pub subject: String,
    /// The problems, in order of place.
    pub diagnostics: Vec<Diagnostic>,
}

impl SpecErrors {
    /// Puts the problems in order of place and drops repeated ones.
    pub fn new(subject: impl Into<String>, mut diagnostics: Vec<Diagnostic>) -> Self {
        let at = |diagnostic: &Diagnostic| {
            let place = diagnostic.place.as_ref();
            place.map(|place| (place.source().name().to_owned(), place.span().start))
        };
        diagnostics.sort_by_key(|diagnostic| (diagnostic.severity, at(diagnostic)));
        diagnostics.dedup_by(|a, b| a.message == b.message && a.place == b.place);
        let more = diagnostics.len().saturating_sub(MAX_PROBLEMS);
        if more > 0 {
            diagnostics.truncate(MAX_PROBLEMS);
            diagnostics.push(Diagnostic::error("more", format!("and {more} more problems")));
        }
        Self { subject: subject.into(), diagnostics }
    }

    /// One problem alone.
    pub fn one(subject: impl Into<String>, diagnostic: Diagnostic) -> Self {
        Self { subject: subject.into(), diagnostics: vec![diagnostic] }
    }

    /// How many, in words; warnings are not called problems.
    fn count(&self) -> String {
        let warnings = self.diagnostics.iter().filter(|found| found.severity == Severity::Warning).count();
        let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        match self.diagnostics.len() - warnings {
            0 => plural(warnings, "warning"),
            errors if warnings == 0 => plural(errors, "problem"),
            errors => format!("{} and {}", plural(errors, "problem"), plural(warnings, "warning")),
        }
    }

    fn single(&self) -> Option<&Diagnostic> {
        if let [single] = self.diagnostics.as_slice() { Some(single) } else { None }
    }
}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.single() {
            Some(single) => single.fmt(f),
            None => write!(f, "{} has {}", self.subject, self.count()),
        }
    }
}

impl std::error::Error for SpecErrors {}

impl miette::Diagnostic for SpecErrors {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.single().and_then(miette::Diagnostic::code)
    }

    fn severity(&self) -> Option<miette::Severity> {
        self.single().and_then(miette::Diagnostic::severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.single().and_then(miette::Diagnostic::help)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.single().and_then(miette::Diagnostic::source_code)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.single().and_then(miette::Diagnostic::labels)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        let several = self.diagnostics.len() > 1;
        let each = self.diagnostics.iter().map(|diagnostic| diagnostic as &dyn miette::Diagnostic);
        if several { Some(Box::new(each)) } else { None }
    }
}
