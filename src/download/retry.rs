//! How long to wait for a server, and how often to ask again.

use std::time::Duration;

/// Longest wait that a server may ask for; a longer one is cut to this.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// How patient a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Attempts in a row that bring nothing new, before giving up.
    pub attempts: u32,
    /// Wait after the first such attempt; doubled after each further one.
    pub first_wait: Duration,
    /// Silence of a server that counts as an interruption.
    pub silence: Duration,
    /// Files at a time.
    pub parallel: usize,
}

impl Default for Patience {
    fn default() -> Self {
        let (first_wait, silence) = (Duration::from_secs(1), Duration::from_secs(60));
        Self { attempts: 6, first_wait, silence, parallel: 4 }
    }
}

impl Patience {
    /// Wait after so many attempts (at least one) without progress, unless the server says how long.
    pub(crate) fn wait(&self, attempts: u32, asked: Option<Duration>) -> Duration {
        let doubled = self.first_wait.saturating_mul(1 << attempts.saturating_sub(1).min(6));
        asked.unwrap_or(doubled).min(LONGEST_WAIT)
    }
}

/// The time that a `Retry-After` header asks for: seconds; a date is not taken into account.
pub(crate) fn retry_after(header: &str) -> Option<Duration> {
    header.trim().parse().ok().map(Duration::from_secs)
}

/// Whether a status is likely to pass.
pub(crate) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_servers_may_ask_for_another() {
        let patience = Patience::default();
        let seconds = |attempts, asked: Option<u64>| patience.wait(attempts, asked.map(Duration::from_secs)).as_secs();
        assert_eq!([1, 2, 3, 7, 99].map(|attempts| seconds(attempts, None)), [1, 2, 4, 64, 64]);
        assert_eq!((seconds(1, Some(7)), seconds(3, Some(99_999))), (7, 600));
        assert_eq!(retry_after(" 3 "), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("Fri, 27 Nov 2026 12:00:00 GMT"), None);
    }
}
