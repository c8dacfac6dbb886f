//! What was written: a spec's text, its places, its layers, and what is wrong with any of it.
//!
//! A spec is built from layers, later ones winning key by key: built-in defaults, the specs it extends, its hardware
//! profile, the spec itself, environment variables, `--set`. Each layer is a tree in which every value knows its place, is
//! checked against the same JSON schema that editors use, and then merged, so that a value can be traced to the layer and
//! place that set it. Refuses whatever YAML would silently accept: unknown and duplicate keys, tabs, tags,
//! several documents, numbers that JSON lacks. Knows nothing of what a spec means.

pub mod check;
mod diagnostic;
pub mod document;
mod hardware_document;
mod inside;
mod layers;
mod load;
pub mod merge;
mod node;
mod overrides;
pub mod profiles;
mod scalar;
pub mod schema;
mod schema_parts;
mod short_forms;
mod source;
pub mod suggest;
mod yaml;

pub use diagnostic::{Diagnostic, MAX_PROBLEMS, Severity, SpecErrors};
pub use inside::Inside;
pub use layers::{Layer, LayerKind, Merged, rivalry};
pub use load::{LoadOptions, Loaded, VocabularyReader, load, load_bytes, read_source, read_typed};
pub use node::{Entry, Kind, Node};
pub use scalar::EXACT_INTEGER;
pub use short_forms::expand as expand_short_forms;
pub use source::{Place, Source};
pub use yaml::{MAX_BYTES, parse, parse_large};
