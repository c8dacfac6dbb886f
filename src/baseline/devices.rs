//! Memory and utilisation of every device while a run goes on, where it has several.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nanochat_artifacts::DeviceUse;
use nanochat_engine::device::{GpuUse, gpu_use};

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(2);
/// Between two looks at whether the run has ended.
const TICK: Duration = Duration::from_millis(50);

/// Samples in the background.
pub(super) struct Sampler {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Vec<GpuUse>>,
}

impl Sampler {
    /// Begins where there are several devices.
    pub fn of(devices: u64) -> Option<Self> {
        if devices < 2 {
            return None;
        }
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        let thread = std::thread::spawn(move || {
            let (mut samples, mut last) = (Vec::new(), None::<Instant>);
            while !seen.load(Ordering::Relaxed) {
                if last.is_none_or(|last| last.elapsed() >= INTERVAL) {
                    samples.extend(gpu_use());
                    last = Some(Instant::now());
                }
                std::thread::sleep(TICK);
            }
            samples
        });
        Some(Self { ended, thread })
    }

    /// What was seen of the first `devices` ones.
    pub fn end(self, devices: u64) -> Vec<DeviceUse> {
        self.ended.store(true, Ordering::Relaxed);
        summed_up(&self.thread.join().unwrap_or_default(), devices)
    }
}

fn summed_up(samples: &[GpuUse], devices: u64) -> Vec<DeviceUse> {
    let of_device = |device: u64| {
        let own: Vec<&GpuUse> = samples.iter().filter(|sample| sample.index == device).collect();
        // While the script imports and compiles, nothing computes.
        let begun: Vec<f64> = own.iter().map(|sample| sample.utilisation).skip_while(|share| *share <= 0.0).collect();
        Some(DeviceUse {
            device,
            peak_memory_bytes: own.iter().map(|sample| sample.memory_bytes).max()?,
            mean_utilisation: begun.iter().sum::<f64>() / begun.len().max(1) as f64,
        })
    };
    (0..devices).filter_map(of_device).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_has_its_peak_and_its_mean_since_it_began() {
        let sample = |index, memory_bytes, utilisation| GpuUse { index, memory_bytes, utilisation };
        let samples =
            [sample(0, 1, 0.0), sample(1, 1, 0.0), sample(0, 9, 80.0), sample(1, 8, 0.0), sample(0, 5, 100.0)];
        let found = summed_up(&samples, 3);
        let figures: Vec<_> =
            found.iter().map(|one| (one.device, one.peak_memory_bytes, one.mean_utilisation)).collect();
        assert_eq!(figures, [(0, 9, 90.0), (1, 8, 0.0)]);
    }
}
