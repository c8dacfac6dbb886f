//! Memory of a training step: after the second step neither what is held nor what is taken for a while grows. And of
//! decoding: once a row has reached its window, a token takes none.
//!
//! In a binary of its own, since it counts with its own global allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Device;
use nanochat::data::{Corpus, Loader, Split, train_tokenizer};
use nanochat::engines::{self, Setup};
use nanochat::generate::{Prompt, Request, Sampling, Token, continuations};
use nanochat::model::Gpt;
use nanochat::optim::{LearningRates, StepSettings};
use nanochat::plan::{DataPlan, ModelShape, Precision};

/// From here on an allocation counts as large: below every buffer of activations or parameters that the test's model has,
/// above what bookkeeping takes.
const LARGE: usize = 64 << 10;

struct Counting;

static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);
static LARGE_ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The tests count for the whole process: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn count(layout: Layout) {
    LIVE_BYTES.fetch_add(layout.size() as i64, Ordering::Relaxed);
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    if layout.size() >= LARGE {
        LARGE_ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE_BYTES.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        count(Layout::from_size_align(size, layout.align()).unwrap_or(layout));
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// 8 rows of 128 tokens, 64 wide: a stream takes 256 KiB, the smallest matrix 16 KiB, an embedding 80 KiB and more.
const ROWS: usize = 8;

fn shape(vocab_size: usize) -> ModelShape {
    ModelShape {
        sequence_len: 128,
        vocab_size,
        n_layer: 4,
        n_head: 2,
        n_kv_head: 1,
        n_embd: 64,
        window_pattern: "SL".to_string(),
    }
}

/// What one step left.
#[derive(Debug, Clone, Copy)]
struct Step {
    live_bytes: i64,
    large_allocations: u64,
}

/// Trains some steps of two micro-steps, each on another batch.
fn train(precision: Precision, steps: usize) -> Vec<Step> {
    let corpus = Corpus::open(&DataPlan::Synthetic { seed: 1, bytes: 200_000 }, std::path::Path::new("")).unwrap();
    let tokenizer = Arc::new(train_tokenizer(&corpus, 320, 10_000, u64::MAX).unwrap());
    let shape = shape(tokenizer.vocab_size());
    let mut loader = Loader::new(Arc::new(corpus), tokenizer, Split::Train, ROWS, shape.sequence_len).unwrap();
    // All batches are there before anything is counted: the data's memory goes with the documents' lengths.
    let batches: Vec<_> = (0..2 * steps).map(|_| loader.next_batch().unwrap()).collect();
    drop(loader);
    let rates = LearningRates { embedding: 0.2, unembedding: 0.004, matrix: 0.02, scalar: 0.5 };
    let settings = StepSettings { lr_multiplier: 1.0, muon_momentum: 0.95, muon_weight_decay: 0.1 };
    let setup = Setup { batch: batches[0].size(), micro_steps: 2, rates, precision };
    let mut engine = engines::open(Gpt::initialized(&shape, 5, &Device::Cpu).unwrap(), &setup).unwrap();
    let mut done = Vec::with_capacity(steps);
    for pair in batches.chunks(2) {
        let before = LARGE_ALLOCATIONS.load(Ordering::Relaxed);
        engine.zero_gradients().unwrap();
        for (number, batch) in pair.iter().enumerate() {
            engine.micro_step(batch, number, 0.5, &mut |_| {}).unwrap();
        }
        engine.optimizer_step(&settings).unwrap();
        let large_allocations = LARGE_ALLOCATIONS.load(Ordering::Relaxed) - before;
        done.push(Step { live_bytes: LIVE_BYTES.load(Ordering::Relaxed), large_allocations });
    }
    done
}

/// Names of this process's threads.
#[cfg(target_os = "linux")]
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()).collect()
}

#[test]
fn after_the_second_step_no_allocation_grows() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for precision in [Precision::F32, Precision::Bf16] {
        let steps = train(precision, 12);
        assert!(steps[0].large_allocations > steps[1].large_allocations, "buffers are made once: {steps:?}");
        // Products in f32 and f64 take their packed operands' room anew, and give it back. A thread that takes part in one for the
        // first time makes its own: once, where anything that grew would do so in every one of the ten steps.
        let more = |step: &Step| step.large_allocations.saturating_sub(steps[1].large_allocations);
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
        let beyond: u64 = steps[2..].iter().map(more).sum();
        assert!(beyond <= threads.min(9), "{precision:?}: {beyond} more than in the second step: {steps:?}");
        for (number, step) in steps.iter().enumerate().skip(2) {
            // The thread pool's queues come and go by a few blocks; a single buffer of the model would be far more.
            let growth = step.live_bytes - steps[1].live_bytes;
            assert!(growth.unsigned_abs() < LARGE as u64 / 4, "step {number} in {precision:?}: {growth} of {steps:?}");
        }
    }
    // Candle's own workers wait for work by spinning: beside the thread pool they would take its cores.
    #[cfg(target_os = "linux")]
    assert!(threads().iter().all(|name| !name.starts_with("candle")), "{:?}", threads());
}

/// Grouped queries, windows shorter than the context; as many rows as a batch may have, and one alone. Tokens that are drawn
/// among all, among a few, and the likeliest.
#[test]
fn decoding_allocates_nothing_once_a_row_has_reached_its_window() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut model = Gpt::initialized(&shape(300), 5, &Device::Cpu).unwrap();
    for (samples, temperature, top_k) in [(1, 0.0, None), (3, 1.0, None), (8, 0.8, Some(5))] {
        // Windows of 128 tokens and pages of 256: from the second page on each takes the first one's place.
        let (settled, last) = (1100, 1900);
        let sampling = Sampling { max_tokens: 2048, temperature, top_k, ..Sampling::default() };
        let (mut before, mut after, mut count) = (0, 0, 0);
        let mut observe = |token: Token| {
            if token.sample == 0 {
                count += 1;
                match count {
                    _ if count == settled => before = ALLOCATIONS.load(Ordering::Relaxed),
                    _ if count == last => after = ALLOCATIONS.load(Ordering::Relaxed),
                    _ => {}
                }
            }
            if count > last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let prompts = &[Prompt { ids: &[1, 2, 3], samples }];
        let request = Request { prompts, sampling: &sampling, stop_ids: &[], calculator: None };
        continuations(&model, request, &mut observe).unwrap();
        // What the test harness itself does on its own thread may be a handful.
        assert!(after - before < 8, "{} allocations in {} tokens, {samples} rows", after - before, last - settled);
        model.round_weights().unwrap();
    }
}
