//! Carries out plans: start, resume, refuse. Decides what is done already, prepares data, tokenizer, weights and device,
//! hands each run to [`nanochat_engine::train`], and writes what came out. Cells fail alone: one run's error doesn't stop the others.

mod adopt;
mod environment;
mod error;
mod execute;
mod failure;
mod outlook;
mod resources;
mod session;
mod sink;
mod status;
mod stop;

pub use adopt::adopt;
pub use environment::environment;
pub use error::RunError;
pub use execute::Step as RunStep;
pub use outlook::outlook;
pub use resources::{Resources, open_device};
pub use session::{Event, Options, OtherArm, Outcome, carry_out};
pub use status::{RunState, state_of};
pub use stop::Stop;
