//! Any text at all: there and back, alone and in batches, by our encoder and by the `tokenizers` crate.

use proptest::prelude::*;

use super::super::{Conversation, ConversationError, Role};
use super::*;

proptest! {
    #[test]
    fn decoding_gives_back_what_was_encoded(text in any::<String>()) {
        let tokenizer = reference();
        let ids = tokenizer.encode(&text);
        prop_assert_eq!(tokenizer.decode(&ids), text.clone());
        prop_assert!(ids.iter().all(|&id| id < tokenizer.bos_id()));
        let lengths = tokenizer.token_bytes();
        prop_assert_eq!(ids.iter().map(|&id| lengths[id as usize] as usize).sum::<usize>(), text.len());
    }

    #[test]
    fn batches_keep_their_order(texts in prop::collection::vec("[a-z é🙂'\n]{0,60}", 0..50)) {
        let tokenizer = reference();
        let one_by_one: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.encode(text)).collect();
        prop_assert_eq!(tokenizer.encode_batch(&texts), one_by_one);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_tokenizers_crate_agrees_on_any_text(texts in prop::collection::vec(any::<String>(), 20)) {
        let tokenizer = reference();
        let mut theirs = tokenizers::Tokenizer::from_bytes(tokenizer.to_json().unwrap()).unwrap();
        theirs.set_encode_special_tokens(true);
        for text in texts {
            let encoded = theirs.encode(text.as_str(), false).unwrap();
            prop_assert_eq!(encoded.get_ids(), tokenizer.encode(&text), "{:?}", text);
        }
    }
}

#[test]
fn two_tokenizers_on_one_thread_keep_apart() {
    let bytes = Tokenizer::from_ranks((0..=u8::MAX).map(|byte| vec![byte]).collect()).unwrap();
    let words = reference();
    for text in ["the house", "the house", "and the"] {
        assert_eq!(bytes.encode(text), text.bytes().map(u32::from).collect::<Vec<_>>());
        assert!(words.encode(text).len() < text.len());
    }
    assert_ne!(bytes.sha256(), words.sha256());
}

#[test]
fn ids_that_are_no_text_decode_as_python_does() {
    let tokenizer = reference();
    assert_eq!(tokenizer.decode(&[0xE4, 97]), "\u{FFFD}a");
    assert_eq!(tokenizer.decode(&[tokenizer.bos_id(), 97, 5000]), "<|bos|>a\u{FFFD}");
    assert_eq!(tokenizer.encode_document("a"), [tokenizer.bos_id(), 97]);
}

#[test]
fn conversations_in_a_wrong_order_are_refused() {
    let render = |messages: serde_json::Value| {
        let conversation = Conversation::from_json(&serde_json::json!({ "messages": messages }))?;
        reference().render_conversation(&conversation, 100)
    };
    let message = |role: &str| serde_json::json!({ "role": role, "content": "x" });
    assert_eq!(render(serde_json::json!([])), Err(ConversationError::Empty));
    assert_eq!(render(serde_json::json!([message("system")])), Err(ConversationError::Empty));
    let out_of_turn = |index, found, expected| Err(ConversationError::OutOfTurn { index, found, expected });
    assert_eq!(render(serde_json::json!([message("assistant")])), out_of_turn(0, Role::Assistant, Role::User));
    assert_eq!(
        render(serde_json::json!([message("user"), message("user")])),
        out_of_turn(1, Role::User, Role::Assistant)
    );
    let late_system = serde_json::json!([message("user"), message("system")]);
    assert_eq!(render(late_system), out_of_turn(1, Role::System, Role::Assistant));
    let parts = serde_json::json!([{ "role": "user", "content": [] }]);
    assert_eq!(render(parts), Err(ConversationError::UnexpectedParts { index: 0 }));
    let unknown =
        serde_json::json!([message("user"), { "role": "assistant", "content": [{ "type": "image", "text": "" }] }]);
    let error = render(unknown).unwrap_err().to_string();
    assert_eq!(error, "messages[1].content[0].type: expected `text`, `python` or `python_output`");
    let open = Conversation::from_json(&serde_json::json!({ "messages": [message("user")] })).unwrap();
    assert_eq!(reference().render_for_completion(&open), Err(ConversationError::NoReply));
}
