//! The `schema` entry of every kind of document that is stored.

use super::Document;
use super::json::LONGEST_OF_A_RUN;

macro_rules! documents {
    ($($kind:ty => $schema:literal $(up to $longest:expr)?),* $(,)?) => {$(
        impl Document for $kind {
            const SCHEMA: &'static str = $schema;
            $(const LONGEST: u64 = $longest;)?

            fn schema(&self) -> &str {
                &self.schema
            }
        }
    )*};
}

documents! {
    nanochat_plan::RunPlan => "nanochat.plan/v1" up to LONGEST_OF_A_RUN,
    nanochat_plan::PlanSet => "nanochat.plan_set/v1",
    crate::Summary => "nanochat.summary/v1" up to LONGEST_OF_A_RUN,
    crate::Environment => "nanochat.environment/v1" up to LONGEST_OF_A_RUN,
    crate::BaselineResult => "nanochat.baseline/v1",
    crate::Scorecard => "nanochat.scorecard/v1",
    crate::NoiseRecord => "nanochat.noise/v1",
    crate::Export => "nanochat.export/v1",
    crate::ArmsRecord => "nanochat.arms/v1",
    crate::TimingRecord => "nanochat.timing/v1",
    crate::ExperimentRecord => "nanochat.experiment_record/v1",
    crate::Bench => "nanochat.bench/v1",
    crate::Generation => "nanochat.generation/v1",
}
