//! Rewrites short forms into the one form that the types know: `hardware: cpu`, `extends: base.yaml`, `wall_clock: 90m`,
//! and sections that stand empty.

use serde_json::Number;

use super::{Diagnostic, Entry, Kind, Node};

/// Values that may be null, which takes back what an earlier layer said.
pub const NULLABLE: [&[&str]; 6] = [
    &["matrix"],
    &["eval", "core"],
    &["eval", "drift"],
    &["baseline", "results"],
    &["baseline", "cell"],
    &["budget", "wall_clock"],
];

/// Rewrites a layer, and reports text that can't be read.
pub fn expand(root: &mut Node) -> Vec<Diagnostic> {
    drop_nothing(root, &mut Vec::new());
    if let Some(node) = child(root, "hardware").filter(|node| node.text().is_some()) {
        let value = node.clone();
        node.kind = Kind::Mapping(vec![Entry { key: "profile".to_owned(), key_place: value.place.clone(), value }]);
    }
    if let Some(entries) = root.entries_mut() {
        entries.retain(|entry| entry.key != "init" || entry.value.kind != Kind::Mapping(Vec::new()));
    }
    if let Some(node) = child(root, "extends").filter(|node| node.text().is_some()) {
        let single = node.clone();
        node.kind = Kind::List(vec![single]);
    }
    let Some(cap) = child(root, "budget").and_then(|budget| child(budget, "wall_clock")) else { return Vec::new() };
    if matches!(cap.kind, Kind::Number(_) | Kind::Text(_)) {
        let value = cap.clone();
        cap.kind = Kind::Mapping(vec![Entry { key: "limit".to_owned(), key_place: value.place.clone(), value }]);
    }
    child(cap, "limit").and_then(expand_duration).into_iter().collect()
}

fn child<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    node.entries_mut()?.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.value)
}

fn drop_nothing(node: &mut Node, path: &mut Vec<String>) {
    let Some(entries) = node.entries_mut() else { return };
    for entry in entries.iter_mut() {
        path.push(entry.key.clone());
        drop_nothing(&mut entry.value, path);
        path.pop();
    }
    entries.retain(|entry| {
        let nullable = NULLABLE.iter().any(|known| {
            known.split_last().is_some_and(|(last, parents)| *last == entry.key && parents.iter().eq(path.iter()))
        });
        nullable || entry.value.kind != Kind::Null
    });
}

fn expand_duration(node: &mut Node) -> Option<Diagnostic> {
    let text = node.text()?;
    match seconds(text).and_then(Number::from_f64) {
        Some(number) => {
            node.kind = Kind::Number(number);
            None
        }
        None => {
            let error = Diagnostic::error("bad-value", format!("`budget.wall_clock` can't be {text:?}"));
            Some(
                error
                    .at(Some(&node.place))
                    .label("not a duration")
                    .help("write seconds, or text such as `45s`, `90m`, `2h30m`, `1d`"),
            )
        }
    }
}

/// Seconds of `1d2h30m45s`; each unit at most once, in falling order.
fn seconds(text: &str) -> Option<f64> {
    let mut rest = text.trim();
    let mut total = 0.0;
    for (unit, factor) in [('d', 86400.0), ('h', 3600.0), ('m', 60.0), ('s', 1.0)] {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        if let Some(after) = rest.get(digits..).and_then(|after| after.strip_prefix(unit)) {
            total += rest.get(..digits)?.parse::<f64>().ok()? * factor;
            rest = after.trim_start();
        }
    }
    (rest.is_empty() && total > 0.0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("45s", Some(45.0)),
            ("90m", Some(5400.0)),
            ("2h30m", Some(9000.0)),
            ("1d 1s", Some(86401.0)),
            ("1.5h", Some(5400.0)),
            ("", None),
            ("90", None),
            ("m", None),
            ("0s", None),
            ("1m2h", None),
            ("1..5h", None),
        ] {
            assert_eq!(seconds(text), expected, "{text:?}");
        }
    }
}
