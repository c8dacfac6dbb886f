//! nanochat: a declarative experiment runner for LLM pretraining, measured against karpathy/nanochat.

pub mod artifacts;
pub mod baseline;
pub mod bench;
pub mod cache;
pub mod checkpoint;
pub mod cli;
pub mod data;
pub mod evals;
pub mod experiment;
pub mod export;
pub mod generate;
pub mod hardware;
pub mod model;
pub mod ops;
pub mod optim;
pub mod parity;
pub mod plan;
pub mod report;
pub mod run;
pub mod scalar;
pub mod schemas;
pub mod scorecard;
pub mod spec;
pub mod tokenizer;
pub mod train;
pub mod trained;
