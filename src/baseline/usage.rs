//! What a process and its descendants use, seen from outside.
//!
//! On Linux by reading `/proc`, a handful of small files a sample, so that measuring doesn't disturb what is measured; the
//! kernel keeps each process's own peak, so sampling misses none. Elsewhere through the system's process list, coarser.

/// What was used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Peak resident memory of the process itself in bytes.
    pub peak_rss_bytes: Option<u64>,
    /// Largest sum of resident memory over the process and its descendants in bytes.
    pub peak_tree_rss_bytes: Option<u64>,
    /// Processor seconds, user and system, of the process and the descendants that it waited for.
    pub cpu_seconds: Option<f64>,
}

/// Watches one process.
#[derive(Debug)]
pub struct Meter {
    pid: u32,
    usage: Usage,
    family: Vec<u32>,
}

impl Meter {
    /// A meter for a child process.
    pub fn new(pid: u32) -> Self {
        Self { pid, usage: Usage::default(), family: Vec::new() }
    }

    /// The descendants at the last sample of memory, of which some may be in groups of their own; none where that can't be
    /// seen.
    pub fn family(&self) -> &[u32] {
        &self.family
    }

    /// What was seen so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }
}

fn raise(peak: &mut Option<u64>, value: u64) {
    *peak = Some(peak.unwrap_or_default().max(value));
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{Meter, raise};
    use std::fs;

    /// Ticks a second of the times in `/proc/<pid>/stat`: 100 on every Linux, whatever the kernel's own clock.
    const TICKS: f64 = 100.0;
    /// Descendants beyond this many are not followed.
    const MOST_PROCESSES: usize = 4096;

    impl Meter {
        /// Takes the processor time. Returns whether the process has ended and waits to be reaped, its times complete;
        /// none where that can't be seen.
        pub fn sample_time(&mut self) -> Option<bool> {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
            // The name in parentheses may hold anything; the fields are counted from its end.
            let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
            // utime, stime, cutime, cstime: fields 14 to 17 of the line, the state being the third.
            let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().unwrap_or_default()).sum::<u64>();
            self.usage.cpu_seconds = Some(ticks as f64 / TICKS);
            Some(matches!(fields.first(), Some(&"Z" | &"X")))
        }

        /// Takes the memory of the process and its descendants.
        pub fn sample_memory(&mut self) {
            let mut pids = vec![self.pid];
            let mut next = 0;
            let mut sum = 0;
            while let Some(&pid) = pids.get(next) {
                next += 1;
                let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
                sum += kib(&status, "VmRSS:").unwrap_or_default() * 1024;
                if pid == self.pid
                    && let Some(peak) = kib(&status, "VmHWM:")
                {
                    raise(&mut self.usage.peak_rss_bytes, peak * 1024);
                }
                if pids.len() < MOST_PROCESSES {
                    pids.extend(children(pid));
                }
            }
            self.family = pids.into_iter().skip(1).collect();
            if sum > 0 {
                raise(&mut self.usage.peak_tree_rss_bytes, sum);
            }
        }
    }

    fn kib(status: &str, field: &str) -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Children of all threads of a process.
    fn children(pid: u32) -> Vec<u32> {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
        lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::{Meter, raise};
    use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

    impl Meter {
        /// The end of a process can't be seen here without reaping it.
        pub fn sample_time(&mut self) -> Option<bool> {
            None
        }

        /// Takes memory and processor time of the process and its descendants.
        pub fn sample_memory(&mut self) {
            let Ok(mut system) = System::new() else { return };
            let what = ProcessRefreshKind::nothing().with_memory().with_cpu();
            system.refresh_processes_specifics(ProcessesToUpdate::All, false, what);
            let root = Pid::from_u32(self.pid);
            let Some(process) = system.process(root) else { return };
            raise(&mut self.usage.peak_rss_bytes, process.memory());
            let descends = |mut pid: Option<Pid>| {
                for _ in 0..64 {
                    match pid {
                        Some(found) if found == root => return true,
                        Some(found) => pid = system.process(found).and_then(|process| process.parent()),
                        None => return false,
                    }
                }
                false
            };
            let family = system.processes().iter().filter(|(pid, _)| descends(Some(**pid)));
            let (memory, cpu) = family.fold((0, 0), |(memory, cpu), (_, process)| {
                (memory + process.memory(), cpu + process.accumulated_cpu_time())
            });
            raise(&mut self.usage.peak_tree_rss_bytes, memory);
            self.usage.cpu_seconds = Some(self.usage.cpu_seconds.unwrap_or_default().max(cpu as f64 / 1000.0));
        }
    }
}
