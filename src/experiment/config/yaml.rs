//! YAML text to a tree with places, all problems at once.
//!
//! Duplicate keys, several documents, tags, keys that aren't text, and numbers that JSON lacks are refused. Size, depth and
//! the number of nodes after aliases are bounded, so that no input, however meant, hangs or exhausts memory.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::diagnostic::MAX_PROBLEMS;
use super::scalar::{Scalar, resolve};
use super::{Diagnostic, Entry, Kind, Node, Place, Source};

/// Largest document in bytes.
pub const MAX_BYTES: usize = 1 << 18;
/// Deepest nesting.
pub const MAX_DEPTH: usize = 32;
/// Most nodes, those that aliases repeat included; a long text counts as several.
pub const MAX_NODES: usize = 100_000;
/// Bytes of text that count as one node more.
const NODE_BYTES: usize = 64;
/// Most keys of one mapping.
pub const MAX_KEYS: usize = 1_000;

/// Parses a document.
///
/// # Errors
/// Every problem found; after a mistake in the YAML itself the rest of the text can't be read.
pub fn parse(source: &Arc<Source>) -> Result<Node, Vec<Diagnostic>> {
    if source.text().len() > MAX_BYTES {
        let message = format!("{} is larger than {} KiB", source.name(), MAX_BYTES / 1024);
        return Err(vec![Diagnostic::error("too-large", message)]);
    }
    let mut builder = Builder::new(source, MAX_NODES);
    builder.run(source.text());
    builder.finish()
}

/// Parses JSON of any size, which YAML includes, to get its places.
///
/// # Errors
/// As [`parse`].
pub fn parse_large(source: &Arc<Source>) -> Result<Node, Vec<Diagnostic>> {
    let mut builder = Builder::new(source, usize::MAX);
    builder.run(source.text());
    builder.finish()
}

/// Parses the part of a source that begins at a byte offset; nothing there is a value too.
///
/// # Errors
/// As [`parse`].
pub fn parse_part(source: &Arc<Source>, start: usize) -> Result<Node, Vec<Diagnostic>> {
    let part = source.text().get(start..).unwrap_or_default();
    if part.trim().is_empty() {
        return Ok(Node::new(Kind::Null, Place::new(source, start..source.text().len())));
    }
    // Blanks stand for what comes before, so that offsets are the source's own.
    let padding: String = source
        .text()
        .chars()
        .take_while({
            let mut at = 0;
            move |c| {
                at += c.len_utf8();
                at <= start
            }
        })
        .map(|_| ' ')
        .collect();
    let mut builder = Builder::new(source, MAX_NODES);
    builder.run(&format!("{padding}{part}"));
    // An explicit `null` takes back what an earlier layer said, like no text at all.
    let written = builder.root.clone().filter(|root| root.kind == Kind::Null && builder.problems.is_empty());
    written.map_or_else(|| builder.finish(), Ok)
}

/// A collection that is not complete yet.
struct Frame {
    anchor: usize,
    start: usize,
    content: Content,
    replaces: bool,
}

/// The one tag that means something: the mapping takes the place of what earlier layers say there.
const REPLACE: &str = "!replace";

enum Content {
    List(Vec<Node>),
    Mapping { entries: Vec<Entry>, key: Option<Key>, merged: Vec<Node> },
}

/// A key whose value comes next.
struct Key {
    text: String,
    place: Place,
    is_merge: bool,
}

struct Builder<'s> {
    source: &'s Arc<Source>,
    /// Byte offset of each character, for texts that aren't ASCII.
    offsets: Vec<usize>,
    frames: Vec<Frame>,
    anchors: HashMap<usize, (Node, usize)>,
    root: Option<Node>,
    nodes: usize,
    max_nodes: usize,
    problems: Vec<Diagnostic>,
    stopped: bool,
}

