//! How learning rate, Muon's momentum and its weight decay change over a run (`scripts/base_train.py`).

use std::f64::consts::PI;

use nanochat_plan::RunPlan;
use nanochat_step::StepSettings;

/// Muon's momentum rises over this many steps.
const MOMENTUM_WARMUP_STEPS: u64 = 400;
/// Muon's momentum at the first step, after its rise, and at the last step.
const MOMENTUM: [f64; 3] = [0.85, 0.97, 0.90];

/// Lengths and end points of the schedules of one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Optimizer steps of the run.
    pub num_iterations: u64,
    /// Steps of linear warm-up of the learning rates.
    pub warmup_steps: u64,
    /// Share of the iterations in which learning rates and momentum fall linearly.
    pub warmdown_ratio: f64,
    /// Learning rate that the fall leads to, as a share of the peak.
    pub final_lr_frac: f64,
    /// Muon's weight decay at the first step (after scaling); it falls to 0 along a cosine.
    pub weight_decay: f64,
}

impl Schedule {
    /// That of a plan.
    pub fn of(plan: &RunPlan) -> Self {
        Self {
            num_iterations: plan.num_iterations,
            warmup_steps: plan.optimizer.warmup_steps,
            warmdown_ratio: plan.optimizer.warmdown_ratio,
            final_lr_frac: plan.optimizer.final_lr_frac,
            weight_decay: plan.weight_decay,
        }
    }

    /// Settings of the step numbered `step`, from 0.
    pub fn at(&self, step: u64) -> StepSettings {
        StepSettings {
            lr_multiplier: self.lr_multiplier(step),
            muon_momentum: self.muon_momentum(step),
            muon_weight_decay: self.muon_weight_decay(step),
        }
    }

    /// Steps of the fall, rounded half to even.
    fn warmdown_steps(&self) -> f64 {
        (self.warmdown_ratio * self.num_iterations as f64).round_ties_even()
    }

    /// Step at which the fall begins; below 0 when the fall is longer than the run.
    fn warmdown_start(&self) -> f64 {
        self.num_iterations as f64 - self.warmdown_steps()
    }

    fn lr_multiplier(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return (step + 1) as f64 / self.warmup_steps as f64;
        }
        if step as f64 <= self.warmdown_start() || self.warmdown_steps() == 0.0 {
            return 1.0;
        }
        let left = (self.num_iterations as f64 - step as f64) / self.warmdown_steps();
        left + (1.0 - left) * self.final_lr_frac
    }

    fn muon_momentum(&self, step: u64) -> f64 {
        let [first, peak, last] = MOMENTUM;
        if step < MOMENTUM_WARMUP_STEPS {
            let risen = step as f64 / MOMENTUM_WARMUP_STEPS as f64;
            return (1.0 - risen) * first + risen * peak;
        }
        if (step as f64) < self.warmdown_start() || self.warmdown_steps() == 0.0 {
            return peak;
        }
        let fallen = (step as f64 - self.warmdown_start()) / self.warmdown_steps();
        peak * (1.0 - fallen) + last * fallen
    }

    fn muon_weight_decay(&self, step: u64) -> f64 {
        self.weight_decay * 0.5 * (1.0 + (PI * step as f64 / self.num_iterations as f64).cos())
    }
}
