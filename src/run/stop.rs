//! The request to stop, shared between the signal handler and the training loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts the requests to stop. After the first one the step ends and a checkpoint is written.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicU32>);

impl Stop {
    /// Requests a stop; returns the number of requests before.
    pub fn request(&self) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    /// Whether a stop was requested.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}
