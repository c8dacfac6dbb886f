//! Tests of the program and of the tree, in one binary, since linking it costs.

mod arms;
mod baseline;
mod bench;
mod cache;
mod download;
mod evidence;
mod export;
mod field;
mod gpu;
mod import;
mod imports;
mod inference;
mod malformed;
mod parts;
mod profiles;
mod program;
mod run_experiment;
mod safety;
mod serve;
mod server;
mod slurm;
mod specs;
mod strangers;
mod tidy;
mod tokenizer_and_data;
mod torture;
