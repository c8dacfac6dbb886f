//! Holds a tree against its JSON schema and says what is wrong in the user's words, each problem at its place.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{JsonType, ValidationError, Validator};
use serde_json::Value;

use super::diagnostic::MAX_PROBLEMS;
use super::load::OWN_PREFIX;
use super::{Diagnostic, Kind, Node, schema, suggest};

/// A schema ready to validate with.
pub struct Checker {
    schema: Value,
    validator: Result<Validator, String>,
}

/// The checker of experiment specs.
pub static SPEC: LazyLock<Checker> = LazyLock::new(|| Checker::new(schema::SPEC.clone()));
/// The checker of hardware profiles.
pub static PROFILE: LazyLock<Checker> = LazyLock::new(|| Checker::new(schema::PROFILE.clone()));

impl Checker {
    /// Compiles a schema.
    pub fn new(schema: Value) -> Self {
        Self { validator: jsonschema::validator_for(&schema).map_err(|error| error.to_string()), schema }
    }

    /// Every violation. `whole`: keys that a file must have are asked for.
    pub fn check(&self, node: &Node, whole: bool) -> Vec<Diagnostic> {
        let validator = match &self.validator {
            Ok(validator) => validator,
            Err(error) => return vec![Diagnostic::error("schema", format!("the schema itself is broken: {error}"))],
        };
        let value = node.to_json();
        let mut report = Report { node, schema: &self.schema, found: Vec::new() };
        let matters =
            |error: &ValidationError<'_>| whole || !matches!(error.kind(), ValidationErrorKind::Required { .. });
        for error in validator.iter_errors(&value).filter(matters) {
            report.add(&error);
            if report.found.len() > MAX_PROBLEMS {
                break;
            }
        }
        report.found
    }
}

struct Report<'a> {
    node: &'a Node,
    schema: &'a Value,
    found: Vec<Diagnostic>,
}

/// Steps of a JSON pointer.
pub fn steps(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
}

/// How messages write a path: dotted.
pub fn dotted<S: AsRef<str>>(path: &[S]) -> String {
    path.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(".")
}

