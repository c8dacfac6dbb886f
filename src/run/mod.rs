//! Runs experiments: opens specs, decides which runs are done, prepares data, tokenizer, weights and device, trains with
//! [`nanochat_engine::train`], and writes the results. An error of one run doesn't stop the others.

mod adopt;
mod environment;
mod error;
mod estimate;
mod evaluate;
mod execute;
mod failure;
mod inputs;
mod needs;
mod noise;
mod open;
mod outlook;
mod prune;
mod replay;
mod resources;
mod session;
mod sink;
mod stale;
mod status;
mod stop;
mod timing;

pub use adopt::adopt;
pub use environment::{DECIDING_CODE, environment};
pub use error::{RunError, with_help};
pub use estimate::{duration, total_time};
pub use evaluate::{BitsRequest, bits_per_byte};
pub use execute::Step as RunStep;
pub use needs::needs;
pub use noise::{Noise, record_noise};
pub use open::{MachineCheck, OpenError, Opened, Request, Scope, Warning, project};
pub use outlook::{outlook, power};
pub use prune::{prune, unplanned};
pub use replay::{Replay, Replayed, replay};
pub use resources::{Resources, open_device};
pub use session::{Event, ForeignArms, Options, OtherArm, Others, Outcome, run_experiment};
pub use stale::{judging, made_by_other_code, stale};
pub use status::{RunState, state_of};
pub use stop::Stop;
pub use timing::without_interruptions;