impl<'s> Builder<'s> {
    fn new(source: &'s Arc<Source>, max_nodes: usize) -> Self {
        let text = source.text();
        let offsets = if text.is_ascii() { Vec::new() } else { text.char_indices().map(|(at, _)| at).collect() };
        Self {
            source,
            offsets,
            frames: Vec::new(),
            anchors: HashMap::new(),
            root: None,
            nodes: 0,
            max_nodes,
            problems: Vec::new(),
            stopped: false,
        }
    }

    fn run(&mut self, text: &str) {
        let mut parser = Parser::new_from_str(text);
        let mut documents = 0;
        while let Some(event) = parser.next_event() {
            match event {
                Err(error) => return self.not_yaml(error.info(), *error.marker()),
                Ok((Event::DocumentStart(_), span)) => {
                    documents += 1;
                    if documents > 1 {
                        let place = self.place(span);
                        let error =
                            Diagnostic::error("several-documents", "a file holds one document, here begins a second");
                        return self.problem(error.at(Some(&place)).help("keep one, without `---` between"));
                    }
                }
                Ok((event, span)) => self.event(event, span),
            }
            if self.stopped || self.problems.len() >= MAX_PROBLEMS {
                return;
            }
        }
    }

    fn finish(self) -> Result<Node, Vec<Diagnostic>> {
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        match self.root {
            Some(root) if root.kind != Kind::Null => Ok(root),
            _ => {
                let message = format!("{} is empty", self.source.name());
                let help =
                    "a spec begins with `schema: nanochat.experiment/v1`; `experiments/quickstart.yaml` is one to copy";
                Err(vec![Diagnostic::error("empty", message).help(help)])
            }
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                if let Some(tag) = tag {
                    self.refuse_tag(&tag.to_string(), span);
                }
                self.scalar(text.into_owned(), style, anchor, span);
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(anchor, tag.map(|tag| tag.to_string()), span, Content::List(Vec::new()));
            }
            Event::MappingStart(anchor, tag) => {
                let content = Content::Mapping { entries: Vec::new(), key: None, merged: Vec::new() };
                self.open(anchor, tag.map(|tag| tag.to_string()), span, content);
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(anchor) => self.alias(anchor, span),
            _ => {}
        }
    }

    fn offset(&self, marker: Marker) -> usize {
        if self.offsets.is_empty() {
            return marker.index();
        }
        self.offsets.get(marker.index()).copied().unwrap_or(self.source.text().len())
    }

    fn place(&self, span: Span) -> Place {
        let start = self.offset(span.start);
        let place = Place::new(self.source, start..self.offset(span.end).max(start));
        let trimmed = place.text().trim_end().len();
        Place::new(self.source, start..start + trimmed)
    }

    fn problem(&mut self, diagnostic: Diagnostic) {
        self.problems.push(diagnostic);
    }

    fn stop(&mut self, diagnostic: Diagnostic) {
        self.problem(diagnostic);
        self.stopped = true;
    }

    /// The parser gave up. A tab in the indentation is the usual cause and is told as such.
    fn not_yaml(&mut self, info: &str, marker: Marker) {
        let at = self.offset(marker);
        if let Some(tab) = first_indentation_tab(self.source.text(), at) {
            let place = Place::new(self.source, tab..tab + 1);
            let error = Diagnostic::error("tab", "a tab in the indentation, where YAML allows spaces only");
            return self.problem(error.at(Some(&place)).label("a tab").help("indent with spaces"));
        }
        let at = at.min(self.source.text().trim_end().len().saturating_sub(1));
        let place = Place::new(self.source, at..at + 1);
        let help = match missing_blank(self.source, at) {
            Some(key) => format!("a colon is followed by a blank: `{key}: …`"),
            None if info.contains("unknown anchor") => "give the value its name with `&name` before `*name`".to_owned(),
            None => "close every quote and bracket, and indent the keys of one mapping alike".to_owned(),
        };
        let error = Diagnostic::error("not-yaml", format!("this is not YAML: {info}")).help(help);
        self.problem(error.at(Some(&place)).label("the parser stopped here"));
    }

