//! The calculator of the baseline's assistants (`use_calculator` in `nanochat/engine.py`), which hands expressions to
//! Python's `eval` there. Here they are parsed: sums, products, quotients, whole quotients (`//`), parentheses; and
//! `.count(…)`, `.lower()` and `.upper()` of quoted text. Answers are spelled as Python spells them.
//!
//! Refused, without an answer: powers and names as in the baseline; and, for safety, expressions longer than
//! [`LONGEST`], parentheses deeper than [`DEEPEST`], whole numbers past 128 bits, and quotients of whole numbers past 2^53
//! that aren't whole. Time is linear in the length.

/// Bytes of an expression at most.
const LONGEST: usize = 4096;
/// Parentheses within each other at most.
const DEEPEST: usize = 64;
/// Whole numbers up to here are exact in an f64.
const EXACT: u128 = 1 << 53;

/// What the baseline refuses wherever it stands.
const REFUSED: [&str; 17] = [
    "__",
    "import",
    "exec",
    "eval",
    "compile",
    "open",
    "file",
    "input",
    "raw_input",
    "globals",
    "locals",
    "vars",
    "dir",
    "getattr",
    "setattr",
    "delattr",
    "hasattr",
];

/// The answer to an expression, as Python prints it; none where it isn't one, or is refused.
pub fn calculate(expression: &str) -> Option<String> {
    let expression = expression.replace(',', "");
    if expression.len() > LONGEST {
        return None;
    }
    let arithmetic = expression.bytes().all(|byte| b"0123456789*+-/.() ".contains(&byte));
    if arithmetic {
        if expression.contains("**") {
            return None;
        }
    } else {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'\"()._ ".contains(&byte);
        let lower = expression.to_lowercase();
        let refused = REFUSED.iter().any(|word| lower.contains(word)) || !expression.contains(".count(");
        if refused || !expression.bytes().all(allowed) {
            return None;
        }
    }
    let mut parser = Parser { rest: expression.trim_start_matches(' ').as_bytes(), depth: 0 };
    let value = parser.sum()?;
    parser.spaces();
    parser.rest.is_empty().then(|| value.spelled())
}

/// What an expression comes to.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Whole(i128),
    Float(f64),
    Text(String),
}

impl Value {
    /// As Python prints it.
    fn spelled(&self) -> String {
        match self {
            Self::Whole(value) => value.to_string(),
            Self::Float(value) => python_float(*value),
            Self::Text(text) => text.clone(),
        }
    }

    fn negated(self) -> Option<Self> {
        match self {
            Self::Whole(value) => value.checked_neg().map(Self::Whole),
            Self::Float(value) => Some(Self::Float(-value)),
            Self::Text(_) => None,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Whole(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            Self::Text(_) => None,
        }
    }
}

/// A number as Python prints floats: the shortest digits, with an exponent below 1e-4 and from 1e16 on.
fn python_float(value: f64) -> String {
    if !value.is_finite() {
        let name = if value.is_nan() { "nan" } else { "inf" };
        return format!("{}{name}", if value == f64::NEG_INFINITY { "-" } else { "" });
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{value}");
    if plain.contains('.') { plain } else { format!("{plain}.0") }
}

/// Reads an expression from the left.
struct Parser<'a> {
    rest: &'a [u8],
    depth: usize,
}

impl Parser<'_> {
    fn spaces(&mut self) {
        while let Some(rest) = self.rest.strip_prefix(b" ") {
            self.rest = rest;
        }
    }

