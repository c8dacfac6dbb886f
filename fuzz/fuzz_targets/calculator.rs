//! Any text as an expression for the calculator of conversations: an answer, or none.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nanochat::generate::calculate;

fuzz_target!(|text: &str| {
    let answer = calculate(text);
    // Commas mean nothing, and what isn't allowed has no answer.
    assert_eq!(answer, calculate(&text.replace(',', "")));
    if text.contains("**") || text.contains('\0') {
        assert_eq!(answer, None);
    }
    // An answer that is a whole number is its own answer.
    if let Some(number) = answer.filter(|answer| answer.bytes().all(|byte| byte.is_ascii_digit())) {
        assert_eq!(calculate(&number).as_deref(), Some(number.as_str()));
    }
});