    fn refuse_tag(&mut self, tag: &str, span: Span) {
        let place = self.place(span);
        let error = Diagnostic::error("tag", format!("tags such as `{tag}` have no meaning here"));
        self.problem(error.at(Some(&place)).help(format!(
            "remove the tag; put quotes around what should be text; only `{REPLACE}` before a mapping has a meaning: it takes the place of the mapping that a base spec has there"
        )));
    }

    fn count(&mut self, nodes: usize, span: Span) -> bool {
        self.nodes += nodes;
        let within = self.nodes <= self.max_nodes;
        if !within {
            let place = self.place(span);
            let message = format!("more than {MAX_NODES} values, aliases counted as often as they are used");
            self.stop(Diagnostic::error("too-large", message).at(Some(&place)));
        }
        within
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, anchor: usize, span: Span) {
        let weight = 1 + text.len() / NODE_BYTES;
        if !self.count(weight, span) {
            return;
        }
        let place = self.place(span);
        if let Some(Frame { content: Content::Mapping { key: key @ None, .. }, .. }) = self.frames.last_mut() {
            let is_merge = text == "<<" && style == ScalarStyle::Plain;
            *key = Some(Key { text, place, is_merge });
            return;
        }
        let kind = if style == ScalarStyle::Plain { self.plain(text, &place) } else { Kind::Text(text) };
        self.complete(Node::new(kind, place), anchor, weight);
    }

    fn plain(&mut self, text: String, place: &Place) -> Kind {
        match resolve(&text) {
            Scalar::Null => Kind::Null,
            Scalar::Bool(value) => Kind::Bool(value),
            Scalar::Number(value) => Kind::Number(value),
            Scalar::Huge(value) => Kind::Huge(value),
            Scalar::Text => Kind::Text(text),
            Scalar::NotFinite => {
                let error = Diagnostic::error("not-finite", format!("`{text}` is not a finite number"));
                self.problem(error.at(Some(place)).help("write a finite number, or quotes around what should be text"));
                Kind::Null
            }
        }
    }

    fn open(&mut self, anchor: usize, tag: Option<String>, span: Span, content: Content) {
        let replaces = tag.as_deref() == Some(REPLACE) && matches!(content, Content::Mapping { .. });
        if let Some(tag) = tag.filter(|_| !replaces) {
            self.refuse_tag(&tag, span);
        }
        if !self.count(1, span) {
            return;
        }
        let place = self.place(span);
        if self.frames.len() >= MAX_DEPTH {
            return self
                .stop(Diagnostic::error("too-deep", format!("more than {MAX_DEPTH} levels deep")).at(Some(&place)));
        }
        if let Some(Frame { content: Content::Mapping { key: None, .. }, .. }) = self.frames.last() {
            return self.stop(Diagnostic::error("bad-key", "a key must be text").at(Some(&place)).label("not text"));
        }
        self.frames.push(Frame { anchor, start: place.span().start, content, replaces });
    }

    fn close(&mut self, span: Span) {
        let Some(frame) = self.frames.pop() else { return };
        let end = self.offset(span.end).max(frame.start);
        let place = Place::new(self.source, frame.start..end);
        let place = Place::new(self.source, frame.start..frame.start + place.text().trim_end().len());
        let kind = match frame.content {
            Content::List(items) => Kind::List(items),
            Content::Mapping { mut entries, merged, .. } => {
                for entry in merged.iter().flat_map(Node::entries) {
                    if entries.len() < MAX_KEYS && !entries.iter().any(|own| own.key == entry.key) {
                        entries.push(entry.clone());
                    }
                }
                Kind::Mapping(entries)
            }
        };
        let node = Node { replaces: frame.replaces, ..Node::new(kind, place) };
        let size = if frame.anchor == 0 { 0 } else { size(&node) };
        self.complete(node, frame.anchor, size);
    }

