//! What runs are estimated to cost, in words.

use nanochat_plan::RunPlan;

/// Estimated cost of runs on their profile, as a clause; none without runs.
pub fn estimate(runs: &[RunPlan], profile: &str) -> Option<String> {
    let memory = runs.iter().map(|run| run.estimate.memory_gib).reduce(f64::max)?;
    Some(format!("on {profile} this is estimated to take {memory:.1} GiB a device and {}", total_time(runs)))
}

/// Estimated total time of runs.
pub fn total_time(runs: &[RunPlan]) -> String {
    let seconds: Option<f64> = runs.iter().map(|run| run.estimate.seconds).sum();
    seconds.map_or_else(|| "an unknown time".to_owned(), |seconds| format!("about {}", duration(seconds)))
}

/// A time in a readable unit.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => "< 1 s".to_owned(),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86400.0),
    }
}
