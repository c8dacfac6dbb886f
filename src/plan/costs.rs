//! What a run computes besides its steps, and the time of all of it at a given rate.

use super::RunPlan;

/// Share of a training step's FLOPs that a forward pass takes.
const FORWARD: f64 = 1.0 / 3.0;
/// Tasks of the CORE metric.
const CORE_TASKS: u64 = 22;
/// Examples of a task where a plan takes all of them, about.
const CORE_EXAMPLES: u64 = 4000;
/// Tokens of an example of CORE with its choices, about: what the choices share is computed once.
const CORE_TOKENS: u64 = 1000;

/// How often something happens that is due every so many steps, and at the end.
pub fn times_due(steps: u64, every: u64) -> u64 {
    steps.checked_div(every).map_or(1, |times| times + u64::from(!steps.is_multiple_of(every)))
}

/// Evaluations of bits per byte; of the untrained model too, where they are taken in the course of a run.
pub fn evaluations(plan: &RunPlan) -> u64 {
    times_due(plan.num_iterations, plan.eval.every) + u64::from(plan.eval.every > 0)
}

/// Tokens that all evaluations of bits per byte read.
pub fn evaluation_tokens(plan: &RunPlan) -> u64 {
    evaluations(plan).saturating_mul(plan.eval.tokens)
}

/// Evaluations of CORE.
pub fn core_evaluations(plan: &RunPlan) -> u64 {
    plan.eval.core.as_ref().map_or(0, |core| times_due(plan.num_iterations, core.every))
}

/// Seconds of a run at so many training FLOPs a second: its steps and its evaluations.
pub fn seconds(plan: &RunPlan, flops_per_second: f64) -> f64 {
    let examples = plan.eval.core.as_ref().map_or(0, |core| match core.max_per_task {
        0 => CORE_EXAMPLES,
        most => most,
    });
    let core = core_evaluations(plan).saturating_mul(CORE_TASKS * CORE_TOKENS).saturating_mul(examples);
    let evaluated = evaluation_tokens(plan).saturating_add(core) as f64 * plan.flops_per_token as f64 * FORWARD;
    (plan.total_flops as f64 + evaluated) / flops_per_second
}

#[cfg(test)]
mod tests {
    use super::times_due;

    #[test]
    fn what_is_due_in_the_course_of_a_run_is_due_at_its_end_too() {
        assert_eq!([(60, 0), (60, 20), (61, 20), (5, 9)].map(|(steps, every)| times_due(steps, every)), [1, 3, 4, 1]);
    }
}
