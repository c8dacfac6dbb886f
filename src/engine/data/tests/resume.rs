//! A loader that was stopped anywhere goes on exactly, and refuses what isn't its own.

use std::path::Path;
use std::sync::Arc;

use crate::data::{Batch, Corpus, DataError, Loader, LoaderState, Split, train_tokenizer};
use crate::tokenizer::Tokenizer;
use nanochat_plan::DataPlan;

fn corpus() -> Arc<Corpus> {
    Arc::new(Corpus::open(&DataPlan::Synthetic { seed: 11, bytes: 400_000 }, Path::new("")).unwrap())
}

fn loader(corpus: &Arc<Corpus>, tokenizer: &Arc<Tokenizer>) -> Loader {
    Loader::new(corpus.clone(), tokenizer.clone(), Split::Train, 8, 256).unwrap()
}

/// Known failure 5 of the baseline: a resume repeats or skips data.
#[test]
fn known_failure_5_every_batch_can_be_the_last_before_a_stop() {
    let corpus = corpus();
    let tokenizer = Arc::new(train_tokenizer(&corpus, 400, 10_000, 1_000_000).unwrap());
    let mut whole = loader(&corpus, &tokenizer);
    let batches: Vec<Batch> = (0..200).map(|_| whole.next_batch().unwrap()).collect();
    assert!(whole.epoch() > 2, "the test crosses epochs");
    let mut stopped = loader(&corpus, &tokenizer);
    for expected in &batches {
        let json = serde_json::to_string(&stopped.state()).unwrap();
        stopped = loader(&corpus, &tokenizer);
        stopped.restore(serde_json::from_str(&json).unwrap()).unwrap();
        assert!(stopped.next_batch().unwrap() == *expected);
    }
    assert_eq!(stopped.state(), whole.state());
}

#[test]
fn rows_begin_with_bos_and_targets_are_the_next_inputs() {
    let corpus = corpus();
    let tokenizer = Arc::new(train_tokenizer(&corpus, 300, 10_000, 1_000_000).unwrap());
    let batch = loader(&corpus, &tokenizer).next_batch().unwrap();
    assert_eq!((batch.inputs.len(), batch.targets.len()), (8 * 256, 8 * 256));
    for (inputs, targets) in batch.inputs.chunks(256).zip(batch.targets.chunks(256)) {
        assert_eq!(inputs[0], tokenizer.bos_id() as i32);
        assert!(inputs[1..].iter().zip(targets).all(|(&input, &target)| input == target));
    }
}

#[test]
fn foreign_states_are_refused() {
    let corpus = corpus();
    let tokenizer = Arc::new(train_tokenizer(&corpus, 300, 10_000, 1_000_000).unwrap());
    let mut loader = loader(&corpus, &tokenizer);
    loader.next_batch().unwrap();
    let good = loader.state();
    let spoils: [fn(&mut LoaderState); 8] = [
        |state| state.split = Split::Validation,
        |state| state.shard = 99,
        |state| state.group = 99,
        |state| state.document = 129,
        |state| state.epoch = 0,
        |state| state.tokens[3] = 300,
        |state| state.tokens[0] = 1,
        // Of one that is shorter than a row: of a longer one no more is kept anyway.
        |state| *state.lengths.iter_mut().find(|length| **length < 257).unwrap() += 1,
    ];
    for (number, spoil) in spoils.iter().enumerate() {
        let mut bad = good.clone();
        spoil(&mut bad);
        assert!(matches!(loader.restore(bad), Err(DataError::State(_))), "{number}");
        assert_eq!(loader.state(), good, "a refused state changes nothing");
    }
    assert!(Loader::new(corpus, tokenizer, Split::Train, 0, 4).is_err());
}

/// A document's length decides when it goes; what is kept of it is what a row can take.
#[test]
fn long_documents_take_no_more_memory_than_rows() {
    let folder = tempfile::tempdir().unwrap();
    let long = "a long line of text ".repeat(4_000);
    let lines: String = (0..4).map(|number| format!("{{\"text\": \"{number} {long}\"}}\n")).collect();
    std::fs::write(folder.path().join("a.jsonl"), &lines).unwrap();
    std::fs::write(folder.path().join("b.jsonl"), &lines).unwrap();
    let plan = DataPlan::Jsonl { path: folder.path().display().to_string(), field: "text".into() };
    let corpus = Arc::new(Corpus::open(&plan, Path::new("")).unwrap());
    let tokenizer = Arc::new(train_tokenizer(&corpus, 270, 10_000, 1_000_000).unwrap());
    let mut loader = Loader::new(corpus.clone(), tokenizer.clone(), Split::Train, 2, 16).unwrap();
    let first = loader.next_batch().unwrap();
    let state = loader.state();
    assert!(state.lengths.iter().all(|length| *length > 10_000), "exact lengths");
    assert_eq!(state.tokens.len(), 17 * state.lengths.len(), "and no more tokens than a row and its target take");
    // What is kept is enough to go on, and what an earlier version kept whole still is.
    let mut resumed = Loader::new(corpus.clone(), tokenizer.clone(), Split::Train, 2, 16).unwrap();
    resumed.restore(state.clone()).unwrap();
    let next = loader.next_batch().unwrap();
    assert_eq!(resumed.next_batch().unwrap(), next);
    assert_ne!(first, next);
    let one = tokenizer.encode_document(&corpus.documents(Split::Train).next().unwrap().unwrap());
    let whole =
        LoaderState { lengths: vec![one.len() as u32; 3], tokens: [one.as_slice(), &one, &one].concat(), ..state };
    resumed.restore(whole).unwrap();
    assert_eq!(resumed.state().tokens.len(), 17 * 3);
}

/// A few long documents fill the buffer a thousand times: each is read and encoded once for both, and a wait can be given up.
#[test]
fn long_documents_are_encoded_once_and_a_wait_for_them_can_be_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.jsonl");
    let line = |number: usize| format!("{{\"text\": \"{number} {}\"}}\n", "words without an end ".repeat(40_000));
    std::fs::write(&path, [0, 1, 2].map(line).concat()).unwrap();
    let plan = DataPlan::Jsonl { path: path.display().to_string(), field: "text".into() };
    let corpus = Arc::new(Corpus::open(&plan, Path::new("")).unwrap());
    let tokenizer =
        Arc::new(crate::tokenizer::Tokenizer::from_ranks((0..=255).map(|byte| vec![byte]).collect()).unwrap());
    let given_up = loader(&corpus, &tokenizer).next_batch_unless(&|| true);
    assert!(matches!(given_up, Err(DataError::Stopped)));
    let mut first = loader(&corpus, &tokenizer);
    let batch = first.next_batch().unwrap();
    assert!(first.epoch() > 300, "the buffer holds each document many times");
    // The file is gone: what comes next was remembered.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(loader(&corpus, &tokenizer).next_batch().unwrap(), batch);
}
