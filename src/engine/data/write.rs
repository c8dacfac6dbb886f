//! Writes a corpus as shards: to look at it, or to give another program the same documents in the same order.
//!
//! Shards and groups stay as they are, so that parquet shards read back to the same SHA-256 and the same batches.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use polars::prelude::{Column, DataFrame, DataType, Field, Schema};
use polars_io::prelude::{ParquetCompression, ParquetWriter};

use nanochat_artifacts::temporary_in;

use super::{Corpus, DataError, Shard, Split};

/// How shards are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardFormat {
    /// Column `text`, zstd, the groups as row groups: what the baseline reads.
    Parquet,
    /// `{"text": …}` a line.
    Jsonl,
    /// Plain text; reading it back parts documents at every blank line.
    Text,
}

impl ShardFormat {
    /// How the files' names end.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Jsonl => "jsonl",
            Self::Text => "txt",
        }
    }
}

/// Writes all shards of both splits, `shard_00000` and on, the last one validation; gives their paths. The folder is made
/// if need be; each file appears whole.
///
/// # Errors
/// There are shards in the folder, the corpus can't be read, or the system refuses.
pub fn write_shards(corpus: &Corpus, folder: &Path, format: ShardFormat) -> Result<Vec<PathBuf>, DataError> {
    std::fs::create_dir_all(folder).map_err(DataError::io(folder))?;
    if super::source::shard_files(folder, format.extension(), "shards").is_ok() {
        return Err(DataError::Occupied { path: folder.to_path_buf() });
    }
    let shards = corpus.shards(Split::Train).iter().chain(corpus.shards(Split::Validation));
    let mut written = Vec::new();
    for (number, shard) in shards.enumerate() {
        let path = folder.join(format!("shard_{number:05}.{}", format.extension()));
        let (file, temporary) = temporary_in(folder).map_err(DataError::io(folder))?.into_parts();
        match format {
            ShardFormat::Parquet => write_parquet(shard, file, &path),
            _ => write_lines(shard, file, &path, format),
        }?;
        temporary.persist(&path).map_err(|error| DataError::io(&path)(error.error))?;
        written.push(path);
    }
    Ok(written)
}

fn write_parquet(shard: &Shard, file: File, path: &Path) -> Result<(), DataError> {
    let failed = |error: polars::prelude::PolarsError| DataError::parquet(path, error);
    let schema = Schema::from_iter([Field::new("text".into(), DataType::String)]);
    let mut writer = ParquetWriter::new(BufWriter::new(file))
        .with_compression(ParquetCompression::Zstd(None))
        .batched(&schema)
        .map_err(failed)?;
    for group in 0..shard.group_sizes().len() {
        let texts = Column::new("text".into(), shard.read_group(group)?);
        let frame = DataFrame::new(texts.len(), vec![texts]).map_err(failed)?;
        writer.write_batch(&frame).map_err(failed)?;
    }
    writer.finish().map_err(failed)?;
    Ok(())
}

fn write_lines(shard: &Shard, file: File, path: &Path, format: ShardFormat) -> Result<(), DataError> {
    let mut out = BufWriter::new(file);
    for group in 0..shard.group_sizes().len() {
        for document in shard.read_group(group)? {
            let line = match format {
                ShardFormat::Text => format!("{document}\n"),
                _ => serde_json::json!({ "text": document }).to_string(),
            };
            writeln!(out, "{line}").map_err(DataError::io(path))?;
        }
    }
    out.flush().map_err(DataError::io(path))
}