impl Report<'_> {
    fn add(&mut self, error: &ValidationError<'_>) {
        let path = steps(error.instance_path().as_str());
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                unexpected.iter().take(MAX_PROBLEMS).for_each(|key| self.unknown_key(&path, key));
            }
            ValidationErrorKind::AnyOf { context }
            | ValidationErrorKind::OneOfNotValid { context }
            | ValidationErrorKind::OneOfMultipleValid { context } => self.choice(&path, context),
            ValidationErrorKind::Type { kind } => self.wrong_type(&path, &expected(kind)),
            ValidationErrorKind::Enum { options } => {
                let words: Vec<String> =
                    options.as_array().map(|options| options.iter().map(word).collect()).unwrap_or_default();
                self.not_among(&path, &words);
            }
            ValidationErrorKind::Constant { expected_value } => self.not_among(&path, &[word(expected_value)]),
            ValidationErrorKind::Required { property } => {
                let mut missing = path.clone();
                missing.push(word(property));
                self.missing_key(&path, &dotted(&missing));
            }
            _ => self.bad_value(&path, error),
        }
    }

    fn push(&mut self, code: &'static str, path: &[String], message: String, label: &str, help: Option<String>) {
        let place = &self.node.nearest(path).place;
        self.found.push(Diagnostic::error(code, message).at(Some(place)).label(label).help_if_any(help));
    }

    /// Blames the section, or the first line of the document.
    fn missing_key(&mut self, path: &[String], missing: &str) {
        let first = self.node.entries().first().map(|entry| &entry.key_place);
        let place = if path.is_empty() { first.unwrap_or(&self.node.place) } else { self.node.key_place(path) };
        let diagnostic = Diagnostic::error("missing-key", format!("`{missing}` is missing")).at(Some(place));
        self.found.push(diagnostic);
    }

    fn unknown_key(&mut self, path: &[String], key: &str) {
        let allowed = schema::keys_at(self.schema, path);
        let mut full = path.to_vec();
        full.push(key.to_owned());
        let elsewhere = (!allowed.iter().any(|word| word == key)).then(|| self.home_of(key)).flatten();
        let help = match elsewhere {
            Some(home) => {
                format!("did you mean `{home}`? Allowed here: {}", suggest::list(allowed.iter().map(String::as_str)))
            }
            None => suggest::help(key, allowed.iter().map(String::as_str)),
        };
        let help = match (path, key.starts_with(['_', '.']), key.starts_with(OWN_PREFIX)) {
            ([], true, _) => format!("{help}; keys that begin with `{OWN_PREFIX}` may hold anchors"),
            ([_, ..], _, true) => format!("keys that begin with `{OWN_PREFIX}` stand at the top of a file; {help}"),
            _ => help,
        };
        let name = suggest::brief(key);
        let message = match path {
            [] => format!("unknown key `{name}`"),
            _ => format!("unknown key `{name}` in `{}`", dotted(path)),
        };
        let place = self.node.key_place(&full);
        self.found.push(Diagnostic::error("unknown-key", message).at(Some(place)).label("not a key here").help(help));
    }

    /// The section that a misplaced key belongs to.
    fn home_of(&self, key: &str) -> Option<String> {
        let sections = schema::keys_at(self.schema, &[]);
        let home = sections
            .iter()
            .find(|section| schema::keys_at(self.schema, &[(*section).clone()]).iter().any(|k| k == key));
        home.map(|section| format!("{section}.{key}"))
    }

    /// None of several forms fits: the one that is nearest in kind tells what is wrong.
    fn choice(&mut self, path: &[String], context: &[Vec<ValidationError<'static>>]) {
        let here = |error: &&ValidationError<'static>| steps(error.instance_path().as_str()) == path;
        let options: Vec<String> = context.iter().flatten().flat_map(allowed_words).collect();
        let is_text = self.node.find(path).is_some_and(|node| node.text().is_some());
        if is_text && !options.is_empty() {
            return self.not_among(path, &options);
        }
        let wrong_kind = |branch: &&Vec<ValidationError<'static>>| {
            branch.iter().filter(here).any(|error| {
                let nested = matches!(error.kind(), ValidationErrorKind::OneOfNotValid { .. });
                nested
                    || matches!(error.kind(), ValidationErrorKind::Type { .. } | ValidationErrorKind::Constant { .. })
            })
        };
        let fitting: Vec<_> = context.iter().filter(|branch| !wrong_kind(branch)).collect();
        if let Some(branch) = fitting.iter().min_by_key(|branch| branch.len()) {
            return branch.iter().for_each(|error| self.add(error));
        }
        let mut kinds: BTreeSet<String> = BTreeSet::new();
        for error in context.iter().flatten().filter(here) {
            if let ValidationErrorKind::Type { kind } = error.kind() {
                kinds.extend(expected(kind));
            }
        }
        if !options.is_empty() {
            kinds.insert(format!("one of {}", suggest::list(options.iter().map(String::as_str))));
        }
        self.wrong_type(path, &kinds.into_iter().filter(|kind| kind != "nothing").collect());
    }

    fn wrong_type(&mut self, path: &[String], expected: &BTreeSet<String>) {
        let found = self.node.nearest(path);
        let wanted = expected.iter().filter(|kind| *kind != "nothing").cloned().collect::<Vec<_>>().join(" or ");
        let subject = if path.is_empty() { "a document".to_owned() } else { format!("`{}`", dotted(path)) };
        if found.kind == Kind::Null {
            let help = "write a value, or delete the line".to_owned();
            return self.push(
                "no-value",
                path,
                format!("{subject} has no value; it takes {wanted}"),
                "nothing follows",
                Some(help),
            );
        }
        let help = type_help(found, expected);
        let message = format!("{subject} must be {wanted}, not {}", found.describe());
        self.push("wrong-type", path, message, &format!("not {wanted}"), help);
    }

    fn not_among(&mut self, path: &[String], options: &[String]) {
        let found = self.node.nearest(path);
        let Some(text) = found.text() else {
            let expected = BTreeSet::from([format!("one of {}", suggest::list(options.iter().map(String::as_str)))]);
            return self.wrong_type(path, &expected);
        };
        let help = suggest::help(text, options.iter().map(String::as_str));
        let message = format!("`{}` can't be `{}`", dotted(path), suggest::brief(text));
        self.push("not-allowed", path, message, "not one of the allowed values", Some(help));
    }

    fn bad_value(&mut self, path: &[String], error: &ValidationError<'_>) {
        let found = self.node.nearest(path);
        let subject = format!("`{}`", dotted(path));
        let value = found.describe().replace("the number ", "");
        let bound = |limit: &Value, word: &str| format!("{subject} is {value}; it must be {word} {limit}");
        let (message, help) = match error.kind() {
            ValidationErrorKind::Minimum { limit } => (bound(limit, "at least"), None),
            ValidationErrorKind::Maximum { limit } => (bound(limit, "at most"), maximum_help(path)),
            ValidationErrorKind::ExclusiveMinimum { limit } => (bound(limit, "above"), None),
            ValidationErrorKind::ExclusiveMaximum { limit } => (bound(limit, "below"), None),
            ValidationErrorKind::MinItems { limit } => (format!("{subject} needs at least {limit} value"), None),
            ValidationErrorKind::MaxItems { limit } => (format!("{subject} takes at most {limit} values"), None),
            ValidationErrorKind::MinProperties { limit } if *limit > 1 => {
                (format!("{subject} needs at least {limit} entries"), None)
            }
            ValidationErrorKind::MinLength { .. } => (format!("{subject} is empty text"), None),
            ValidationErrorKind::UniqueItems => (
                format!("{subject} names a value twice"),
                Some("name each once; `reproducibility.repeats` repeats a run".to_owned()),
            ),
            ValidationErrorKind::Pattern { pattern } => pattern_message(&subject, path, found, pattern),
            _ => (format!("{subject}: {error}"), None),
        };
        self.push("bad-value", path, message, "this value", help);
    }
}

