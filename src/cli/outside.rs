//! Text from outside on its way to a terminal or a log: documents, specs, names of files and tensors, what a model writes.
//!
//! Characters that steer a terminal or turn the direction of text are shown escaped, and so is a line break within a line.
//! A line that a CI runner would take for a command to itself is shown so that it doesn't.

use std::fmt;

use miette::{
    Diagnostic, LabeledSpan, MietteError, MietteHandler, MietteSpanContents, ReportHandler, Severity, SourceCode,
    SourceSpan, SpanContents,
};

/// Whether a character does something else than show itself: control characters (C0, DEL, C1), line and paragraph
/// separators, marks that change direction, and tags.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

fn escape(text: &str, kept: &[char]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match steers(c) && !kept.contains(&c) {
            true => escaped.extend(c.escape_default()),
            false => escaped.push(c),
        }
    }
    escaped
}

/// One line, whatever is in it.
pub fn line(text: &str) -> String {
    no_command(&escape(text, &[]))
}

/// Lines that this program laid out: line breaks stay.
pub fn lines(text: &str) -> String {
    let escaped = escape(text, &['\n', '\t']);
    escaped.split('\n').map(no_command).collect::<Vec<_>>().join("\n")
}

/// A command to a CI runner, whose parts were encoded as such.
pub fn command(text: &str) -> String {
    escape(text, &[])
}

/// What a model writes: line breaks and tabs stay.
pub fn generated(text: &str) -> String {
    escape(text, &['\n', '\t'])
}

/// JSON, in which such characters stand in strings alone: they are spelled as JSON does.
pub fn json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) && c != '\n' {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| escaped.push_str(&format!("\\u{unit:04x}")));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Breaks up what GitHub's runners take for a command: `::` at the start of a line, `##[` anywhere.
fn no_command(line: &str) -> String {
    let start = line.len() - line.trim_start().len();
    let (margin, rest) = line.split_at(start);
    let rest = rest.strip_prefix("::").map_or_else(|| rest.to_string(), |rest| format!("\\u{{3a}}:{rest}"));
    format!("{margin}{}", rest.replace("##[", "#\\u{23}["))
}

/// A message: the lists that errors lay out in indented lines stay lists.
fn message(text: &str) -> String {
    text.split("\n  ").map(line).collect::<Vec<_>>().join("\n  ")
}

/// Prints errors as the usual handler does, with all of their text made harmless first.
pub struct Handler(pub MietteHandler);

impl ReportHandler for Handler {
    fn debug(&self, error: &dyn Diagnostic, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.debug(&Shown::of(error), f)
    }
}

/// An error with harmless text.
#[derive(Debug)]
struct Shown {
    message: String,
    code: Option<String>,
    help: Option<String>,
    severity: Option<Severity>,
    labels: Vec<LabeledSpan>,
    source: Option<Source>,
    related: Vec<Shown>,
}

impl Shown {
    fn of(error: &dyn Diagnostic) -> Self {
        let source = Source::of(error);
        let label = |label: LabeledSpan| {
            let text = label.label().map(line);
            match label.primary() {
                true => LabeledSpan::new_primary_with_span(text, *label.inner()),
                false => LabeledSpan::new_with_span(text, *label.inner()),
            }
        };
        Self {
            message: message(&error.to_string()),
            code: error.code().map(|code| line(&code.to_string())),
            help: error.help().map(|help| message(&help.to_string())),
            severity: error.severity(),
            labels: error.labels().into_iter().flatten().filter(|label| shows(&source, label)).map(label).collect(),
            source,
            related: error.related().into_iter().flatten().map(Shown::of).collect(),
        }
    }
}

/// Whether a label has its place in what is shown of the source.
fn shows(source: &Option<Source>, label: &LabeledSpan) -> bool {
    source.as_ref().is_some_and(|source| source.holds(label))
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Shown {}

impl Diagnostic for Shown {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.code.as_ref().map(|code| Box::new(code) as _)
    }

    fn severity(&self) -> Option<Severity> {
        self.severity
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as _)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as _)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        (!self.labels.is_empty()).then(|| Box::new(self.labels.iter().cloned()) as _)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        let each = self.related.iter().map(|shown| shown as &dyn Diagnostic);
        (!self.related.is_empty()).then(|| Box::new(each) as _)
    }
}

/// The part of a source that the labels are in, with harmless text.
#[derive(Debug)]
struct Source {
    text: Vec<u8>,
    /// Its place in the whole source.
    start: usize,
    line: usize,
    column: usize,
    name: Option<String>,
}

impl Source {
    /// Lines shown around a label; the handler's own number.
    const AROUND: usize = 1;

