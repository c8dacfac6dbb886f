//! The baseline's base folder (`NANOCHAT_BASE_DIR`): the same documents in the same shards and row groups, the same
//! tokenizer, laid out as its scripts expect them.
//!
//! Parquet shards are linked, everything else is written as parquet and read back. Refuses to touch a folder that holds
//! something and wasn't made here: a base folder may be somebody's downloaded data.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use polars::prelude::{Column, DataFrame, PolarsError};
use polars_io::prelude::{ParquetCompression, ParquetWriter};

use nanochat_engine::checkpoint::baseline::save_token_bytes;
use nanochat_engine::data::{Corpus, Shard, Split, resolve};
use nanochat_engine::tokenizer::{Tokenizer, TokenizerFormat};
use nanochat_plan::DataPlan;

use super::BaselineError;

/// Marks a folder that was made here.
const MARK: &str = ".nanochat-baseline";
/// Where the baseline looks for shards.
const DATA: &str = "base_data_climbmix";
/// Where it looks for the tokenizer.
const TOKENIZER: &str = "tokenizer";
/// Where it looks for the CORE tasks.
const BUNDLE: &str = "eval_bundle";
/// Where it puts checkpoints.
const CHECKPOINTS: &str = "base_checkpoints";
/// PyTorch's folder of compiled kernels.
const COMPILE_CACHE: &str = "compile_cache";