    /// Takes a sign if it comes next.
    fn takes(&mut self, sign: &[u8]) -> bool {
        self.spaces();
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn sum(&mut self) -> Option<Value> {
        let mut value = self.product()?;
        loop {
            let (whole, float): (fn(i128, i128) -> Option<i128>, fn(f64, f64) -> f64) = if self.takes(b"+") {
                (i128::checked_add, |a, b| a + b)
            } else if self.takes(b"-") {
                (i128::checked_sub, |a, b| a - b)
            } else {
                return Some(value);
            };
            let other = self.product()?;
            value = combined(value, other, whole, |a, b| Some(float(a, b)))?;
        }
    }

    fn product(&mut self) -> Option<Value> {
        let mut value = self.signed()?;
        loop {
            if self.takes(b"//") {
                value = combined(value, self.signed()?, whole_quotient, float_whole_quotient)?;
            } else if self.takes(b"/") {
                value = quotient(&value, &self.signed()?)?;
            } else if self.takes(b"*") {
                value = combined(value, self.signed()?, i128::checked_mul, |a, b| Some(a * b))?;
            } else {
                return Some(value);
            }
        }
    }

    fn signed(&mut self) -> Option<Value> {
        let (mut negative, mut any) = (false, false);
        loop {
            if self.takes(b"-") {
                negative = !negative;
            } else if !self.takes(b"+") {
                break;
            }
            any = true;
        }
        let value = self.called()?;
        match (any, negative) {
            (false, _) => Some(value),
            (true, true) => value.negated(),
            (true, false) => value.number().map(|_| value),
        }
    }

    /// A value, and the methods of text that are called on it.
    fn called(&mut self) -> Option<Value> {
        let mut value = self.atom()?;
        while self.takes(b".") {
            let Value::Text(text) = &value else { return None };
            value = if self.takes(b"count") {
                let part = self.parenthesised()?;
                let Value::Text(part) = part else { return None };
                Value::Whole(occurrences(text, &part) as i128)
            } else if self.takes(b"lower") && self.takes(b"(") && self.takes(b")") {
                Value::Text(text.to_ascii_lowercase())
            } else if self.takes(b"upper") && self.takes(b"(") && self.takes(b")") {
                Value::Text(text.to_ascii_uppercase())
            } else {
                return None;
            };
        }
        Some(value)
    }

    fn atom(&mut self) -> Option<Value> {
        self.spaces();
        match self.rest.first()? {
            b'(' => self.parenthesised(),
            b'\'' | b'"' => {
                let mut text = self.quoted()?;
                while matches!(
                    {
                        self.spaces();
                        self.rest.first()
                    },
                    Some(b'\'' | b'"')
                ) {
                    text.push_str(&self.quoted()?);
                }
                Some(Value::Text(text))
            }
            _ => self.number(),
        }
    }

    fn parenthesised(&mut self) -> Option<Value> {
        if self.depth == DEEPEST || !self.takes(b"(") {
            return None;
        }
        self.depth += 1;
        let value = self.sum()?;
        self.depth -= 1;
        self.takes(b")").then_some(value)
    }

    fn quoted(&mut self) -> Option<String> {
        let (quote, rest) = self.rest.split_first()?;
        let end = rest.iter().position(|byte| byte == quote)?;
        self.rest = &rest[end + 1..];
        String::from_utf8(rest[..end].to_vec()).ok()
    }

    fn number(&mut self) -> Option<Value> {
        let length = self.rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
        let (digits, rest) = self.rest.split_at(length);
        let text = std::str::from_utf8(digits).ok()?;
        self.rest = rest;
        // A name or another number that touches it isn't Python.
        if rest.first().is_some_and(u8::is_ascii_alphabetic) || text.matches('.').count() > 1 || text == "." {
            return None;
        }
        if text.contains('.') {
            return text.parse().ok().map(Value::Float);
        }
        // Python has no numbers with zeros before them, but for zero itself.
        let zeros = text.len() > 1 && text.starts_with('0') && text.bytes().any(|digit| digit != b'0');
        if zeros { None } else { text.parse().ok().map(Value::Whole) }
    }
}

/// Two numbers together: whole ones stay whole.
fn combined(
    a: Value,
    b: Value,
    whole: impl Fn(i128, i128) -> Option<i128>,
    float: impl Fn(f64, f64) -> Option<f64>,
) -> Option<Value> {
    match (&a, &b) {
        (Value::Whole(a), Value::Whole(b)) => whole(*a, *b).map(Value::Whole),
        _ => float(a.number()?, b.number()?).map(Value::Float),
    }
}

/// Rounded down.
fn whole_quotient(a: i128, b: i128) -> Option<i128> {
    let quotient = a.checked_div(b)?;
    Some(if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
}

/// As CPython's `float_floor_div`, rounding and signs of zero included.
fn float_whole_quotient(a: f64, b: f64) -> Option<f64> {
    if b == 0.0 {
        return None;
    }
    let rest = a % b;
    let mut quotient = (a - rest) / b;
    if rest != 0.0 && (b < 0.0) != (rest < 0.0) {
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return Some(0f64.copysign(a / b));
    }
    let floor = quotient.floor();
    Some(if quotient - floor > 0.5 { floor + 1.0 } else { floor })
}

fn quotient(a: &Value, b: &Value) -> Option<Value> {
    if let (Value::Whole(a), Value::Whole(b)) = (a, b) {
        let whole = a.checked_rem(*b)? == 0;
        if whole && *a != 0 {
            return a.checked_div(*b).map(|quotient| Value::Float(quotient as f64));
        }
        if a.unsigned_abs() > EXACT || b.unsigned_abs() > EXACT {
            return None;
        }
    }
    let divisor = b.number()?;
    (divisor != 0.0).then_some(Value::Float(a.number()? / divisor))
}

/// How often a part occurs, without overlaps; the empty one before every character and at the end.
fn occurrences(text: &str, part: &str) -> usize {
    if part.is_empty() { text.chars().count() + 1 } else { text.matches(part).count() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of the baseline's own function (`use_calculator`), where it isn't refused here for its size.
    #[test]
    fn answers_are_those_of_the_baseline() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/inference/calculator_cases.json");
        let cases: Vec<(String, Option<String>)> =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(cases.len() > 100);
        for (expression, answer) in cases {
            assert_eq!(calculate(&expression), answer, "{expression}");
        }
    }

    #[test]
    fn what_takes_too_much_is_refused() {
        assert_eq!(calculate(&"(".repeat(100_000)), None);
        assert_eq!(calculate(&format!("{}1{}", "(".repeat(65), ")".repeat(65))), None);
        assert_eq!(calculate(&format!("{}1{}", "(".repeat(64), ")".repeat(64))).as_deref(), Some("1"));
        assert_eq!(calculate(&format!("{}1", "-".repeat(4000))).as_deref(), Some("1"));
        assert_eq!(calculate(&["9"; 400].join("*")), None, "past 128 bits");
        assert_eq!(calculate(&"9".repeat(60)), None);
        assert_eq!(calculate("10000000000000000000000/3"), None, "not whole, and past 2^53");
        assert_eq!(calculate("10000000000000000000000/4").as_deref(), Some("2.5e+21"));
        assert_eq!(calculate("__import__('os').system('true').count('a')"), None);
        for expression in ["", " ", "1+", "*", "é", "'a'.count('é')", "\0", "1 2", "()", "'a", ".", "1..2"] {
            assert_eq!(calculate(expression), None, "{expression:?}");
        }
    }
}
