//! Attributes time to phases, from events that say when each begins.

use std::time::Instant;

use nanochat_artifacts::BenchPhases;
use nanochat_engine::model::Part;
use nanochat_engine::train::Phase;

/// Seconds by phase of one step.
pub type Seconds = [f64; 5];

/// Place of a phase in [`Seconds`].
fn place(phase: Phase) -> usize {
    match phase {
        Phase::Data => 0,
        Phase::Model(Part::Forward) => 1,
        Phase::Model(Part::Head) => 2,
        Phase::Model(Part::Backward) => 3,
        Phase::Optimizer => 4,
    }
}

/// A stopwatch that always runs for one phase, once the first has begun.
#[derive(Default)]
pub struct PhaseClock {
    running: Option<(Phase, Instant)>,
    seconds: Seconds,
}

impl PhaseClock {
    /// A phase begins now.
    pub fn begin(&mut self, phase: Phase) {
        self.end();
        self.running = Some((phase, Instant::now()));
    }

    /// The step ends now: its seconds by phase.
    pub fn take(&mut self) -> Seconds {
        self.end();
        std::mem::take(&mut self.seconds)
    }

    fn end(&mut self) {
        if let Some((phase, since)) = self.running.take() {
            self.seconds[place(phase)] += since.elapsed().as_secs_f64();
        }
    }
}

/// Means over steps.
pub fn mean(steps: &[Seconds], evaluation: Option<f64>) -> BenchPhases {
    let count = steps.len().max(1) as f64;
    let [data, forward, head, backward, optimizer] =
        std::array::from_fn(|place| steps.iter().map(|seconds| seconds[place]).sum::<f64>() / count);
    BenchPhases { data, forward, head, backward, optimizer, evaluation }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_to_the_phase_that_began_last() {
        let mut clock = PhaseClock::default();
        let started = Instant::now();
        clock.begin(Phase::Data);
        std::thread::sleep(std::time::Duration::from_millis(20));
        clock.begin(Phase::Optimizer);
        let first = clock.take();
        let elapsed = started.elapsed().as_secs_f64();
        assert!(first[0] >= 0.02 && first[4] < elapsed - 0.01, "{first:?}");
        assert!(first.iter().sum::<f64>() <= elapsed);
        assert_eq!(clock.take(), Seconds::default(), "nothing runs between steps");
        clock.begin(Phase::Model(Part::Head));
        assert_eq!(clock.take()[..2], [0.0, 0.0]);
    }

    #[test]
    fn means_are_over_steps() {
        let phases = mean(&[[1.0, 2.0, 3.0, 4.0, 5.0], [3.0, 4.0, 5.0, 6.0, 7.0]], Some(0.5));
        let expected =
            BenchPhases { data: 2.0, forward: 3.0, head: 4.0, backward: 5.0, optimizer: 6.0, evaluation: Some(0.5) };
        assert_eq!(phases, expected);
    }
}
