//! Memory use of this process and of its GPU.

use candle_core::Device;

/// Resident memory of this process in bytes; 0 if the system doesn't report it.
pub fn resident_bytes() -> u64 {
    status_kib("VmRSS:").map_or_else(resident_elsewhere, |kib| kib * 1024)
}

/// Highest resident memory of this process in bytes since it started, or since [`reset_peak`].
pub fn peak_resident_bytes() -> u64 {
    status_kib("VmHWM:").map_or_else(resident_elsewhere, |kib| kib * 1024)
}

/// Memory in use on a GPU in bytes, by all processes; none for a CPU, or if the driver doesn't report it.
pub fn device_bytes_in_use(device: &Device) -> Option<u64> {
    let memory = super::device_memory(device)?;
    Some(memory.total_bytes.saturating_sub(memory.free_bytes))
}

/// Starts a new peak measurement, so that each of several runs in one process gets its own. Returns whether the system
/// could do it (Linux); elsewhere the peak is the process's.
pub fn reset_peak() -> bool {
    cfg!(target_os = "linux") && std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// A field of `/proc/self/status`, in KiB.
fn status_kib(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Resident memory through the system's process list, for systems without `/proc`.
fn resident_elsewhere() -> u64 {
    use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};
    let Ok(pid) = sysinfo::get_current_pid() else { return 0 };
    let Ok(mut system) = System::new() else { return 0 };
    let what = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, what);
    system.process(pid).map_or(0, |process| process.memory())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_at_least_what_is_resident_and_sees_a_large_buffer() {
        let before = resident_bytes();
        let buffer = vec![1u8; 64 << 20];
        assert!(buffer.iter().step_by(4096).map(|&byte| u64::from(byte)).sum::<u64>() > 0);
        assert!(resident_bytes() >= before.saturating_sub(8 << 20) + (48 << 20));
        assert!(peak_resident_bytes() + (1 << 20) >= resident_bytes());
    }
}
