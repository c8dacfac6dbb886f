//! The wish to stop, shared between signal handlers and the training loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts the requests to stop. The first lets the step end and a checkpoint be written; whoever installs signal handlers
/// may treat further ones as harder.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicU32>);

impl Stop {
    /// Asks to stop; returns how often that was asked before.
    pub fn request(&self) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    /// Whether somebody asked.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}
