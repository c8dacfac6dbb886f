//! The data: documents from parquet, JSON lines, plain text, or the built-in generator, and batches of them that are the
//! baseline's token for token (`nanochat/dataset.py`, `nanochat/dataloader.py`).
//!
//! [`Corpus`] knows where the documents lie and in which split; [`Loader`] tokenises and packs them, and can say where it
//! stands so that a resumed run goes on exactly. Refused: a split without documents, columns of another type, nulls, and
//! bytes that are no UTF-8; nothing is skipped in silence.

mod ahead;
mod bigram;
mod corpus;
mod error;
mod guard;
mod known;
mod lines;
mod loader;
mod packed;
mod packing;
mod parquet;
mod remembered;
mod source;
mod stamp;
mod state;
mod synthetic;
mod tokens;
mod trained;
mod vocabulary;
mod write;

#[cfg(test)]
mod tests;

pub use bigram::bigram_bits_per_byte;
pub use corpus::{Corpus, Shard, Size, Split};
pub use error::DataError;
pub use known::{Known, known, longest_document, shard_changes};
pub use loader::{Batch, Loader};
pub use source::{detect, resolve};
pub use state::LoaderState;
pub use trained::trained_tokenizer;
pub use vocabulary::{train_tokenizer, training_bytes};
pub use write::{ShardFormat, write_shards};
