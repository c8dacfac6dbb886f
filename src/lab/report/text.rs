//! Text on its way into a report: cleaning of what came from files, escaping for Markdown, and number formats.

use minijinja::value::{Value, ValueKind};

/// Longest text that is taken from a file into a report, in characters.
const MAX_CHARS: usize = 2000;

/// Makes text from a file harmless to look at: one line, no control or direction-changing characters, not endless.
pub(super) fn clean(text: &str) -> String {
    let mut cleaned: String = text.chars().take(MAX_CHARS).map(harmless).collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        cleaned.push('…');
    }
    cleaned
}

fn harmless(c: char) -> char {
    match c {
        '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
            '\u{fffd}'
        }
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// Escapes text for any place in GitHub's Markdown, table cells and HTML blocks included. A zero-width space keeps `@name`
/// and `#1` from notifying and linking.
pub(super) fn escape_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in clean(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '!' | '$' => escaped.extend(['\\', c]),
            '@' | '#' => escaped.extend([c, '\u{200b}']),
            c => escaped.push(c),
        }
    }
    let escaped = escaped.replace("://", ":\u{200b}//");
    apart_from_links(&escaped)
}

/// A zero-width space in what GitHub links without a scheme: `www.` and `GH-1`.
fn apart_from_links(text: &str) -> String {
    let mut apart = String::with_capacity(text.len());
    for (place, c) in text.char_indices() {
        apart.push(c);
        let (before, after) = text.split_at(place + c.len_utf8());
        let ends_in = |word: &str| {
            before.get(before.len().saturating_sub(word.len())..).is_some_and(|end| end.eq_ignore_ascii_case(word))
        };
        let is_number = after.starts_with(|c: char| c.is_ascii_digit());
        if (c == '.' && ends_in("www.")) || (c == '-' && is_number && ends_in("gh-")) {
            apart.push('\u{200b}');
        }
    }
    apart
}

/// Text as a Markdown code span that can't be broken out of, not even in a table.
pub(super) fn code(text: &str) -> Value {
    let inner = clean(text).replace('`', "'").replace('<', "‹").replace('|', "\\|");
    let inner = inner.trim();
    Value::from_safe_string(if inner.is_empty() { "–".to_string() } else { format!("`{inner}`") })
}

/// A sentence whose names stand between backticks, with those as code spans in Markdown.
pub(super) fn prose_markdown(text: &str) -> Value {
    Value::from_safe_string(spans(text, escape_markdown, |name| code(name).to_string()))
}

/// A sentence whose names stand between backticks, with those as code elements in HTML.
pub(super) fn prose_html(text: &str) -> Value {
    Value::from_safe_string(spans(text, escape_html, |name| format!("<code>{}</code>", escape_html(name))))
}

/// A line inside a `pre` element, in Markdown and in HTML.
pub(super) fn line(text: &str) -> Value {
    Value::from_safe_string(escape_html(text))
}

/// Text with what stands between pairs of backticks put through `name`, the rest through `plain`: both escape, so that
/// backticks in the wrong place only look wrong.
fn spans(text: &str, plain: impl Fn(&str) -> String, name: impl Fn(&str) -> String) -> String {
    let cleaned = clean(text);
    let pieces: Vec<&str> = cleaned.split('`').collect();
    let paired = pieces.len() - usize::from(pieces.len().is_multiple_of(2));
    let each = pieces.iter().enumerate();
    each.map(|(i, piece)| if i % 2 == 1 && i < paired { name(piece) } else { plain(piece) }).collect()
}

