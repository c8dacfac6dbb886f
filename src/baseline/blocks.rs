//! Alternating blocks: one run of each arm, back to back on one machine, the order changing from block to block, so that
//! what drifts over a session (heat, other work) weighs on both arms alike.

use nanochat_artifacts::BaselineBlock;

/// One side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// karpathy/nanochat.
    Baseline,
    /// This engine.
    Candidate,
}

/// The order of a block, counted from 1: the baseline goes first in the odd ones.
pub fn order(number: u64) -> [Arm; 2] {
    if number % 2 == 1 { [Arm::Baseline, Arm::Candidate] } else { [Arm::Candidate, Arm::Baseline] }
}

/// The block as it is recorded with the baseline's run.
pub fn block(number: u64, candidate_run: Option<&str>) -> BaselineBlock {
    BaselineBlock {
        number,
        baseline_first: order(number)[0] == Arm::Baseline,
        candidate_run: candidate_run.map(str::to_string),
    }
}

/// Carries out `count` blocks: `run` is called with an arm and the number of its block, from 1. Returns how many blocks
/// are whole; the first error ends the session, and so does a `run` that gives `false` (somebody asked to stop).
///
/// # Errors
/// What `run` gives.
pub fn alternate<E>(count: u64, mut run: impl FnMut(Arm, u64) -> Result<bool, E>) -> Result<u64, E> {
    for number in 1..=count {
        for arm in order(number) {
            if !run(arm, number)? {
                return Ok(number - 1);
            }
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_take_turns_in_going_first() {
        let mut calls = Vec::new();
        let whole = alternate(3, |arm, number| {
            calls.push((number, arm));
            Ok::<_, ()>(true)
        });
        use Arm::{Baseline as B, Candidate as C};
        assert_eq!(whole, Ok(3));
        assert_eq!(calls, [(1, B), (1, C), (2, C), (2, B), (3, B), (3, C)]);
    }

    #[test]
    fn a_stop_or_an_error_ends_the_sitting() {
        for stop_at in 0..4 {
            let mut done = 0;
            let mut step = |give: Result<bool, u64>| {
                done += 1;
                if done - 1 == stop_at { give } else { Ok(true) }
            };
            assert_eq!(alternate(2, |_, _| step(Ok(false))), Ok(stop_at / 2));
            assert_eq!(done, stop_at + 1);
        }
        assert_eq!(alternate(2, |_, number| if number == 2 { Err("broken") } else { Ok(true) }), Err("broken"));
    }
}
