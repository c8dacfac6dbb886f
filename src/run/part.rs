//! Parts of an experiment: which runs one process of several carries out.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;

use nanochat_artifacts::bytes_sha256;
use nanochat_experiment::{block_key, cell_key};
use nanochat_plan::RunPlan;

/// Which part of an experiment a process carries out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Part {
    /// All runs; it judges them.
    #[default]
    Whole,
    /// These runs, by their ids; it judges what is there then.
    Some(BTreeSet<String>),
    /// These runs, as an element of a cluster's job. It waits for whoever has one of them, and leaves the verdicts to another job.
    Element {
        /// Ids of the runs.
        runs: BTreeSet<String>,
        /// The cluster's name of the job.
        job: Option<String>,
    },
    /// No run but the timing session, as an element of a cluster's job, once all runs are done.
    Timing {
        /// The cluster's name of the job.
        job: Option<String>,
    },
    /// No run; it judges what is there.
    Judging,
}

impl Part {
    /// Whether a run belongs to it.
    pub fn has(&self, run_id: &str) -> bool {
        match self {
            Self::Whole => true,
            Self::Some(runs) | Self::Element { runs, .. } => runs.contains(run_id),
            Self::Timing { .. } | Self::Judging => false,
        }
    }

    /// Whether others carry out all runs.
    pub fn has_no_runs(&self) -> bool {
        matches!(self, Self::Timing { .. } | Self::Judging)
    }

    /// Whether it makes the timing session of an experiment that claims speed.
    pub fn times(&self) -> bool {
        matches!(self, Self::Whole | Self::Timing { .. })
    }

    /// Whether it waits for what others have.
    pub fn waits(&self) -> bool {
        matches!(self, Self::Element { .. } | Self::Timing { .. })
    }

    /// Whether it writes the experiment's record, verdicts and reports.
    pub fn judges(&self) -> bool {
        !self.waits()
    }

    /// The cluster's name of the job.
    pub fn job(&self) -> Option<&str> {
        match self {
            Self::Element { job, .. } | Self::Timing { job } => job.as_deref(),
            _ => None,
        }
    }
}

/// One of several parts that together are an experiment: `3/16` is the third of sixteen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    number: u64,
    of: u64,
}

/// Most parts of an experiment.
const MOST_SHARDS: u64 = 100_000;

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("a shard is written NUMBER/OF, as in 3/16, with numbers from 1 up to {MOST_SHARDS}");
        let (number, of) = text.split_once('/').ok_or_else(wrong)?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let (number, of) = (digits(number).ok_or_else(wrong)?, digits(of).ok_or_else(wrong)?);
        if number == 0 || number > of || of > MOST_SHARDS { Err(wrong()) } else { Ok(Self { number, of }) }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl Shard {
    /// The runs that belong to it. A run's place depends on its own plan alone, whatever other runs there are; the runs of
    /// a block of arms have the same place.
    pub fn part(self, plans: &[RunPlan]) -> Part {
        let here = |plan: &&RunPlan| place(plan, self.of) + 1 == self.number;
        Part::Some(plans.iter().filter(here).map(|plan| plan.run_id.clone()).collect())
    }
}

/// Place of a run among so many parts, from 0.
fn place(plan: &RunPlan, parts: u64) -> u64 {
    let key = if plan.arm.is_some() { block_key(plan) } else { plan.run_id.clone() };
    let digest = bytes_sha256(key.as_bytes());
    let number = digest.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    number.unwrap_or_default() % parts
}

/// Runs that have to be carried out by one process: a run, or the runs of a block of arms. With `timed_together`, speed is judged
/// from the blocks: then all blocks of a cell stay together.
pub fn units(plans: &[RunPlan], timed_together: bool) -> Vec<Vec<&RunPlan>> {
    let key = if timed_together { cell_key } else { block_key };
    let mut units: Vec<Vec<&RunPlan>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for plan in plans {
        let place = match &plan.arm {
            Some(_) => *places.entry(key(plan)).or_insert(units.len()),
            None => units.len(),
        };
        match units.get_mut(place) {
            Some(unit) => unit.push(plan),
            None => units.push(vec![plan]),
        }
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_written_as_a_number_of_a_number() {
        assert_eq!("3/16".parse::<Shard>().map(|shard| shard.to_string()), Ok("3/16".into()));
        for text in ["", "3", "0/4", "5/4", "1/0", "+1/2", "1/ 2", "-1/2", "1/200000", "99999999999999999999/1"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_run_is_in_one_shard_and_stays_there_when_others_come() {
        let plan = crate::baseline::tests::stand_in_plan();
        let named = |number: usize| RunPlan { run_id: format!("run{number}"), ..plan.clone() };
        let plans: Vec<RunPlan> = (0..100).map(named).collect();
        let parts: Vec<Part> = (1..=4).map(|number| Shard { number, of: 4 }.part(&plans)).collect();
        for plan in &plans {
            assert_eq!(parts.iter().filter(|part| part.has(&plan.run_id)).count(), 1, "{}", plan.run_id);
        }
        let fewer = Shard { number: 1, of: 4 }.part(&plans[..50]);
        assert!(plans[..50].iter().all(|plan| fewer.has(&plan.run_id) == parts[0].has(&plan.run_id)));
    }

    #[test]
    fn a_block_of_arms_is_never_split() {
        let plan = crate::baseline::tests::stand_in_plan();
        let with_arm = |seed: u64, name: &str| {
            let arm = nanochat_plan::ArmPlan {
                name: name.into(),
                engine: nanochat_plan::ArmEngine::Native,
                commit: None,
                flags: Default::default(),
            };
            let axes = [(nanochat_plan::ARM_AXIS.to_string(), name.into())].into();
            RunPlan { run_id: format!("{name}-{seed}"), seed, arm: Some(arm), axes, ..plan.clone() }
        };
        let plans: Vec<RunPlan> = (0..20).flat_map(|seed| ["a", "b"].map(|name| with_arm(seed, name))).collect();
        assert_eq!(units(&plans, false).iter().map(Vec::len).collect::<Vec<_>>(), vec![2; 20]);
        assert_eq!(units(&plans, true).iter().map(Vec::len).collect::<Vec<_>>(), [40]);
        for pair in plans.chunks(2) {
            assert_eq!(place(&pair[0], 7), place(&pair[1], 7));
        }
        assert!((0..20).map(|block| place(&plans[2 * block], 7)).collect::<BTreeSet<_>>().len() > 1);
    }
}
