//! Continuations against the full forward pass, their independence of each other, conversations, what they hold.

use candle_core::{Device, IndexOp, Tensor};

use super::engine::{Batch, continuations};
use super::tool::{Tool, ToolIds};
use super::*;
use crate::model::testing::{random_model, shape};
use crate::model::{Backend, Gpt};
use crate::tokenizer::{Content, Conversation, Message, Role, Tokenizer};
use nanochat_plan::ModelShape;
use std::ops::ControlFlow;

mod conversations;
mod memory;

fn model() -> Gpt {
    random_model(&shape(8, 70, 3, (2, 1), 32, "L"), 3)
}

/// A tokenizer of the single bytes.
fn bytes() -> Tokenizer {
    Tokenizer::from_ranks((0..=255).map(|byte| vec![byte]).collect()).unwrap()
}

/// Full attention; grouped queries; windows shorter than the context and grouped queries.
fn shapes() -> [ModelShape; 3] {
    [shape(48, 90, 3, (3, 3), 48, "L"), shape(40, 70, 4, (4, 1), 64, "L"), shape(160, 80, 5, (4, 2), 64, "SSL")]
}

/// Random prompts, from one token to some more than the context.
fn prompts(shape: &ModelShape, count: usize) -> Vec<Vec<u32>> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut below = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let length = |below: &mut dyn FnMut(usize) -> usize| 1 + below(shape.sequence_len + 30);
    (0..count)
        .map(|_| {
            let length = length(&mut below);
            (0..length).map(|_| below(shape.vocab_size) as u32).collect()
        })
        .collect()
}

/// Continues prompts, so many at a time.
fn in_batches(model: &Gpt, prompts: &[Vec<u32>], batch: usize, sampling: &Sampling) -> Vec<Sample> {
    let mut samples = Vec::new();
    for prompts in prompts.chunks(batch) {
        let prompts: Vec<Prompt<'_>> = prompts.iter().map(|ids| Prompt { ids, samples: 1 }).collect();
        let request = Request { prompts: &prompts, sampling, stop_ids: &[], calculator: None };
        let own = continuations(model, request, &mut |_| ControlFlow::Continue(())).unwrap();
        samples.extend(own.into_iter().map(|sample| {
            let tokens = sample.tokens.into_iter().map(|token| Token { sample: 0, ..token }).collect();
            Sample { tokens, ..sample }
        }));
    }
    samples
}

/// By the full forward pass over a sequence: the likeliest token after each of its last `count` + 1 tokens but the last, and
/// the gap to the next likeliest.
fn by_full_passes(model: &Gpt, ids: &[u32], count: usize) -> Vec<(u32, f32)> {
    let logits = model.logits(&Tensor::from_slice(ids, (1, ids.len()), &Device::Cpu).unwrap()).unwrap();
    (ids.len() - count - 1..ids.len() - 1)
        .map(|at| {
            let logits = logits.i((0, at)).unwrap().to_vec1::<f32>().unwrap();
            let mut order: Vec<usize> = (0..logits.len()).collect();
            order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
            (order[0] as u32, logits[order[0]] - logits[order[1]])
        })
        .collect()
}

/// Token by token the full pass's choice, at every batch size to the bit alike, for prompts beyond the context too; with
/// weights in f32 and rounded to bf16, where the full pass computes with the same rounded ones.
#[test]
fn two_hundred_prompts_continue_greedily_as_by_full_passes_at_every_batch_size() {
    let sampling = Sampling { max_tokens: 12, ..Sampling::default() };
    for (number, shape) in shapes().iter().enumerate() {
        let mut model = random_model(shape, 50 + number as u64);
        for round in 0..2 {
            if round == 1 {
                model.round_weights().unwrap();
            }
            let prompts = prompts(shape, 200);
            let alone = in_batches(&model, &prompts, 1, &sampling);
            for batch in [3, 8] {
                assert!(
                    in_batches(&model, &prompts, batch, &sampling) == alone,
                    "{batch} beside each other, {shape:?}"
                );
            }
            for (prompt, sample) in prompts.iter().zip(&alone) {
                let ids = [prompt.as_slice(), &sample.ids()].concat();
                let full = by_full_passes(&model, &ids, 12);
                let chosen: Vec<u32> = full.iter().map(|(id, _)| *id).collect();
                // Two logits within rounding of each other would prove nothing; none of these prompts meets such.
                let least = full.iter().fold(f32::INFINITY, |least, (_, gap)| least.min(*gap));
                assert!(sample.ids() == chosen, "{prompt:?} of {shape:?}, least gap {least:e}");
            }
        }
    }
}