/// The words that would have satisfied an error.
fn allowed_words(error: &ValidationError<'static>) -> Vec<String> {
    match error.kind() {
        ValidationErrorKind::Constant { expected_value } => vec![word(expected_value)],
        ValidationErrorKind::Enum { options } => {
            options.as_array().map(|options| options.iter().map(word).collect()).unwrap_or_default()
        }
        ValidationErrorKind::OneOfNotValid { context } | ValidationErrorKind::AnyOf { context } => {
            context.iter().flatten().flat_map(allowed_words).collect()
        }
        _ => Vec::new(),
    }
}

/// The JSON kinds that a value may have, in words.
fn expected(kind: &TypeKind) -> BTreeSet<String> {
    let name = |kind: JsonType| {
        match kind {
            JsonType::Array => "a list",
            JsonType::Boolean => "true or false",
            JsonType::Integer => "a whole number",
            JsonType::Null => "nothing",
            JsonType::Number => "a number",
            JsonType::Object => "a mapping",
            JsonType::String => "text",
        }
        .to_owned()
    };
    match kind {
        TypeKind::Single(kind) => BTreeSet::from([name(*kind)]),
        TypeKind::Multiple(kinds) => kinds.iter().map(name).collect(),
    }
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A number whose only comma stands for the decimal point, as `1,5`; not `1,500`, whose comma groups thousands.
fn decimal_comma(text: &str) -> Option<String> {
    let (whole, rest) = text.split_once(',')?;
    let is_decimal = rest.len() != 3 && !rest.contains([',', '.']) && !whole.contains('.');
    is_decimal.then(|| format!("{whole}.{rest}"))
}

/// A whole number that is written with a unit prefix, as `10M` or `64Ki`.
fn in_full(text: &str) -> Option<u64> {
    let text = text.trim_end_matches(['B', 'b']);
    let units = [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("k", 1000), ("K", 1000)];
    let units = units.into_iter().chain([("M", 1_000_000), ("G", 1_000_000_000)]);
    let (number, unit) = units.into_iter().find_map(|(ending, unit)| Some((text.strip_suffix(ending)?, unit)))?;
    let value = number.trim_end().parse::<f64>().ok()? * unit as f64;
    (value.fract() == 0.0 && (0.0..9e15).contains(&value)).then_some(value as u64)
}

/// What usually lies behind a value of the wrong kind.
fn type_help(found: &Node, expected: &BTreeSet<String>) -> Option<String> {
    let wants = |kind: &str| expected.contains(kind);
    match &found.kind {
        Kind::Text(text) if wants("a whole number") || wants("a number") => {
            let is_number = |text: &str| text.parse::<f64>().is_ok_and(f64::is_finite);
            if let Some(number) = decimal_comma(text).filter(|number| is_number(number)) {
                return Some(format!("write {number}, with a point"));
            }
            if let Some(number) = in_full(text) {
                return Some(format!("write the number in full: {number}"));
            }
            let bare: String = text.chars().filter(|c| !matches!(c, '_' | ',' | ' ')).collect();
            is_number(&bare).then(|| format!("write {bare}, without quotes, underscores or spaces"))
        }
        Kind::Text(text)
            if wants("true or false") && ["yes", "no", "on", "off"].contains(&text.to_lowercase().as_str()) =>
        {
            Some("YAML 1.2 reads `yes`, `no`, `on` and `off` as text: write true or false".to_owned())
        }
        Kind::Number(_) | Kind::Bool(_) | Kind::Huge(_) if wants("text") => {
            Some(format!("put quotes around it: \"{}\"", found.place.text()))
        }
        Kind::Mapping(_) | Kind::List(_) => None,
        Kind::Text(text) if wants("a list") && text.contains('(') => {
            Some("a list has each of its values: [1, 2, 3]".to_owned())
        }
        _ if wants("a list") => Some(format!("write it as a list: [{}]", found.place.text())),
        _ => None,
    }
}

fn maximum_help(path: &[String]) -> Option<String> {
    let is_seed =
        path.first().is_some_and(|key| key == "seed" || key == "seeds") || path.last().is_some_and(|key| key == "seed");
    is_seed.then(|| "beyond 2^53 - 1 many JSON readers change a number; choose a smaller seed".to_owned())
}

fn pattern_message(subject: &str, path: &[String], found: &Node, pattern: &str) -> (String, Option<String>) {
    let text = suggest::brief(found.text().unwrap_or_default());
    match path.last().map(String::as_str) {
        Some("commit") => {
            let help = if text.len() == 40 && text.chars().all(|c| c.is_ascii_hexdigit()) {
                format!("write it in lower case: {}", text.to_lowercase())
            } else {
                "a branch or a short hash can move; `git rev-parse <name>` in the checkout prints the full commit"
                    .to_owned()
            };
            (format!("{subject} must be a full commit of 40 hexadecimal digits, not {text:?}"), Some(help))
        }
        Some("name") => {
            let help =
                "it names a folder: letters, digits, `.`, `_` and `-`, beginning with a letter or digit, at most 100";
            (format!("{subject} can't be {text:?}"), Some(help.to_owned()))
        }
        Some("window_pattern") => (
            format!("{subject} can't be {text:?}"),
            Some("it is made of the letters S (short) and L (long), such as SSSL".to_owned()),
        ),
        _ => (format!("{subject} can't be {text:?}"), Some(format!("it must match {pattern}"))),
    }
}
