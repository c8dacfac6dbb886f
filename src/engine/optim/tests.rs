//! Schedules against worked figures.

use super::Schedule;

fn schedule(num_iterations: u64) -> Schedule {
    Schedule { num_iterations, warmup_steps: 40, warmdown_ratio: 0.65, final_lr_frac: 0.05, weight_decay: 0.28 }
}

#[test]
fn schedules_equal_worked_figures() {
    let at = |num_iterations, step| schedule(num_iterations).at(step);
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-15, "{a} against {b}");
    close(at(1000, 0).lr_multiplier, 1.0 / 40.0);
    close(at(1000, 39).lr_multiplier, 1.0);
    // The fall takes 650 steps, from step 350.
    close(at(1000, 350).lr_multiplier, 1.0);
    close(at(1000, 675).lr_multiplier, 0.5 + 0.5 * 0.05);
    close(at(1000, 1000).lr_multiplier, 0.05);
    close(at(1000, 0).muon_momentum, 0.85);
    close(at(1000, 200).muon_momentum, 0.91);
    close(at(2000, 400).muon_momentum, 0.97);
    // 700 + 650 of 1300 steps of the fall.
    close(at(2000, 1350).muon_momentum, 0.935);
    close(at(1000, 0).muon_weight_decay, 0.28);
    close(at(1000, 500).muon_weight_decay, 0.14);
    close(at(1000, 1000).muon_weight_decay, 0.0);
    // 0.65 · 10 = 6.5 rounds to the even 6, so that step 4 is the last of the plateau.
    let short = Schedule { warmup_steps: 0, ..schedule(10) };
    close(short.at(4).lr_multiplier, 1.0);
    close(short.at(5).lr_multiplier, 5.0 / 6.0 + 0.05 / 6.0);
}

#[test]
fn schedules_without_warmup_or_fall_stay_flat() {
    let flat = Schedule { warmup_steps: 0, warmdown_ratio: 0.0, ..schedule(500) };
    for step in [0, 250, 499, 500] {
        assert_eq!(flat.at(step).lr_multiplier, 1.0);
    }
    assert_eq!(flat.at(500).muon_momentum, 0.97);
}
