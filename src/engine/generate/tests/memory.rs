//! What generation holds over many tokens and many requests; each measured in a process of its own.

use super::*;

fn resident() -> i64 {
    crate::device::memory::resident_bytes() as i64
}

fn small() -> Gpt {
    random_model(&shape(128, 265, 4, (2, 1), 64, "SSL"), 3)
}

/// Growth of resident memory over one continuation, after its first `settled` tokens.
fn growth_over_tokens(tokens: usize, settled_after: usize) -> i64 {
    let (model, mut settled, mut count) = (small(), 0, 0);
    let sampling = Sampling { max_tokens: tokens, temperature: 1.0, ..Sampling::default() };
    let prompts = &[Prompt { ids: &[1, 2, 3], samples: 1 }];
    let request = Request { prompts, sampling: &sampling, stop_ids: &[], calculator: None };
    let mut last = 0;
    let mut observe = |_: Token| {
        count += 1;
        if count == settled_after {
            settled = resident();
        }
        if count == tokens {
            last = resident();
        }
        ControlFlow::Continue(())
    };
    continuations(&model, request, &mut observe).unwrap();
    last - settled
}

/// The same over short requests of many kinds, after the first `settled`.
fn growth_over_requests(requests: usize, settled_after: usize) -> i64 {
    let (model, tokenizer, mut settled) = (small(), bytes(), 0);
    for round in 0..requests {
        if round == settled_after {
            settled = resident();
        }
        let prompt: Vec<u32> = (0..1 + round as u32 % 150).collect();
        let sampling = Sampling { max_tokens: 1 + round % 20, temperature: (round % 2) as f64, ..Sampling::default() };
        generate(&model, &prompt, 1 + round % 4, &sampling, &[]).unwrap();
        if round % 10 == 0 {
            let mut chat = Chat::new(&model, &tokenizer, sampling, None).unwrap();
            chat.say("Hello", &mut |_| ControlFlow::Continue(())).unwrap();
            chat.say("again", &mut |_| ControlFlow::Continue(())).unwrap();
        }
    }
    resident() - settled
}

/// Runs an ignored test of this file in a process of its own, where nothing else takes memory; the figure that it prints.
fn alone(test: &str) -> i64 {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([&format!("generate::tests::memory::{test}"), "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    let growth = text.lines().find_map(|line| line.split_once("growth: ")?.1.trim().parse().ok());
    growth.unwrap_or_else(|| panic!("no figure in {text}"))
}

#[test]
#[ignore = "only means something alone in its process"]
fn short_form() {
    let (tokens, requests) = (growth_over_tokens(3000, 1000), growth_over_requests(400, 200));
    println!("{tokens} bytes over tokens, {requests} over requests\ngrowth: {}", tokens.max(requests));
}

/// 10,000 tokens in one process, and 1,000 short requests. Run alone:
/// `cargo test --release --lib generate::tests::memory::ten_thousand -- --ignored --nocapture`.
#[test]
#[ignore = "takes a while, and only means something alone in its process"]
fn ten_thousand_tokens_and_a_thousand_requests() {
    let (tokens, requests) = (growth_over_tokens(10_000, 1000), growth_over_requests(1000, 200));
    println!(
        "growth: {} KiB over 10,000 tokens after the first 1,000, {} KiB over 1,000 requests after the first 200",
        tokens >> 10,
        requests >> 10
    );
    // The sample itself takes 32 bytes a token.
    assert!(tokens < 1 << 20, "{tokens} bytes over tokens");
    assert!(requests < 1 << 20, "{requests} bytes over requests");
}

#[test]
fn memory_stays_flat_over_tokens_and_requests() {
    // Threads that begin late take pages of their own, now and then more than this; what leaks does so every time.
    let least = (0..3).map(|_| alone("short_form")).min().unwrap();
    assert!(least < 1 << 20, "{least} bytes");
}

/// However long, a prompt takes what its windows hold: a megabyte of text through a model of a short context.
#[test]
fn a_megabyte_of_prompt_is_continued_in_bounded_memory() {
    let (model, tokenizer) = (random_model(&shape(16, 265, 1, (1, 1), 24, "L"), 3), bytes());
    let text = "all work and no play ".repeat(50_000);
    let ids = tokenizer.encode_document(&text);
    assert!(ids.len() > 1_000_000);
    let sampling = Sampling { max_tokens: 4, max_cache_bytes: Some(1 << 20), ..Sampling::default() };
    let long = generate(&model, &ids, 1, &sampling, &[]).unwrap();
    // One layer whose window is 16 sees the last 17 tokens, and the smear one more; positions only matter as differences.
    assert_eq!(long[0].len(), 4);
    let again = generate(&model, &ids, 2, &sampling, &[]).unwrap();
    assert_eq!(again, [long[0].clone(), long[0].clone()]);
}