    fn alias(&mut self, anchor: usize, span: Span) {
        let place = self.place(span);
        if let Some(Frame { content: Content::Mapping { key: None, .. }, .. }) = self.frames.last() {
            return self.stop(Diagnostic::error("bad-key", "an alias can't be a key").at(Some(&place)));
        }
        let Some((node, size)) = self.anchors.get(&anchor).cloned() else {
            return self.stop(Diagnostic::error("bad-alias", "an alias inside of what it stands for").at(Some(&place)));
        };
        let depth = depth(&node);
        if self.frames.len() + depth > MAX_DEPTH {
            return self
                .stop(Diagnostic::error("too-deep", format!("more than {MAX_DEPTH} levels deep")).at(Some(&place)));
        }
        if self.count(size, span) {
            self.complete(node, 0, 0);
        }
    }

    /// A value is complete: it goes into the collection around it.
    fn complete(&mut self, node: Node, anchor: usize, size: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut frame.content {
            Content::List(items) => items.push(node),
            Content::Mapping { entries, key, merged } => {
                let Some(key) = key.take() else { return };
                if key.is_merge {
                    return match merge_sources(node) {
                        Ok(nodes) => merged.extend(nodes),
                        Err(place) => {
                            let error = Diagnostic::error("bad-merge", "`<<` takes a mapping, or a list of them");
                            self.problems.push(error.at(Some(&place)));
                        }
                    };
                }
                if let Some(first) = entries.iter().find(|entry| entry.key == key.text) {
                    let error = Diagnostic::error("duplicate-key", format!("`{}` is set twice", key.text));
                    let error = error.at(Some(&key.place)).label("again").other(&first.key_place, "first");
                    return self.problems.push(error.help("keep one of the two"));
                }
                if entries.len() >= MAX_KEYS {
                    let error = Diagnostic::error("too-large", format!("a mapping of more than {MAX_KEYS} keys"));
                    self.stopped = true;
                    return self.problems.push(error.at(Some(&key.place)));
                }
                entries.push(Entry { key: key.text, key_place: key.place, value: node });
            }
        }
    }
}

/// What `<<` merges: a mapping, or a list of mappings.
fn merge_sources(node: Node) -> Result<Vec<Node>, Place> {
    match node.kind {
        Kind::Mapping(_) => Ok(vec![node]),
        Kind::List(items) => match items.iter().find(|item| !matches!(item.kind, Kind::Mapping(_))) {
            Some(wrong) => Err(wrong.place.clone()),
            None => Ok(items),
        },
        _ => Err(node.place),
    }
}

fn children(node: &Node) -> Box<dyn Iterator<Item = &Node> + '_> {
    match &node.kind {
        Kind::List(items) => Box::new(items.iter()),
        Kind::Mapping(entries) => Box::new(entries.iter().map(|entry| &entry.value)),
        _ => Box::new(std::iter::empty()),
    }
}

/// Nodes below and with a node, long texts and keys counted as several.
fn size(node: &Node) -> usize {
    let keys: usize = node.entries().iter().map(|entry| entry.key.len() / NODE_BYTES).sum();
    1 + node.text().map_or(0, str::len) / NODE_BYTES + keys + children(node).map(size).sum::<usize>()
}

fn depth(node: &Node) -> usize {
    match node.kind {
        Kind::List(_) | Kind::Mapping(_) => 1 + children(node).map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The key of a line like `key:value`, at or just before where the parser stopped.
fn missing_blank(source: &Source, at: usize) -> Option<&str> {
    let (line, _) = source.line_column(at);
    [line, line.saturating_sub(1)].into_iter().find_map(|line| {
        let (key, value) = source.text().get(source.line_range(line))?.trim().split_once(':')?;
        let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        (is_key && value.starts_with(|c: char| !c.is_whitespace())).then_some(key)
    })
}

/// The first tab among a line's leading blanks, in the lines up to the one that holds `end`.
fn first_indentation_tab(text: &str, end: usize) -> Option<usize> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if start > end {
            return None;
        }
        let blanks = line.len() - line.trim_start_matches([' ', '\t']).len();
        if let Some(tab) = line.get(..blanks).and_then(|blanks| blanks.find('\t')) {
            return Some(start + tab);
        }
        start += line.len();
    }
    None
}
