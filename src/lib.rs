//! nanochat: a declarative experiment runner for LLM pretraining, measured against karpathy/nanochat.

pub mod baseline;
pub mod bench;
pub mod cli;
pub mod cluster;
pub mod hardware;
pub mod init;
pub mod metrics;
pub mod parity;
pub mod run;
pub mod serve;

pub use nanochat_artifacts as artifacts;
pub use nanochat_engine::{
    cache, checkpoint, data, device, engines, evals, generate, model, ops, optim, tokenizer, train, trained,
};
pub use nanochat_experiment as experiment;
pub use nanochat_export as export;
pub use nanochat_formats as formats;
pub use nanochat_kernels as kernels;
pub use nanochat_lab::{report, schemas, scorecard};
pub use nanochat_plan as plan;