#[test]
fn draws_do_not_depend_on_what_is_drawn_beside_them() {
    for (number, shape) in shapes().iter().enumerate() {
        let model = random_model(shape, 60 + number as u64);
        let prompts = prompts(shape, 24);
        for top_k in [None, Some(5)] {
            let sampling = Sampling { max_tokens: 20, temperature: 1.2, top_k, ..Sampling::default() };
            let alone = in_batches(&model, &prompts, 1, &sampling);
            for batch in [3, 8] {
                assert!(in_batches(&model, &prompts, batch, &sampling) == alone, "{batch} beside each other");
            }
            let several = [Prompt { ids: &prompts[0], samples: 4 }, Prompt { ids: &prompts[1], samples: 2 }];
            let request = Request { prompts: &several, sampling: &sampling, stop_ids: &[], calculator: None };
            let both = continuations(&model, request, &mut |_| ControlFlow::Continue(())).unwrap();
            assert_eq!((both[0].ids(), both[4].ids()), (alone[0].ids(), alone[1].ids()));
            assert_eq!(both.len(), 6);
        }
    }
}

/// Rows that end leave, and the others go on as if nothing had been; the reference operations choose the same.
#[test]
fn rows_that_end_leave_the_batch() {
    let shape = &shapes()[2];
    let mut model = random_model(shape, 70);
    let prompts = prompts(shape, 6);
    let sampling = Sampling { max_tokens: 25, temperature: 1.0, ..Sampling::default() };
    let whole = in_batches(&model, &prompts, 6, &sampling);
    let stop_ids: Vec<u32> = (0..6).map(|at| whole[at].tokens[3 * at].id).collect();
    let requests: Vec<Prompt<'_>> = prompts.iter().map(|ids| Prompt { ids, samples: 1 }).collect();
    let request = Request { prompts: &requests, sampling: &sampling, stop_ids: &stop_ids, calculator: None };
    let told = std::sync::Mutex::new(vec![Vec::new(); 6]);
    let mut observe = |token: Token| {
        told.lock().unwrap()[token.sample].push(token);
        ControlFlow::Continue(())
    };
    let cut = continuations(&model, request, &mut observe).unwrap();
    for ((cut, whole), told) in cut.iter().zip(&whole).zip(told.lock().unwrap().iter()) {
        let length = whole.tokens.iter().position(|token| stop_ids.contains(&token.id)).unwrap_or(25);
        assert_eq!(cut.ids(), whole.ids()[..length]);
        assert_eq!(told, &cut.tokens);
        let end = whole.tokens.get(length).map_or(End::Length, |token| End::Stop(token.id));
        assert_eq!(cut.end, end);
    }
    assert!(cut.iter().any(|sample| sample.tokens.len() < 5) && cut.iter().any(|sample| sample.tokens.len() > 5));
    model.set_backend(Backend::Reference);
    let reference = continuations(&model, request, &mut |_| ControlFlow::Continue(())).unwrap();
    for (reference, cut) in reference.iter().zip(&cut) {
        assert_eq!(reference.ids(), cut.ids());
        for (a, b) in reference.tokens.iter().zip(&cut.tokens) {
            assert!((a.log_probability - b.log_probability).abs() < 2e-5, "{a:?} {b:?}");
        }
    }
    let request = Request { prompts: &[Prompt { ids: &prompts[0], samples: 3 }], ..request };
    assert_eq!(continuations(&model, request, &mut |_| ControlFlow::Continue(())).unwrap().len(), 3);
}

#[test]
fn log_probabilities_are_those_of_the_full_distribution() {
    let model = model();
    let sampling = Sampling { max_tokens: 5, temperature: 0.8, top_k: Some(3), ..Sampling::default() };
    let prompt = [5, 9, 60];
    let sample = in_batches(&model, &[prompt.to_vec()], 1, &sampling).remove(0);
    let ids = [prompt.as_slice(), &sample.ids()].concat();
    let logits = model.logits(&Tensor::from_slice(&ids, (1, ids.len()), &Device::Cpu).unwrap()).unwrap();
    for (at, token) in sample.tokens.iter().enumerate() {
        let logits = logits.i((0, at + 2)).unwrap().to_vec1::<f32>().unwrap();
        let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        let expected = f64::from(logits[token.id as usize]) - total.ln();
        assert!((token.log_probability - expected).abs() < 1e-5, "{token:?} {expected}");
    }
}

fn continued(prompt: &[u32], samples: usize, sampling: &Sampling) -> Vec<Vec<u32>> {
    generate(&model(), prompt, samples, sampling, &[]).unwrap()
}

/// Through the cache as by the full forward pass, well past the trained context of 8 tokens.
#[test]
fn greedy_tokens_are_the_likeliest_of_the_full_forward_pass() {
    let (model, mut tokens) = (model(), vec![5, 9, 60]);
    let cached = continued(&tokens, 1, &Sampling { max_tokens: 30, ..Sampling::default() });
    for _ in 0..30 {
        let ids = Tensor::from_slice(&tokens, (1, tokens.len()), &Device::Cpu).unwrap();
        let last = model.logits(&ids).unwrap().i((0, tokens.len() - 1)).unwrap();
        tokens.push(last.argmax(0).unwrap().to_scalar::<u32>().unwrap());
    }
    assert_eq!(cached, [tokens[3..].to_vec()]);
    let only = Sampling { max_tokens: 30, temperature: 0.7, top_k: Some(1), ..Sampling::default() };
    assert_eq!(continued(&[5, 9, 60], 1, &only), cached, "the likeliest of one");
}

