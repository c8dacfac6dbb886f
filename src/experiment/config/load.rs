//! Reads a spec with everything it builds on into layers, and checks each layer on its own.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nanochat_artifacts::files;

use super::inside::Inside;
use super::{Diagnostic, Entry, Kind, Layer, LayerKind, Merged, Node, Source, SpecErrors};
use super::{check, layers, overrides, parse, profiles, schema, short_forms, yaml};

/// How the keys begin that are the user's own, at the top of a file.
pub(super) const OWN_PREFIX: &str = "x-";
/// Longest chain of `extends`.
const MAX_CHAIN: usize = 16;
/// Most files that a spec may be built from, one that is extended twice counted twice.
const MAX_FILES: usize = 100;
/// What a spec doesn't hand down to those that extend it.
const OWN_KEYS: [&str; 3] = ["schema", "name", "extends"];

/// Reads the vocabulary size of a stored tokenizer, special tokens included, or says why it can't be read.
pub type VocabularyReader = fn(&Path) -> Result<usize, String>;

/// What is laid over a spec.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// `--set` arguments, `a.b=value`, in order.
    pub overrides: Vec<String>,
    /// Environment variables, name and value; only those of the `NANOCHAT_` kind are looked at.
    pub environment: Vec<(String, String)>,
    /// A hardware profile in place of the spec's own.
    pub profile: Option<String>,
    /// How to read stored tokenizers; without it their vocabulary is unknown, as if they were not there.
    pub vocabulary: Option<VocabularyReader>,
    /// Whether `extends` and profiles may lie outside the current folder and the spec's.
    pub allow_outside: bool,
}

/// A spec with all its layers merged, and what was found wrong on the way.
#[derive(Debug)]
pub struct Loaded {
    /// The file.
    pub path: PathBuf,
    /// The layers merged.
    pub merged: Merged,
    /// Problems so far; the merged spec is only sound when there are none.
    pub diagnostics: Vec<Diagnostic>,
    /// The profile stands in for the one that the spec names.
    pub stand_in: bool,
    /// How to read stored tokenizers.
    pub vocabulary: Option<VocabularyReader>,
}

/// Reads and merges.
///
/// # Errors
/// Files that can't be read at all, as files or as YAML.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Loaded, SpecErrors> {
    load_source(path, read_typed(path), options)
}

/// Reads and merges a spec whose bytes are at hand; `path` is what messages call it, and what `extends` is relative to.
///
/// # Errors
/// As [`load`].
pub fn load_bytes(path: &Path, bytes: &[u8], options: &LoadOptions) -> Result<Loaded, SpecErrors> {
    load_source(path, source_of(path, bytes), options)
}

fn load_source(
    path: &Path,
    source: Result<Arc<Source>, Diagnostic>,
    options: &LoadOptions,
) -> Result<Loaded, SpecErrors> {
    let mut loader = Loader { inside: Inside::of(path, options.allow_outside), ..Loader::default() };
    let loaded = loader.all(path, source, options);
    loaded.ok_or_else(|| SpecErrors::new(path.display().to_string(), loader.problems))
}

/// What stands for standard input in place of a file's name.
const STANDARD_INPUT: &str = "-";

fn read_standard_input(path: &Path) -> Result<Arc<Source>, Diagnostic> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(yaml::MAX_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(path, &error.to_string()))?;
    source_of(path, &bytes)
}

/// Reads a document that the user named: `-` is standard input, and a pipe is read to its end.
///
/// # Errors
/// A sentence about what is in the way.
pub fn read_typed(path: &Path) -> Result<Arc<Source>, Diagnostic> {
    match path == Path::new(STANDARD_INPUT) {
        true => read_standard_input(path),
        false => read_opened(path, files::open_typed(path)),
    }
}

/// Reads a text file of bounded size.
///
/// # Errors
/// A sentence about what is in the way.
pub fn read_source(path: &Path) -> Result<Arc<Source>, Diagnostic> {
    read_opened(path, files::open(path))
}

fn read_opened(path: &Path, file: std::io::Result<std::fs::File>) -> Result<Arc<Source>, Diagnostic> {
    // What a file says of its length need not be what it yields, as under /proc.
    let mut bytes = Vec::new();
    let file = file.map_err(|error| unreadable(path, &error.to_string()))?;
    let read = file.take(yaml::MAX_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(path, &error.to_string()))?;
    source_of(path, &bytes)
}

