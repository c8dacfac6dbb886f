//! What this machine does besides this process, and how fast it is right now.

use std::fs;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use nanochat_artifacts::ForeignLoad;

/// Processor time since the machine's start, in ticks.
#[derive(Debug, Clone, Copy)]
pub struct ProcessorTime {
    all: f64,
    busy: f64,
    stolen: f64,
    own: f64,
}

/// Reads it now; none if the system doesn't report it.
pub fn processor_time() -> Option<ProcessorTime> {
    let (stat, own) = (fs::read_to_string("/proc/stat").ok()?, fs::read_to_string("/proc/self/stat").ok()?);
    parse(&stat, &own)
}

fn parse(stat: &str, own: &str) -> Option<ProcessorTime> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // user, nice, system, idle, waiting, interrupts, soft interrupts, stolen; guests' time is in user's.
    let fields = line.split_whitespace().take(8).map(|field| field.parse().ok()).collect::<Option<Vec<f64>>>()?;
    let [user, nice, system, _, _, interrupts, soft, stolen] = fields.as_slice().try_into().ok()?;
    let busy = user + nice + system + interrupts + soft;
    // The name of a process may hold anything; user and system time are the 14th and 15th field.
    let mut own = own.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (in_user, in_system): (f64, f64) = (own.next()?.parse().ok()?, own.next()?.parse().ok()?);
    Some(ProcessorTime { all: fields.iter().sum(), busy, stolen, own: in_user + in_system })
}

impl ProcessorTime {
    /// What went elsewhere since then, as shares of all processor time; none where no time has passed.
    pub fn load_until(&self, later: &Self) -> Option<ForeignLoad> {
        let all = later.all - self.all;
        let share = |ticks: f64| (ticks / all * 1e4).round().max(0.0) / 1e4;
        let others = (later.busy - self.busy) - (later.own - self.own);
        (all > 0.0).then(|| ForeignLoad { stolen: share(later.stolen - self.stolen), others: share(others) })
    }
}

/// Thousands of rounds of a fixed piece of work, over all threads of the pool, in one second.
pub fn calibration() -> f64 {
    let begun = Instant::now();
    let rounds: u64 = rayon::broadcast(|_| {
        let mut values = [1.0f32; 4096];
        let mut rounds = 0;
        while begun.elapsed() < Duration::from_secs(1) {
            for value in &mut values {
                *value = value.mul_add(0.999, 0.001);
            }
            std::hint::black_box(&mut values);
            rounds += 1;
        }
        rounds
    })
    .into_iter()
    .sum();
    rounds as f64 / begun.elapsed().as_secs_f64() / 1000.0
}

/// Digest of the machine's start, 16 hex digits; none if the system doesn't name it.
pub fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digest = Sha256::digest(id.trim().as_bytes());
    Some(digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_and_the_host_are_told_from_this_process() {
        let at = |cpu: &str, own: &str| parse(cpu, own).unwrap();
        let before = at("cpu  100 0 20 1000 5 0 0 10 0 0\n", "7 (a) b) R 1 2 3 4 5 6 7 8 9 10 50 10 0 0");
        let after = at("cpu  160 0 40 1100 5 0 0 30 0 0\n", "7 (a) b) R 1 2 3 4 5 6 7 8 9 10 90 20 0 0");
        // 200 ticks in all: 20 stolen, 80 busy, 50 of them by this process.
        assert_eq!(before.load_until(&after), Some(ForeignLoad { stolen: 0.1, others: 0.15 }));
        assert_eq!(before.load_until(&before), None);
        assert!(parse("cpu 1 2\n", "").is_none());
    }
}
