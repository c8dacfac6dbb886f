//! Memory that tasks use while they run, one piece a thread, kept for the next time.

use std::sync::{Mutex, PoisonError};

use super::Element;

/// One buffer a thread of the current pool.
#[derive(Debug, Default)]
pub struct Scratch<T> {
    buffers: Vec<Mutex<Vec<T>>>,
}

impl<T: Element> Scratch<T> {
    /// Makes sure that every thread of the current pool has a buffer of at least `length` elements.
    pub fn reserve(&mut self, length: usize) {
        let threads = rayon::current_num_threads().max(self.buffers.len());
        self.buffers.resize_with(threads, Mutex::default);
        for buffer in &mut self.buffers {
            let buffer = buffer.get_mut().unwrap_or_else(PoisonError::into_inner);
            if buffer.len() < length {
                buffer.resize(length, T::ZERO);
            }
        }
    }

    /// Calls `work` with the calling thread's buffer, which holds anything.
    pub fn with<R>(&self, work: impl FnOnce(&mut [T]) -> R) -> R {
        let thread = rayon::current_thread_index().unwrap_or(0) % self.buffers.len().max(1);
        // A poisoned lock only says that another task panicked: what the buffer holds never matters.
        let mut buffer = self.buffers[thread].lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut buffer)
    }
}
