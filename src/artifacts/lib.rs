//! What happened: folder layout, typed rows, atomic writing. Together with `checkpoint` the only room that knows file names.
//!
//! Documents are canonical JSON ([`write_document`], [`read_document`]), tables are parquet ([`write_steps`],
//! [`read_steps`], …), and everything is put in place by [`write_atomic`]. Refuses names that could leave the results
//! folder, numbers that JSON can't hold, and documents of another kind than asked for.

pub mod allowances;
mod arms;
mod bench;
mod claims;
mod collect;
mod deciding;
mod documents;
mod error;
mod export;
pub mod files;
mod generation;
pub mod git;
mod history;
mod ignored;
mod json;
mod judgement;
mod kinds;
pub mod layout;
pub mod lease;
mod noise;
mod rows;
pub mod submissions;
mod tables;
mod timing;
mod tree;
mod verdicts;
mod write;

#[cfg(test)]
mod tests;

pub use arms::*;
pub use bench::*;
pub use claims::{Effect, QualityClaim, SpeedClaim};
pub use collect::{ExperimentDocuments, RunDocuments, read_experiment};
pub use deciding::{DECIDING, decides, deciding_digest};
pub use documents::*;
pub use error::{ArtifactError, MAX_NAME_BYTES};
pub use export::*;
pub use generation::{EndedBy, GeneratedSample, Generation};
pub use history::{Revision, file_diff, history, shortcoming};
pub use json::{
    Document, LONGEST_DOCUMENT, LONGEST_OF_A_RUN, canonical_json, parse_document, read_document, write_document,
};
pub use judgement::{ArmFigure, Bound, CitedNoise, Finding, Judgement, Method, Outcome};
pub use layout::{ExperimentFolder, ResultsRoot, RunFolder, check_name};
pub use noise::{NoiseEntry, NoiseRecord};
pub use rows::{
    LAST_WARMUP_STEP, LONGEST_TABLE, bytes_sha256, file_sha256, hex, loss_trace_sha256, median,
    median_tokens_per_second, read_evals, read_steps, steady_seconds, steady_steps, training_seconds, write_evals,
    write_steps,
};
pub use tables::{RunTotals, Tables};
pub use timing::{CellSeconds, ForeignLoad, TimedCell, TimingBlock, TimingRecord};
pub use tree::{Snapshot, Specs, Tree};
pub use verdicts::*;
pub use write::{create_folder, sync_folder, temporary_in, write_atomic};
