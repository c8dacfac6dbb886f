//! The other arm: karpathy/nanochat, run unmodified and read from its log.
//!
//! [`Checkout`] and [`Python`] check whether it can run here, unmodified, at the pinned commit; [`flags_of`] and
//! [`BaseFolder`] give it the plan's model, budget, documents and tokenizer; [`compare_batches`] shows with its own code
//! that both arms train on the same; [`record_run`] runs it and measures it from outside; [`import`] makes the same
//! document from a finished run's files; [`Recording`] keeps results; [`BaselineArm`] alternates runs of both arms.
//!
//! Refused: another commit, a changed checkout, a plan without flags for it, a base folder of another program. Nothing is
//! ever written into the checkout.

/// The commit of karpathy/nanochat that this program was written against.
pub const PINNED_COMMIT: &str = "92d63d4e8bb4df75c3b71618f31ddde2378b2bcd";

mod arm;
mod arm_summary;
mod arms;
mod base_folder;
mod check;
mod checkout;
mod collect;
mod devices;
mod diff;
mod error;
mod flags;
mod import;
mod import_arm;
mod launch;
mod listen;
mod log;
mod matching;
mod objects;
mod other_arm;
mod process;
mod python;
mod recording;
mod session;
mod setup;
mod usage;
mod weights;
mod words;

#[cfg(test)]
pub(crate) mod tests;

pub use arm::{BASELINE_SEED, Event, Matching, Request, Variant, record_run};
pub use arms::{ArmArgumentError, Arms, Places, Wanted, by_arm};
pub use base_folder::BaseFolder;
pub use check::{Check, check};
pub use checkout::Checkout;
pub use diff::record_arms;
pub use error::BaselineError;
pub use flags::{flags_of, on_several_devices};
pub use import::import;
pub use import_arm::{import_arm, planned_run};
pub use log::{LogEvent, LogReader, read_log};
pub use matching::compare_batches;
pub use other_arm::BaselineArm;
pub use python::{Environment, Python, SCRIPT_TIMEOUT};
pub use recording::{Recording, recording_name};
pub use session::{Place, Report, Session, Tally, one_of_each_budget};
pub use setup::{REPOSITORY, Ready, Setup, set_up};
pub use weights::{initial_weights, write_initial_weights};
