//! Wall clock of a run over all its sessions.

use std::time::Instant;

/// Wall clock of one session, on top of what earlier sessions took.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    earlier_seconds: f64,
}

impl Clock {
    /// Starts counting.
    pub fn start(earlier_seconds: f64) -> Self {
        Self { started: Instant::now(), earlier_seconds }
    }

    /// Seconds of this session and all before it.
    pub fn elapsed_seconds(&self) -> f64 {
        self.earlier_seconds + self.started.elapsed().as_secs_f64()
    }
}
