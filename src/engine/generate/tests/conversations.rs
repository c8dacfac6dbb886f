//! Conversations, the calculator in their midst, text as it streams.

use super::*;

/// A model of the bytes' vocabulary.
fn speaker() -> (Gpt, Tokenizer) {
    let tokenizer = bytes();
    (random_model(&shape(128, tokenizer.vocab_size(), 3, (2, 1), 32, "SL"), 8), tokenizer)
}

fn message(role: Role, text: &str) -> Message {
    Message { role, content: Content::Text(text.to_string()) }
}

/// Each turn's tokens from the history in the cache as from all that was said, computed anew.
#[test]
fn turns_go_on_from_the_cache_as_from_the_whole_history() {
    let (model, tokenizer) = speaker();
    let sampling = Sampling { max_tokens: 40, temperature: 1.0, ..Sampling::default() };
    let mut chat = Chat::new(&model, &tokenizer, sampling.clone(), Some("Be brief.".into())).unwrap();
    let end = tokenizer.special_id("<|assistant_end|>").unwrap();
    for (turn, words) in
        ["Hello?", "And <|user_end|> now?", "A third, past the context of this model."].iter().enumerate()
    {
        let before = chat.ids().to_vec();
        let mut told = Vec::new();
        // The second reply is stopped on its way.
        let mut observe = |token: Token| {
            told.push(token);
            if turn == 1 && told.len() == 7 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let reply = chat.say(words, &mut observe).unwrap();
        assert_eq!(told, reply.tokens);
        assert_eq!(chat.ids()[..before.len()], before);
        assert_eq!(chat.ids().last(), Some(&end));
        let prompt = &chat.ids()[..chat.ids().len() - 1 - reply.tokens.len()];
        if turn == 0 {
            let messages =
                vec![message(Role::System, "Be brief."), message(Role::User, words), message(Role::Assistant, "")];
            assert_eq!(prompt, tokenizer.render_for_completion(&Conversation { messages }).unwrap());
        } else {
            // The end of the last reply, and perhaps the last token before it, weren't computed yet.
            assert!(reply.prefilled <= prompt.len() - before.len() + 2, "{} of {}", reply.prefilled, prompt.len());
        }
        if turn == 1 {
            assert_eq!((reply.end, reply.tokens.len()), (End::Stopped, 7));
        }
        let sampling = Sampling { seed: 42 + turn as u64, ..sampling.clone() };
        let stop_ids = [end, tokenizer.bos_id()];
        let anew = generate(&model, prompt, 1, &sampling, &stop_ids).unwrap().remove(0);
        let ids: Vec<u32> = reply.tokens.iter().map(|token| token.id).collect();
        assert_eq!(ids, anew[..ids.len()], "turn {turn}");
    }
    chat.clear();
    assert_eq!(chat.ids(), [tokenizer.bos_id()]);
    let again = chat.say("Hello?", &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(again.prefilled, chat.ids().len() - 1 - again.tokens.len());
}

#[test]
fn a_turn_that_fails_is_taken_back() {
    let tokenizer = bytes();
    let small = random_model(&shape(32, 200, 2, (2, 1), 32, "L"), 8);
    let mut chat = Chat::new(&small, &tokenizer, Sampling::default(), None).unwrap();
    for _ in 0..2 {
        let failed = chat.say("Hello", &mut |_| ControlFlow::Continue(()));
        assert!(matches!(failed, Err(GenerateError::Model(_))), "{failed:?}");
        assert_eq!(chat.ids(), [tokenizer.bos_id()]);
    }
    let senseless = Sampling { temperature: -1.0, ..Sampling::default() };
    assert!(matches!(Chat::new(&small, &tokenizer, senseless, None), Err(GenerateError::Sampling(_))));
}

#[test]
fn calls_of_the_calculator_are_answered_by_force() {
    let tokenizer = bytes();
    let id = |name| tokenizer.special_id(name).unwrap();
    let (start, end) = (id("<|python_start|>"), id("<|python_end|>"));
    let answered = |words: &[&str]| -> Vec<u32> {
        let mut tool = Tool::new(ToolIds::of(&tokenizer).unwrap());
        for word in words {
            match *word {
                "[" => tool.take(start),
                "]" => tool.take(end),
                text => tokenizer.encode(text).into_iter().for_each(|id| tool.take(id)),
            }
        }
        std::iter::from_fn(|| tool.forced()).collect()
    };
    let answer =
        |text: &str| [&[id("<|output_start|>")], tokenizer.encode(text).as_slice(), &[id("<|output_end|>")]].concat();
    assert_eq!(answered(&["so ", "[", "12*(3+", "4)", "]"]), answer("84"));
    assert_eq!(answered(&["[", "1", "[", "2", "]"]), answer("2"), "a call that begins anew");
    for none in [&["1+1"][..], &["1+1", "]"], &["[", "]"], &["[", "1/0", "]"], &["[", "1+1"], &["[", "1", "]", "]"]] {
        let expected = if none.len() == 4 { answer("1") } else { Vec::new() };
        assert_eq!(answered(none), expected, "{none:?}");
    }
    let long = "1+".repeat(5000) + "1";
    assert!(answered(&["[", &long, "]"]).is_empty(), "an expression that never ends is not kept");
}

/// A forced token takes the place of the model's choice, is told as forced, and is computed like any other.
#[test]
fn forced_tokens_take_the_place_of_chosen_ones() {
    let (model, tokenizer) = speaker();
    let id = |name| tokenizer.special_id(name).unwrap();
    // Whatever this model says, its reply is read as an expression from the first token on: the prompt's last token counts
    // for nothing, so the call is opened by hand.
    let mut tool = Tool::new(ToolIds::of(&tokenizer).unwrap());
    [id("<|python_start|>")]
        .iter()
        .chain(&tokenizer.encode("6*7"))
        .chain(&[id("<|python_end|>")])
        .for_each(|id| tool.take(*id));
    let sampling = Sampling { max_tokens: 9, ..Sampling::default() };
    let prompt = tokenizer.encode_document("What is it?");
    let prompts = [Prompt { ids: &prompt, samples: 1 }];
    let request = Request { prompts: &prompts, sampling: &sampling, stop_ids: &[], calculator: Some(&tokenizer) };
    let sample = model
        .decoding(|decoder| {
            let mut cache = decoder.new_cache(30).unwrap();
            let first = decoder.prefill(&prompt, &mut cache).unwrap().to_vec();
            let mut batch = Batch::new(request, ToolIds::of(&tokenizer));
            batch.begin(1);
            batch.give(0, tool);
            batch.decode(decoder, &mut cache, &first, &[0], &mut |_| ControlFlow::Continue(())).unwrap();
            batch.finished().remove(0)
        })
        .unwrap();
    let forced: Vec<u32> = sample.tokens.iter().filter(|token| token.forced).map(|token| token.id).collect();
    let answer = [&[id("<|output_start|>")], tokenizer.encode("42").as_slice(), &[id("<|output_end|>")]].concat();
    assert_eq!(forced, answer);
    assert!(sample.tokens[..4].iter().all(|token| token.forced && token.log_probability < 0.0));
    let rest =
        generate(&model, &[prompt.as_slice(), &answer].concat(), 1, &Sampling { max_tokens: 5, ..sampling }, &[]);
    assert_eq!(sample.ids()[4..], rest.unwrap()[0]);
}

#[test]
fn text_streams_as_it_is_decoded_whole() {
    let tokenizer = bytes();
    let texts: [&[u8]; 7] = [
        "plain".as_bytes(),
        "größer, 東京, 🦀".as_bytes(),
        b"broken \xff\xfe in the midst",
        b"cut off \xe6\x9d",
        b"\xe6\x9d and on",
        b"\xf0\x9f\xa6\x80\xf0\x9f\xa6",
        b"\xc0\x80\xed\xa0\x80\xf5",
    ];
    for bytes in texts {
        let mut ids: Vec<u32> = bytes.iter().map(|byte| u32::from(*byte)).collect();
        ids.push(tokenizer.bos_id());
        for ids in [&ids[..], &ids[..ids.len() - 1]] {
            let mut stream = TextStream::default();
            let parts: Vec<String> = ids.iter().map(|id| stream.push(&tokenizer, *id)).collect();
            assert_eq!(parts.concat() + &stream.finish(), tokenizer.decode(ids));
        }
    }
}