#[test]
fn a_sample_is_the_same_however_many_are_drawn_beside_it() {
    let sampling = Sampling { max_tokens: 12, temperature: 1.0, ..Sampling::default() };
    let many = continued(&[1, 2], 5, &sampling);
    assert_eq!(continued(&[1, 2], 2, &sampling), many[..2]);
    assert_eq!(continued(&[1, 2], 5, &sampling), many, "the same seed");
    assert!(many.iter().skip(1).all(|other| *other != many[0]), "samples differ");
    let other = continued(&[1, 2], 1, &Sampling { seed: 43, ..sampling });
    assert_ne!(other[0], many[0], "another seed");
}

/// Frequencies of the first token over many samples, against its probabilities.
#[test]
fn draws_follow_the_distribution() {
    let model = model();
    let sampling = Sampling { max_tokens: 1, temperature: 1.5, top_k: Some(3), ..Sampling::default() };
    let samples = 4000;
    let drawn = generate(&model, &[7], samples, &sampling, &[]).unwrap();
    let ids = Tensor::new(&[[7u32]], &Device::Cpu).unwrap();
    let logits = model.logits(&ids).unwrap().i((0, 0)).unwrap().to_vec1::<f32>().unwrap();
    let mut order: Vec<usize> = (0..70).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    let weights: Vec<f64> = order[..3].iter().map(|&token| (f64::from(logits[token]) / 1.5).exp()).collect();
    let total: f64 = weights.iter().sum();
    for (token, weight) in order[..3].iter().zip(weights) {
        let share = drawn.iter().filter(|sample| sample[0] as usize == *token).count() as f64 / samples as f64;
        let expected = weight / total;
        // Five standard deviations of a binomial share; the seed is fixed.
        let bound = 5.0 * (expected * (1.0 - expected) / samples as f64).sqrt();
        assert!((share - expected).abs() < bound, "token {token}: {share} instead of {expected}");
    }
    assert!(drawn.iter().all(|sample| order[..3].contains(&(sample[0] as usize))));
}

#[test]
fn a_sample_ends_before_a_stop_token() {
    let sampling = Sampling { max_tokens: 20, ..Sampling::default() };
    let whole = continued(&[5, 9, 60], 1, &sampling).remove(0);
    let stop = whole[6];
    let cut = whole.iter().position(|token| *token == stop).unwrap();
    let stopped = generate(&model(), &[5, 9, 60], 1, &sampling, &[stop]).unwrap();
    assert_eq!(stopped, [whole[..cut].to_vec()]);
    let none = Sampling { max_tokens: 0, ..sampling };
    assert_eq!(continued(&[5], 2, &none), [Vec::<u32>::new(), Vec::new()]);
}

/// Known failure 1 of the baseline, its cause: a cache that can't fit is refused before anything is allocated.
#[test]
fn known_failure_1_senseless_requests_and_caches_that_cannot_fit_are_refused() {
    let fails = |prompt: &[u32], sampling: Sampling| generate(&model(), prompt, 2, &sampling, &[]).unwrap_err();
    let base = Sampling::default();
    assert!(matches!(fails(&[], base.clone()), GenerateError::EmptyPrompt));
    for temperature in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(fails(&[1], Sampling { temperature, ..base.clone() }), GenerateError::Sampling(_)));
    }
    let large = Sampling { max_tokens: usize::MAX, max_cache_bytes: Some(1 << 17), ..base.clone() };
    assert!(matches!(fails(&[1], large), GenerateError::CacheTooLarge { rows: 2, .. }));
    // A window of 8 tokens and a page of 256 is all that a row of any length keeps.
    let long = Sampling { max_tokens: 300, max_cache_bytes: Some((2 * (8 + 256) + 1) * 384), ..base.clone() };
    assert!(generate(&model(), &[1], 2, &long, &[]).is_ok());
    // Three layers, one key/value head of 16 channels, keys and values in f32: 384 bytes a token.
    let tokens = 2 * (1 + 64) + 1;
    let exact = Sampling { max_cache_bytes: Some(tokens * 384), ..base.clone() };
    assert!(generate(&model(), &[1], 2, &exact, &[]).is_ok());
    let below = Sampling { max_cache_bytes: Some(tokens * 384 - 1), ..base };
    assert!(matches!(fails(&[1], below), GenerateError::CacheTooLarge { bytes, .. } if bytes == tokens * 384));
    assert!(matches!(fails(&[99], Sampling::default()), GenerateError::Model(_)), "a token outside the vocabulary");
}
