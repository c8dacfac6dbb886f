//! Plain YAML scalars, resolved by the core schema of YAML 1.2: `yes`, `on` and `5_000` are text there.

use serde_json::Number;

/// Integers up to here are exact in every JSON reader, since many read numbers as doubles.
pub const EXACT_INTEGER: u64 = (1 << 53) - 1;

/// A scalar's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// `null`, `~`, or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number that 64 bits hold exactly, or a fraction.
    Number(Number),
    /// An integer beyond 64 bits, as the nearest double.
    Huge(f64),
    /// Infinity or not a number, which JSON lacks.
    NotFinite,
    /// Text.
    Text,
}

/// What a plain scalar means. Fractions without fractional part (`1e9`, `12.0`) become integers where doubles are exact,
/// so that both spellings are one value.
pub fn resolve(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Scalar::NotFinite;
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Scalar::Text;
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    decimal(text, unsigned)
}

fn radix(digits: &str, radix: u32) -> Scalar {
    let valid = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    if !valid {
        return Scalar::Text;
    }
    match u64::from_str_radix(digits, radix) {
        Ok(value) => Scalar::Number(value.into()),
        Err(_) => Scalar::Huge(digits.chars().fold(0.0, |sum, c| sum * f64::from(radix) + digit(c, radix))),
    }
}

fn digit(c: char, radix: u32) -> f64 {
    c.to_digit(radix).map_or(0.0, f64::from)
}

fn decimal(text: &str, unsigned: &str) -> Scalar {
    if unsigned.chars().all(|c| c.is_ascii_digit()) {
        let plain = text.strip_prefix('+').unwrap_or(text);
        if let Ok(value) = plain.parse::<u64>() {
            return Scalar::Number(value.into());
        }
        return match plain.parse::<i64>() {
            Ok(value) => Scalar::Number(value.into()),
            Err(_) => Scalar::Huge(plain.parse().unwrap_or(f64::MAX)),
        };
    }
    if !is_fraction(unsigned) {
        return Scalar::Text;
    }
    let value: f64 = text.parse().unwrap_or(f64::NAN);
    if !value.is_finite() {
        return Scalar::NotFinite;
    }
    let exact = value.fract() == 0.0 && value.abs() <= EXACT_INTEGER as f64;
    if exact && value >= 0.0 {
        return Scalar::Number((value as u64).into());
    }
    if exact {
        return Scalar::Number((value as i64).into());
    }
    Number::from_f64(value).map_or(Scalar::NotFinite, Scalar::Number)
}

/// `1.5`, `.5`, `1.`, `1e9`, `1.5e-3`; the sign is gone already.
fn is_fraction(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit());
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_ok = digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty());
    let exponent_ok = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    mantissa_ok && exponent_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_resolve_as_yaml_1_2_says() {
        let number = |text: &str| Scalar::Number(serde_json::from_str(text).unwrap());
        let cases = [
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("~/data", Scalar::Text),
            ("true", Scalar::Bool(true)),
            ("yes", Scalar::Text),
            ("12", number("12")),
            ("+12", number("12")),
            ("-3", number("-3")),
            ("007", number("7")),
            ("12.0", number("12")),
            ("1e9", number("1000000000")),
            ("0.28", number("0.28")),
            (".5", number("0.5")),
            ("1.5e-3", number("0.0015")),
            ("1e20", number("1e20")),
            ("0x10", number("16")),
            ("0o17", number("15")),
            ("0x", Scalar::Text),
            ("5_000", Scalar::Text),
            ("1e", Scalar::Text),
            (".", Scalar::Text),
            ("-", Scalar::Text),
            ("1.2.3", Scalar::Text),
            ("92d63d4e", Scalar::Text),
            ("92e3", number("92000")),
            ("18446744073709551615", number("18446744073709551615")),
            ("18446744073709551616", Scalar::Huge(18446744073709551616.0)),
            ("0x10000000000000000", Scalar::Huge(18446744073709551616.0)),
            (".inf", Scalar::NotFinite),
            ("-.INF", Scalar::NotFinite),
            (".nan", Scalar::NotFinite),
            ("1e999", Scalar::NotFinite),
        ];
        for (text, expected) in cases {
            assert_eq!(resolve(text), expected, "{text:?}");
        }
    }
}