/// The bytes of a spec as text.
fn source_of(path: &Path, bytes: &[u8]) -> Result<Arc<Source>, Diagnostic> {
    if bytes.len() > yaml::MAX_BYTES {
        return Err(unreadable(path, &format!("it is larger than {} KiB", yaml::MAX_BYTES / 1024)));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        unreadable(path, &format!("byte {} is not UTF-8, so it is not YAML text", error.valid_up_to()))
    })?;
    Ok(Source::new(path.display().to_string(), text.strip_prefix('\u{feff}').unwrap_or(text)))
}

fn unreadable(path: &Path, reason: &str) -> Diagnostic {
    Diagnostic::error("unreadable", format!("can't read {}: {reason}", path.display()))
}

#[derive(Default)]
struct Loader {
    problems: Vec<Diagnostic>,
    files: usize,
    /// Where other files of the spec may lie.
    inside: Inside,
}

impl Loader {
    /// Nothing when something couldn't be read.
    fn all(&mut self, path: &Path, source: Result<Arc<Source>, Diagnostic>, options: &LoadOptions) -> Option<Loaded> {
        let mut layers = vec![Layer { kind: LayerKind::Defaults, root: defaults() }];
        let spec = self.chain(path, source, &mut Vec::new(), &mut layers);
        let overlays = self.overlays(options);
        let (spec, overlays) = (spec?, overlays?);
        layers.push(Layer { kind: LayerKind::Spec, root: spec });
        layers.extend(overlays);
        let own = profiles::chosen(&layers);
        let stand_in = options.profile.as_ref().filter(|name| own.as_ref().map(|(name, _)| name) != Some(*name));
        if let Some(name) = stand_in {
            profiles::replace(&mut layers, name);
        }
        self.profile(&mut layers, options, stand_in.is_some())?;
        let diagnostics = std::mem::take(&mut self.problems);
        Some(Loaded {
            path: path.to_path_buf(),
            merged: Merged::new(layers),
            diagnostics,
            stand_in: stand_in.is_some(),
            vocabulary: options.vocabulary,
        })
    }

    /// A spec file's tree; what it extends goes into `layers`, lowest first.
    fn chain(
        &mut self,
        path: &Path,
        source: Result<Arc<Source>, Diagnostic>,
        above: &mut Vec<PathBuf>,
        layers: &mut Vec<Layer>,
    ) -> Option<Node> {
        let source = self.keep(source.map_err(|error| vec![error]))?;
        let mut root = self.keep(parse(&source))?;
        // What such a key holds is for anchors alone, which the parser has put in their places already.
        if let Some(entries) = root.entries_mut() {
            entries.retain(|entry| !entry.key.starts_with(OWN_PREFIX));
        }
        let found = check::SPEC.check(&root, true);
        self.problems.extend(found);
        self.problems.extend(short_forms::expand(&mut root));
        self.problems.extend(layers::rivalry(&root));
        if !matches!(root.kind, Kind::Mapping(_)) {
            return None;
        }
        above.push(path.canonicalize().unwrap_or_else(|_| path.to_path_buf()));
        let folder = path.parent().unwrap_or(Path::new(""));
        let bases: Vec<Node> = match root.get("extends").map(|node| &node.kind) {
            Some(Kind::List(items)) => items.clone(),
            _ => Vec::new(),
        };
        for base in bases.iter().filter_map(|node| Some((node, folder.join(node.text()?)))) {
            self.base(base.0, &base.1, above, layers)?;
        }
        above.pop();
        Some(root)
    }

