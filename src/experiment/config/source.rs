//! Text that the user wrote, and places in it.

use std::ops::Range;
use std::sync::Arc;

/// A named text: a file, an environment variable, or a `--set` argument.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    name: String,
    text: String,
    line_starts: Vec<usize>,
}

impl Source {
    /// A text and the name that messages call it by.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        let text = text.into();
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Arc::new(Self { name: name.into(), text, line_starts })
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line (from 1) and column in characters (from 1) of a byte offset.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|&start| start <= offset).max(1);
        let start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..offset.min(self.text.len())).unwrap_or("");
        (line, before.chars().count() + 1)
    }

    /// Byte range of a line (from 1), its break left out; empty for a line that isn't there.
    pub fn line_range(&self, line: usize) -> Range<usize> {
        let start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let next = self.line_starts.get(line).map_or(self.text.len(), |&next| next.saturating_sub(1));
        let text = self.text.get(start..next).unwrap_or("");
        start..start + text.trim_end_matches('\r').len()
    }
}

/// A range of bytes in a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    source: Arc<Source>,
    span: Range<usize>,
}

impl Place {
    /// A byte range, clipped to the text and to character boundaries.
    pub fn new(source: &Arc<Source>, span: Range<usize>) -> Self {
        let start = source.text.floor_char_boundary(span.start.min(source.text.len()));
        let end = source.text.floor_char_boundary(span.end.clamp(start, source.text.len()));
        Self { source: Arc::clone(source), span: start..end }
    }

    /// The source it lies in.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// Its bytes.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The text at the place.
    pub fn text(&self) -> &str {
        self.source.text.get(self.span()).unwrap_or("")
    }

    /// Line and column of its start, both from 1, the column in characters.
    pub fn line_column(&self) -> (usize, usize) {
        self.source.line_column(self.span.start)
    }

    /// What to mark: the place, cut at the end of its first line; at least one byte wide where the text allows.
    pub fn mark(&self) -> Range<usize> {
        let (line, _) = self.line_column();
        let end_of_line = self.source.line_range(line).end;
        let end = self.span.end.min(end_of_line.max(self.span.start));
        let text = self.source.text.get(self.span.start..end).unwrap_or("");
        self.span.start..self.span.start + text.trim_end().len()
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (line, column) = self.line_column();
        write!(f, "{}:{line}:{column}", self.source.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters() {
        let source = Source::new("f", "é: 1\r\nnaïve: 22\n");
        let place = Place::new(&source, 14..16);
        assert_eq!((place.line_column(), place.text()), ((2, 7), " 2"));
        assert_eq!(source.line_range(1), 0..5);
        assert_eq!((source.line_range(0), source.line_range(9)), (0..0, 18..18));
        assert_eq!(source.line_column(999), (3, 1));
    }

    #[test]
    fn a_place_stays_within_the_text_and_its_mark_within_a_line() {
        let source = Source::new("f", "aé\nb");
        assert_eq!(Place::new(&source, 2..99).span(), 1..5);
        assert_eq!(Place::new(&source, 0..5).mark(), 0..3);
        assert_eq!(Place::new(&source, 70..99).span(), 5..5);
    }
}
