//! What is wrong with a text, with place and way out: for people through miette, for scripts as plain fields.

use std::fmt;

use miette::{LabeledSpan, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

use super::Place;

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
            message: message.into(),
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
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
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
        let span = |place: &Place| SourceSpan::from(place.mark());
        let main = LabeledSpan::new_primary_with_span(Some(self.label.clone()), span(place));
        let other = (self.other.iter())
            .filter(|(other, _)| other.source() == place.source())
            .map(move |(other, label)| LabeledSpan::new_with_span(Some(label.clone()), span(other)));
        Some(Box::new(std::iter::once(main).chain(other)))
    }
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
        Self { subject: subject.into(), diagnostics }
    }

    /// One problem alone.
    pub fn one(subject: impl Into<String>, diagnostic: Diagnostic) -> Self {
        Self { subject: subject.into(), diagnostics: vec![diagnostic] }
    }

    fn single(&self) -> Option<&Diagnostic> {
        if let [single] = self.diagnostics.as_slice() { Some(single) } else { None }
    }
}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.single() {
            Some(single) => single.fmt(f),
            None => write!(f, "{} has {} problems", self.subject, self.diagnostics.len()),
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