/// A base folder; a temporary one vanishes when dropped.
#[derive(Debug)]
pub struct BaseFolder {
    path: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl BaseFolder {
    /// A new temporary folder.
    ///
    /// # Errors
    /// The system refuses.
    pub fn temporary() -> Result<Self, BaselineError> {
        let parent = std::env::temp_dir();
        let folder = tempfile::Builder::new().prefix("nanochat-baseline-").tempdir_in(&parent);
        let folder = folder.map_err(BaselineError::io("create a folder in", &parent))?;
        Self { path: folder.path().to_path_buf(), _temporary: Some(folder) }.marked()
    }

    /// A folder that stays, with the compiled kernels of earlier runs; it is made if need be.
    ///
    /// # Errors
    /// It holds something that wasn't put there by this program, or the system refuses.
    pub fn at(path: &Path) -> Result<Self, BaselineError> {
        fs::create_dir_all(path).map_err(BaselineError::io("create", path))?;
        let path = path.canonicalize().map_err(BaselineError::io("find", path))?;
        let mut entries = fs::read_dir(&path).map_err(BaselineError::io("list", &path))?;
        if !path.join(MARK).is_file() && entries.next().is_some() {
            return Err(BaselineError::ForeignFolder { path });
        }
        Self { path, _temporary: None }.marked()
    }

    fn marked(self) -> Result<Self, BaselineError> {
        let mark = self.path.join(MARK);
        fs::write(&mark, "made by nanochat; may be deleted\n").map_err(BaselineError::io("write", &mark))?;
        Ok(self)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where PyTorch keeps compiled kernels.
    pub fn compile_cache(&self) -> PathBuf {
        self.path.join(COMPILE_CACHE)
    }

    /// Whether an earlier run left compiled kernels.
    pub fn has_compiled_kernels(&self) -> bool {
        fs::read_dir(self.compile_cache()).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Where a model of so many layers is saved.
    pub fn checkpoint(&self, layers: usize) -> PathBuf {
        self.path.join(CHECKPOINTS).join(format!("d{layers}"))
    }

    /// Removes the checkpoints of earlier runs, so that none is taken for a later run's.
    ///
    /// # Errors
    /// The system refuses.
    pub fn clear_checkpoints(&self) -> Result<(), BaselineError> {
        remove(&self.path.join(CHECKPOINTS))
    }

    /// Lays out data, tokenizer and, where CORE is asked for, its tasks; what lay there before goes. Relative paths in
    /// the plan start at `project`.
    ///
    /// # Errors
    /// The system refuses, a shard can't be read, or what was written doesn't read back as it was.
    pub fn lay_out(
        &self,
        plan: &DataPlan,
        corpus: &Corpus,
        tokenizer: &Tokenizer,
        bundle: Option<&Path>,
        project: &Path,
    ) -> Result<(), BaselineError> {
        let data = self.path.join(DATA);
        remove(&data)?;
        fs::create_dir_all(&data).map_err(BaselineError::io("create", &data))?;
        match plan {
            DataPlan::Parquet { path, field: None } | DataPlan::Climbmix { path, .. } => {
                link_shards(&resolve(path, project), corpus, &data)?
            }
            _ => write_shards(corpus, &data)?,
        }
        self.write_tokenizer(tokenizer)?;
        let place = self.path.join(BUNDLE);
        remove(&place)?;
        bundle.map_or(Ok(()), |bundle| link(bundle, &place))
    }

    fn write_tokenizer(&self, tokenizer: &Tokenizer) -> Result<(), BaselineError> {
        let folder = self.path.join(TOKENIZER);
        remove(&folder)?;
        tokenizer.save_as(&folder.join("tokenizer.pkl"), TokenizerFormat::Pickle)?;
        Ok(save_token_bytes(&folder.join("token_bytes.pt"), &tokenizer.token_bytes())?)
    }
}

fn shards(corpus: &Corpus) -> impl Iterator<Item = &Shard> {
    [Split::Train, Split::Validation].into_iter().flat_map(|split| corpus.shards(split))
}

/// Links each shard under its own name: both programs take them in the order of their names.
fn link_shards(source: &Path, corpus: &Corpus, data: &Path) -> Result<(), BaselineError> {
    for shard in shards(corpus) {
        link(&source.join(shard.name()), &data.join(shard.name()))?;
    }
    Ok(())
}

/// Writes each shard, a row group for each group of documents, and reads all of it back.
fn write_shards(corpus: &Corpus, data: &Path) -> Result<(), BaselineError> {
    for (number, shard) in shards(corpus).enumerate() {
        write_shard(shard, &data.join(format!("shard_{number:05}.parquet")))?;
    }
    let written = Corpus::open(&DataPlan::parquet(data.to_string_lossy()), Path::new(""))?;
    if written.sha256()? != corpus.sha256()? {
        return Err(BaselineError::DataDiffer { path: data.to_path_buf() });
    }
    Ok(())
}

fn write_shard(shard: &Shard, path: &Path) -> Result<(), BaselineError> {
    let file = File::create(path).map_err(BaselineError::io("create", path))?;
    let broken = |error: PolarsError| BaselineError::io("write", path)(std::io::Error::other(error.to_string()));
    let frame = |documents: Vec<String>| {
        let column = Column::new("text".into(), documents);
        DataFrame::new(column.len(), vec![column])
    };
    let schema = frame(Vec::new()).map_err(broken)?;
    let writer = ParquetWriter::new(file).with_compression(ParquetCompression::Uncompressed).set_parallel(false);
    let mut writer = writer.batched(schema.schema()).map_err(broken)?;
    for group in 0..shard.group_sizes().len() {
        writer.write_batch(&frame(shard.read_group(group)?).map_err(broken)?).map_err(broken)?;
    }
    writer.finish().map_err(broken)?;
    Ok(())
}

/// Removes what lies at `path`; a link itself, never what it points to.
fn remove(path: &Path) -> Result<(), BaselineError> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    let removed = if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(BaselineError::io("remove", path))
}

/// Makes `to` another name of `from`.
fn link(from: &Path, to: &Path) -> Result<(), BaselineError> {
    let from = from.canonicalize().map_err(BaselineError::io("find", from))?;
    #[cfg(unix)]
    let linked = std::os::unix::fs::symlink(&from, to);
    #[cfg(not(unix))]
    let linked = fs::hard_link(&from, to);
    linked.map_err(BaselineError::io("link", to))
}
