//! The request to stop, shared between the signal handler and the training loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Counts the requests to stop. After the first one the step ends and a checkpoint is written.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    counts: Arc<Counts>,
    also: Option<Arc<AtomicBool>>,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU32,
    at_work: AtomicU32,
}

/// As long as it lives, an end of the program would lose work.
#[derive(Debug)]
pub struct AtWork(Arc<Counts>);

impl Stop {
    /// The same, which another reason stops too.
    pub fn or(&self, also: Arc<AtomicBool>) -> Self {
        Self { counts: self.counts.clone(), also: Some(also) }
    }

    /// Requests a stop; returns the number of requests before.
    pub fn request(&self) -> u32 {
        self.counts.requests.fetch_add(1, Ordering::SeqCst)
    }

    /// Whether a stop was requested.
    pub fn requested(&self) -> bool {
        let also = self.also.as_ref().is_some_and(|also| also.load(Ordering::SeqCst));
        also || self.counts.requests.load(Ordering::SeqCst) > 0
    }

    /// Says that from here on there is something to save at a stop. Before, as while data is read and tokenizers are
    /// trained, the program may end at once: all of it is made again.
    pub fn at_work(&self) -> AtWork {
        self.counts.at_work.fetch_add(1, Ordering::SeqCst);
        AtWork(self.counts.clone())
    }

    /// Whether an end of the program would lose nothing.
    pub fn nothing_to_save(&self) -> bool {
        self.counts.at_work.load(Ordering::SeqCst) == 0
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::SeqCst);
    }
}