    fn of(error: &dyn Diagnostic) -> Option<Self> {
        let spans: Vec<SourceSpan> = error.labels()?.map(|label| *label.inner()).collect();
        let start = spans.iter().map(SourceSpan::offset).min()?;
        let end = spans.iter().map(|span| span.offset() + span.len()).max()?;
        let part = error.source_code()?.read_span(&(start, end - start).into(), Self::AROUND, Self::AROUND).ok()?;
        let text = same_length(&String::from_utf8_lossy(part.data()));
        let (start, name) = (part.span().offset(), part.name().map(line));
        Some(Self { text, start, line: part.line(), column: part.column(), name })
    }

    fn holds(&self, label: &LabeledSpan) -> bool {
        label.offset() >= self.start && label.offset() + label.len() <= self.start + self.text.len()
    }
}

impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let start = span.offset().checked_sub(self.start).ok_or(MietteError::OutOfBounds)?;
        let part = self.text.as_slice().read_span(&(start, span.len()).into(), before, after)?;
        let column = if part.line() == 0 { self.column + part.column() } else { part.column() };
        let (line, count) = (self.line + part.line(), part.line_count());
        let span = (part.span().offset() + self.start, part.span().len()).into();
        Ok(Box::new(match &self.name {
            Some(name) => MietteSpanContents::new_named(name.clone(), part.data(), span, line, column, count),
            None => MietteSpanContents::new(part.data(), span, line, column, count),
        }))
    }
}

/// Replaces what steers by signs of as many bytes, so that marks stay where they belong.
fn same_length(text: &str) -> Vec<u8> {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match (steers(c) && c != '\n' && c != '\t', c.len_utf8()) {
            (false, _) => shown.push(c),
            (true, 1) => shown.push('?'),
            (true, 2) => shown.push('¿'),
            (true, 3) => shown.push('\u{fffd}'),
            (true, _) => shown.push_str("\u{fffd}?"),
        }
    }
    // What a runner takes for a command anywhere in a line.
    shown.replace("##[", "#?[").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const HOSTILE: &str = "a\u{1b}[31m\u{9b}1m\u{7}\n::add-mask::x\r##[group]\u{202e}b\u{e0041}";

    #[test]
    fn nothing_steers_a_terminal_or_a_runner() {
        let shown = line(HOSTILE);
        assert_eq!(shown, r"a\u{1b}[31m\u{9b}1m\u{7}\n::add-mask::x\r#\u{23}[group]\u{202e}b\u{e0041}");
        assert_eq!(line("  ::error::x"), r"  \u{3a}:error::x");
        assert_eq!(lines("a\n::error::x\n\tb"), "a\n\\u{3a}:error::x\n\tb");
        assert_eq!(generated("a\tb\n\u{1b}]52;c;ZXZpbA==\u{7}"), "a\tb\n\\u{1b}]52;c;ZXZpbA==\\u{7}");
        assert_eq!(line("naïve → 😀 日本"), "naïve → 😀 日本");
    }

    #[test]
    fn json_says_the_same_without_them() {
        let value = serde_json::json!({ HOSTILE: ["\u{202e}\u{9b}\u{e0041}", 1.5] });
        for text in [value.to_string(), format!("{value:#}")] {
            let shown = json(&text);
            assert!(!shown.chars().any(|c| steers(c) && c != '\n'), "{shown:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
    }

    #[test]
    fn errors_show_their_text_and_source_escaped() {
        #[derive(Debug, thiserror::Error, miette::Diagnostic)]
        #[error("it says {HOSTILE}\n  one\n  two")]
        #[diagnostic(help("not {HOSTILE}"))]
        struct Hostile {
            #[source_code]
            source_text: miette::NamedSource<String>,
            #[label("here {HOSTILE}")]
            label: SourceSpan,
        }
        let text = format!("first\n{HOSTILE}\nthe third\nfourth\n");
        let label = SourceSpan::from((text.find("third").unwrap(), 5));
        let error = Hostile { source_text: miette::NamedSource::new(HOSTILE, text), label };
        let mut printed = String::new();
        let theme = miette::GraphicalTheme::unicode_nocolor();
        let inner = miette::MietteHandlerOpts::new().graphical_theme(theme).without_cause_chain().build();
        struct Printed<'e>(Handler, &'e dyn Diagnostic);
        impl fmt::Display for Printed<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.debug(self.1, f)
            }
        }
        write!(printed, "{}", Printed(Handler(inner), &error)).unwrap();
        assert!(!printed.chars().any(|c| steers(c) && c != '\n'), "{printed:?}");
        assert!(printed.contains("the third") && printed.contains("two") && printed.contains("here a"), "{printed}");
        assert!(!printed.lines().any(|line| line.trim_start().starts_with("::")), "{printed}");
        assert!(printed.contains("#?[group]") && !printed.contains("##["), "{printed}");
    }
}
