//! The request to stop, shared between the signal handler and the training loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Counts the requests to stop. After the first one the step ends and a checkpoint is written.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    requests: Arc<AtomicU32>,
    also: Option<Arc<AtomicBool>>,
}

impl Stop {
    /// The same, which another reason stops too.
    pub fn or(&self, also: Arc<AtomicBool>) -> Self {
        Self { requests: self.requests.clone(), also: Some(also) }
    }

    /// Requests a stop; returns the number of requests before.
    pub fn request(&self) -> u32 {
        self.requests.fetch_add(1, Ordering::SeqCst)
    }

    /// Whether a stop was requested.
    pub fn requested(&self) -> bool {
        self.requests.load(Ordering::SeqCst) > 0 || self.also.as_ref().is_some_and(|also| also.load(Ordering::SeqCst))
    }
}
