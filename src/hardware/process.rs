//! This process's own age.

use std::fs;

/// Ticks a second of the times in Linux's `/proc`, whatever the kernel's own clock rate.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds since this process started, to a hundredth; none if the system doesn't report it.
pub fn process_age_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses, which may hold anything; the 22nd is the start, in ticks
    // since the machine's own.
    let started: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let uptime: f64 = fs::read_to_string("/proc/uptime").ok()?.split_whitespace().next()?.parse().ok()?;
    Some((uptime - started / TICKS_PER_SECOND).max(0.0))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_ages_with_the_clock() {
        let before = process_age_seconds().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let after = process_age_seconds().unwrap();
        // Two readings, each to a hundredth of a second.
        assert!(after - before >= 0.03 && before < 86_400.0, "{before} to {after}");
    }
}