/// Escapes text for HTML elements and attributes.
fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in clean(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Formats a number, or an en dash where there is none.
fn number(value: &Value, format: impl Fn(f64) -> String) -> String {
    match value.kind() {
        ValueKind::Number => f64::try_from(value.clone()).map_or_else(|_| value.to_string(), format),
        _ => "–".to_string(),
    }
}

/// Decimals, no more than a float has.
fn places(decimals: Option<usize>, usual: usize) -> usize {
    decimals.unwrap_or(usual).min(17)
}

/// With so many decimals.
pub(super) fn fixed(value: Value, decimals: Option<usize>) -> String {
    number(&value, |v| typographic(&format!("{v:.*}", places(decimals, 4))))
}

/// Most decimals of a small number.
const MOST_DECIMALS: usize = 9;

/// With a sign and so many decimals; a smaller number with as many as show two of its digits.
pub(super) fn signed(value: Value, decimals: Option<usize>) -> String {
    number(&value, |v| {
        let two_digits = 1.0 - v.abs().log10().floor();
        let needed =
            if two_digits.is_finite() && two_digits > 0.0 { (two_digits as usize).min(MOST_DECIMALS) } else { 0 };
        typographic(&format!("{v:+.*}", places(decimals, 5).max(needed)))
    })
}

/// A share as a percentage.
pub(super) fn percent(value: Value, decimals: Option<usize>) -> String {
    number(&value, |v| typographic(&format!("{:.*}%", places(decimals, 1), v * 100.0)))
}

/// A real minus sign, as wide as a plus.
fn typographic(text: &str) -> String {
    text.replace('-', "−")
}

/// Whole numbers with thin spaces between thousands.
pub(super) fn grouped(value: Value) -> String {
    number(&value, |v| {
        let digits = format!("{:.0}", v.abs());
        let mut text = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                text.push('\u{202f}');
            }
            text.push(digit);
        }
        if v < 0.0 { format!("−{text}") } else { text }
    })
}

/// Three significant digits with k, M, B, T, and powers of ten beyond.
pub(super) fn si(value: Value) -> String {
    number(&value, short)
}

/// Three significant digits with a suffix.
pub(super) fn short(v: f64) -> String {
    let size = v.abs();
    let scaled = |unit: f64, suffix: &str| format!("{}{suffix}", significant(v / unit));
    match () {
        () if size >= 1e15 => typographic(&format!("{v:.2e}")),
        () if size >= 1e12 => scaled(1e12, "T"),
        () if size >= 1e9 => scaled(1e9, "B"),
        () if size >= 1e6 => scaled(1e6, "M"),
        () if size >= 1e3 => scaled(1e3, "k"),
        () => significant(v),
    }
}

/// Three significant digits, trailing zeros dropped.
fn significant(v: f64) -> String {
    let decimals = match v.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 || size == 0.0 => 2,
        size => (2.0 - size.log10().floor()).min(12.0) as usize,
    };
    let text = format!("{v:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    typographic(text)
}

/// Bytes in MiB or GiB.
pub(super) fn bytes(value: Value) -> String {
    number(&value, |v| {
        let mib = v / f64::from(1 << 20);
        if mib < 1024.0 { format!("{mib:.0} MiB") } else { format!("{:.2} GiB", mib / 1024.0) }
    })
}

/// Seconds, minutes or hours.
pub(super) fn duration(value: Value) -> String {
    number(&value, |v| match v {
        v if v < 0.1 => format!("{:.0} ms", v * 1000.0),
        v if v < 120.0 => format!("{v:.1} s"),
        v if v < 7200.0 => format!("{:.1} min", v / 60.0),
        v => format!("{:.1} h", v / 3600.0),
    })
}

/// The first twelve digits of a hash.
pub(super) fn digits(value: Value) -> String {
    match value.as_str() {
        Some(text) => text.chars().take(12).collect(),
        None => "–".to_string(),
    }
}

/// What a verdict is called.
pub(super) fn verdict_words(verdict: &str) -> &'static str {
    match verdict {
        "pass" => "pass",
        "fail" => "fail",
        "inconclusive" => "inconclusive",
        "not_comparable" => "not comparable",
        "off" => "off",
        _ => "missing",
    }
}

/// A mark that shows the verdict where there is no colour to.
pub(super) fn verdict_mark(verdict: &str) -> &'static str {
    match verdict {
        "pass" => "✅",
        "fail" => "❌",
        "inconclusive" => "🟡",
        "not_comparable" => "🚫",
        "off" => "➖",
        _ => "⚪",
    }
}
