//! Passes over runs against the reference operations: logits, scores, pages that rows share.

use candle_core::Tensor;

use crate::model::testing::{distance, random_batch, random_model, shapes};
use crate::model::{Backend, Continuation, Gpt, ModelError};
use nanochat_plan::ModelShape;

/// Two models of the same weights, one for the kernels, one for the reference operations.
fn references(shape: &ModelShape, seed: u64) -> [Gpt; 2] {
    [Backend::Kernels, Backend::Reference].map(|engine| {
        let mut model = random_model(shape, seed);
        model.set_backend(engine);
        model
    })
}

fn ids(shape: &ModelShape, length: usize, seed: u64) -> Vec<u32> {
    random_batch(shape, 1, length, seed).0.flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference of two rows of logits.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |worst, (a, b)| worst.max((a - b).abs()))
}

/// Logits lie within ±15; sums in another order leave them within some tens of their last bit.
const ROUNDING: f64 = 1e-5;

#[test]
fn cached_logits_equal_the_reference_ones_however_the_tokens_are_cut() {
    for shape in shapes() {
        let [kernels, reference] = references(&shape, 40);
        let length = shape.sequence_len + 9;
        let (batch, _) = random_batch(&shape, 2, length, 41);
        for cuts in [vec![length], vec![1; length], vec![3, 1, length - 4], vec![length - 2, 2]] {
            let [ours, reference] = [&kernels, &reference].map(|model| {
                let mut cache = model.new_cache(2, 4).unwrap();
                let parts: Vec<Tensor> = (cuts.iter())
                    .map(|cut| model.logits_cached(&batch.narrow(1, cache.len(), *cut).unwrap(), &mut cache).unwrap())
                    .collect();
                Tensor::cat(&parts, 1).unwrap()
            });
            let difference = distance(&ours, &reference);
            assert!(difference < ROUNDING, "{difference:e} for {shape:?}, cut {cuts:?}");
        }
    }
}

#[test]
fn rows_of_different_lengths_are_decoded_together() {
    for shape in shapes() {
        let [kernels, reference] = references(&shape, 42);
        let rows = [ids(&shape, 3, 1), ids(&shape, shape.sequence_len + 5, 2), ids(&shape, 17, 3)];
        // Two rounds: prompts, and then one, four and two tokens more.
        let cuts = [2, shape.sequence_len + 1, 15];
        let mut cache = kernels.new_cache(3, 8).unwrap();
        let heads: Vec<&[u32]> = rows.iter().zip(cuts).map(|(row, cut)| &row[..cut]).collect();
        let tails: Vec<&[u32]> = rows.iter().zip(cuts).map(|(row, cut)| &row[cut..]).collect();
        kernels.next_logits(&heads, &mut cache).unwrap();
        let together = kernels.next_logits(&tails, &mut cache).unwrap();
        for ((row, logits), held) in rows.iter().zip(&together).zip(cache.tokens()) {
            assert_eq!(row, held);
            let mut alone = reference.new_cache(1, row.len()).unwrap();
            let reference = reference.next_logits(&[row], &mut alone).unwrap();
            assert!(f64::from(apart(logits, &reference[0])) < ROUNDING, "{shape:?}");
        }
        let mut cache = reference.new_cache(3, 8).unwrap();
        assert!(matches!(reference.next_logits(&heads, &mut cache), Err(ModelError::Ragged)));
    }
}

#[test]
fn rows_that_share_pages_go_on_each_on_its_own() {
    let shape = &shapes()[3];
    let [kernels, reference] = references(shape, 43);
    let prompt = ids(shape, 40, 1);
    let mut prefilled = kernels.new_cache(1, 40).unwrap();
    kernels.next_logits(&[&prompt], &mut prefilled).unwrap();
    let mut rows = prefilled.repeat(3, 50).unwrap();
    let tails = [ids(shape, 30, 2), ids(shape, 30, 3), ids(shape, 30, 4)];
    for step in 0..30 {
        let new: Vec<&[u32]> = tails.iter().map(|tail| &tail[step..=step]).collect();
        let logits = kernels.next_logits(&new, &mut rows).unwrap();
        if step == 11 {
            // The first row's owner cuts back and takes another way; the others don't notice.
            prefilled.truncate(25).unwrap();
            kernels.next_logits(&[&tails[2]], &mut prefilled).unwrap();
        }
        for (tail, logits) in tails.iter().zip(&logits).filter(|_| step % 10 == 9) {
            let whole = [&prompt, &tail[..=step]].concat();
            let reference = reference.next_logits(&[&whole], &mut reference.new_cache(1, 1).unwrap()).unwrap();
            assert!(f64::from(apart(logits, &reference[0])) < ROUNDING, "step {step}");
        }
    }
    let whole = [&prompt[..25], &tails[2], &tails[0][..4]].concat();
    let logits = kernels.next_logits(&[&tails[0][..4]], &mut prefilled).unwrap();
    let reference = reference.next_logits(&[&whole], &mut reference.new_cache(1, 1).unwrap()).unwrap();
    assert!(f64::from(apart(&logits[0], &reference[0])) < ROUNDING);
}

#[test]
fn scores_equal_those_of_full_passes() {
    for shape in shapes() {
        let [kernels, reference] = references(&shape, 44);
        let (shots, other) = (ids(&shape, shape.sequence_len + 20, 1), ids(&shape, 12, 2));
        let with = |length: usize, seed| [&shots[..length], &ids(&shape, 3 + seed as usize % 3, seed)].concat();
        let texts = [
            with(shots.len(), 3),
            with(shots.len(), 4),
            with(shots.len() - 15, 5),
            shots.clone(),
            with(9, 6),
            other.clone(),
            other.clone(),
            vec![1],
        ];
        // Judged from within what is shared, from the last token alone, from the second on, from nothing on, and none.
        let starts = [shots.len() - 2, shots.len() + 1, 18, shots.len() - 1, 5, 1, 0, 1];
        let sequences: Vec<Continuation<'_>> =
            texts.iter().zip(starts).map(|(tokens, start)| Continuation { tokens, start }).collect();
        let expected = reference.scores(&sequences, 4096).unwrap();
        assert_eq!(expected.iter().map(Vec::len).filter(|count| *count == 0).count(), 2);
        for batch_tokens in [1, 60, 4096] {
            for (ours, reference) in kernels.scores(&sequences, batch_tokens).unwrap().iter().zip(&expected) {
                assert_eq!(ours.len(), reference.len());
                for (ours, reference) in ours.iter().zip(reference) {
                    assert!((ours.loss - reference.loss).abs() < ROUNDING, "{ours:?} {reference:?} for {shape:?}");
                    assert_eq!(ours.likeliest, reference.likeliest, "{shape:?}");
                }
            }
        }
        let strange = [u32::MAX, 1];
        let outside = kernels.scores(&[Continuation { tokens: &strange, start: 1 }], 10);
        assert!(matches!(outside, Err(ModelError::OutsideVocabulary { .. })));
    }
}