    /// One entry of `extends`.
    fn base(&mut self, node: &Node, path: &Path, above: &mut Vec<PathBuf>, layers: &mut Vec<Layer>) -> Option<()> {
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) => {
                let diagnostic = Diagnostic::error("extends", format!("can't read {}: {error}", path.display()));
                self.problems
                    .push(diagnostic.at(Some(&node.place)).help("`extends` is relative to the file that says it"));
                return None;
            }
        };
        if let Err(problem) = self.inside.check(path, &real) {
            self.problems.push(problem.at(Some(&node.place)));
            return None;
        }
        if let Some(first) = above.iter().position(|earlier| *earlier == real) {
            let names = above.iter().skip(first).chain([&real]).map(|path| file_name(path)).collect::<Vec<_>>();
            let diagnostic = Diagnostic::error("extends", format!("`extends` goes in a circle: {}", names.join(" → ")));
            self.problems.push(diagnostic.at(Some(&node.place)).label("back to where it came from"));
            return None;
        }
        if above.len() >= MAX_CHAIN {
            let diagnostic = Diagnostic::error("extends", format!("more than {MAX_CHAIN} specs extend each other"));
            self.problems.push(diagnostic.at(Some(&node.place)));
            return None;
        }
        self.files += 1;
        if self.files > MAX_FILES {
            let diagnostic = Diagnostic::error("extends", format!("a spec built from more than {MAX_FILES} files"));
            self.problems.push(diagnostic.at(Some(&node.place)));
            return None;
        }
        let mut root = self.chain(path, read_source(path), above, layers)?;
        if let Some(entries) = root.entries_mut() {
            entries.retain(|entry| !OWN_KEYS.contains(&entry.key.as_str()));
        }
        layers.push(Layer { kind: LayerKind::Extends, root });
        Some(())
    }

    /// Environment and `--set`.
    fn overlays(&mut self, options: &LoadOptions) -> Option<Vec<Layer>> {
        let environment = self.keep(overrides::from_environment(&options.environment));
        let arguments: Vec<Option<Layer>> =
            options.overrides.iter().map(|argument| self.keep(overrides::from_argument(argument))).collect();
        let mut layers = environment?;
        layers.extend(arguments.into_iter().collect::<Option<Vec<_>>>()?);
        for layer in &mut layers {
            self.problems.extend(check::SPEC.check(&layer.root, false));
            self.problems.extend(short_forms::expand(&mut layer.root));
            self.problems.extend(layers::rivalry(&layer.root));
            let own = layer.root.entries().iter().find(|entry| entry.key.starts_with(OWN_PREFIX));
            if let Some(entry) = own {
                let error = Diagnostic::error("bad-set", format!("`{}` can't be set", entry.key));
                let help = "keys that begin with `x-` hold anchors for the file that they stand in";
                self.problems.push(error.at(Some(&entry.key_place)).help(help));
            }
            if let Some(entry) = layer.root.entry("extends") {
                let error = Diagnostic::error("extends", "`extends` belongs into a file");
                self.problems.push(error.at(Some(&entry.key_place)));
            }
        }
        Some(layers)
    }

    /// Reads the profile that the layers name, and lays it (and what it replaces) among them.
    fn profile(&mut self, layers: &mut Vec<Layer>, options: &LoadOptions, stand_in: bool) -> Option<()> {
        let chosen = match profiles::chosen(layers) {
            Some(chosen) => Some(chosen),
            None if layers.iter().any(|layer| layer.root.get("hardware").is_some()) => None,
            None => Some((profiles::DEFAULT.to_owned(), None)),
        };
        let Some((name, place)) = chosen else { return Some(()) };
        let by_the_user = options.profile.as_ref() == Some(&name);
        let anywhere = Inside::anywhere();
        let source = match profiles::find(&name, if by_the_user { &anywhere } else { &self.inside }) {
            Ok(source) => source,
            Err(error) => {
                self.problems.push(error.at(place.as_ref()));
                return None;
            }
        };
        let mut root = self.keep(parse(&source))?;
        if let Some(entries) = root.entries_mut() {
            entries.retain(|entry| !entry.key.starts_with(OWN_PREFIX));
        }
        self.problems.extend(check::PROFILE.check(&root, true));
        let mut replacement = root.get("stand_in").cloned();
        self.problems.extend(replacement.iter_mut().flat_map(short_forms::expand));
        self.problems.extend(short_forms::expand(&mut root));
        layers.push(Layer { kind: LayerKind::Profile, root: profiles::as_layer(&root, &name) });
        if stand_in {
            let root = profiles::stand_in_layer(replacement, &root, &name, layers);
            self.problems.extend(layers::rivalry(&root));
            layers.push(Layer { kind: LayerKind::StandIn, root });
        }
        Some(())
    }

    /// Keeps a value, or its problems.
    fn keep<T>(&mut self, result: Result<T, Vec<Diagnostic>>) -> Option<T> {
        result.map_err(|problems| self.problems.extend(problems)).ok()
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The built-in defaults as a tree.
fn defaults() -> Node {
    let source = Source::new("built-in defaults", schema::DEFAULTS);
    let mut root = parse(&source)
        .unwrap_or_else(|_| Node::new(Kind::Mapping(Vec::<Entry>::new()), super::Place::new(&source, 0..0)));
    short_forms::expand(&mut root);
    root
}
