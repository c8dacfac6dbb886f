//! Any bytes as the baseline's tokenizer pickle: an error, or a tokenizer that gives back what it encodes.

#![no_main]

mod place;

use libfuzzer_sys::fuzz_target;
use nanochat::tokenizer::Tokenizer;

fuzz_target!(|bytes: &[u8]| {
    match Tokenizer::load(&place::file("tokenizer.pkl", bytes)) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(tokenizer) => {
            let text = "It isn't \u{e9}\u{4e2d} 1234\n\n <|bos|> a  b";
            assert_eq!(tokenizer.decode(&tokenizer.encode(text)), text);
        }
    }
});
