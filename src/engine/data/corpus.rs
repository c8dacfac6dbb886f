//! The documents of a run: two splits of shards, each in groups that are read together.
//!
//! The last shard by name is validation (`nanochat/dataset.py`). What has no shards of its own is parted here: of one
//! `.jsonl` or `.txt` file, and of the synthetic corpus, the last tenth of the documents, rounded up, is validation.
//! Parquet shards keep their row groups, since the baseline never reads across one; everything else is read in groups of
//! 128 documents, the size of the baseline's reads.

use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use crate::cache::{Cache, Key, KeyBuilder, hex};
use nanochat_plan::{DataPlan, TEXT_COLUMN, climbmix_command, climbmix_shards};

use super::DataError;
use super::lines::{self, LineFormat, LineShard};
use super::parquet::ParquetShard;
use super::remembered::Remembered;
use super::source::{resolve, shard_files};
use super::stamp::stamp;
use super::synthetic::Generator;

/// Documents that are read together where the source has no row groups.
const GROUP: usize = 128;
/// Documents a shard of the synthetic corpus.
pub(super) const SYNTHETIC_SHARD: usize = 1024;

/// The part of the data that is trained on, or the part that is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// All shards but the last.
    Train,
    /// The last shard.
    Validation,
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Validation => "validation",
        })
    }
}

/// Documents in two splits. Opening reads no document of parquet shards, and text shards once.
#[derive(Debug)]
pub struct Corpus {
    description: String,
    train: Vec<Shard>,
    validation: Vec<Shard>,
    scan: OnceLock<KeptScan>,
    remembered: Remembered,
    /// Everything but the files that decides the documents.
    plan: String,
    cache: Option<Arc<Cache>>,
    /// The stamp of all files when the corpus was opened, where they were settled.
    opened: Option<Key>,
}

/// A file, or a part of one, or a part of the synthetic corpus.
#[derive(Debug)]
pub struct Shard {
    name: String,
    group_sizes: Vec<usize>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Parquet(ParquetShard),
    Lines(LineShard),
    Synthetic { generator: Arc<Generator>, first: u64 },
}

/// How much there is of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Size {
    /// Shards.
    pub shards: usize,
    /// Groups of documents that are read together (row groups of parquet shards).
    pub groups: usize,
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
}

/// Kind of the cache's entries that hold a [`Scan`].
const SCANS: &str = "scans";

/// What only reading everything tells.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct KeptScan {
    /// See [`Corpus::sha256`].
    pub sha256: String,
    train_bytes: u64,
    validation_bytes: u64,
    /// Bytes of the longest document.
    #[serde(default)]
    pub longest: u64,
    /// A digest of each shard, to say which of them changed; no proof of anything.
    #[serde(default)]
    pub shards: Vec<u64>,
}

/// The scan that is kept under a stamp, or under a digest.
pub(super) fn kept_scan(cache: &Cache, key: &Key) -> Option<KeptScan> {
    cache.get(SCANS, key).and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

/// Keeps a scan under the stamp of its files, if there is one, and under its digest.
pub(super) fn keep_scan(cache: &Cache, stamp: Option<&Key>, scan: &KeptScan) {
    let Ok(bytes) = serde_json::to_vec(scan) else { return };
    stamp.into_iter().for_each(|stamp| cache.put(SCANS, stamp, &bytes));
    // Made documents have no stamp, and are scanned anew by every run.
    let by_digest = by_digest(&scan.sha256);
    if kept_scan(cache, &by_digest).is_none() {
        cache.put(SCANS, &by_digest, &bytes);
    }
}

/// The key of what is known of the documents with a digest, wherever they lay.
pub(super) fn by_digest(sha256: &str) -> Key {
    KeyBuilder::new("documents/v1").with(sha256).finish()
}

/// The scan of an opened corpus.
pub(super) fn scan_of(corpus: &Corpus) -> Result<KeptScan, DataError> {
    corpus.scan().cloned()
}

/// The files that hold a plan's documents, in order.
pub(super) fn files(plan: &DataPlan, base: &Path) -> Result<Vec<PathBuf>, DataError> {
    match plan {
        DataPlan::Parquet { path, .. } => shard_files(&resolve(path, base), "parquet", "parquet shards"),
        DataPlan::Jsonl { path, .. } => shard_files(&resolve(path, base), "jsonl", "text"),
        DataPlan::Text { path } => shard_files(&resolve(path, base), "txt", "text"),
        DataPlan::Climbmix { path, shards } => {
            Ok(climbmix_shards(*shards).map(|name| resolve(path, base).join(name)).collect())
        }
        DataPlan::Synthetic { .. } => Ok(Vec::new()),
    }
}

impl Corpus {
    /// Opens the plan's data; relative paths start at `base`, and `~` is the home folder.
    ///
    /// # Errors
    /// A missing folder, no shards, one parquet shard only, a shard that can't be read as what it should be, or a split
    /// without documents.
    pub fn open(plan: &DataPlan, base: &Path) -> Result<Self, DataError> {
        let mut corpus = match plan {
            DataPlan::Parquet { path, field } => {
                Self::open_parquet(&resolve(path, base), field.as_deref().unwrap_or(TEXT_COLUMN))?
            }
            DataPlan::Jsonl { path, field } => {
                Self::open_lines(&resolve(path, base), &LineFormat::Jsonl { field: field.clone() })?
            }
            DataPlan::Text { path } => Self::open_lines(&resolve(path, base), &LineFormat::Text)?,
            DataPlan::Climbmix { path, shards } => Self::open_climbmix(path, base, *shards)?,
            DataPlan::Synthetic { seed, bytes } => Self::open_synthetic(*seed, *bytes),
        };
        corpus.plan = format!("{plan:?}");
        corpus.opened = corpus.stamp();
        for split in [Split::Train, Split::Validation] {
            if corpus.document_count(split) == 0 {
                let remedy = "at least one document is needed to train on, and one to validate on";
                return Err(DataError::EmptySplit { description: corpus.description, split, remedy });
            }
        }
        Ok(corpus)
    }

    fn open_parquet(path: &Path, column: &str) -> Result<Self, DataError> {
        let files = shard_files(path, "parquet", "parquet shards")?;
        if let [only] = &files[..] {
            return Err(DataError::OneShard { path: only.clone() });
        }
        Self::from_parquet(path, files, column)
    }

    /// The first shards and the last one, whatever else is in the folder.
    fn open_climbmix(path: &str, base: &Path, shards: u64) -> Result<Self, DataError> {
        let folder = resolve(path, base);
        let files: Vec<PathBuf> = climbmix_shards(shards).map(|name| folder.join(name)).collect();
        let missing = files.iter().filter(|file| !file.is_file()).count();
        if missing > 0 {
            let (of, command) = (files.len(), climbmix_command(shards, path));
            return Err(DataError::MissingShards { path: folder, missing, of, command });
        }
        Self::from_parquet(&folder, files, TEXT_COLUMN)
    }

    fn from_parquet(folder: &Path, files: Vec<PathBuf>, column: &str) -> Result<Self, DataError> {
        let open = |file| ParquetShard::open(file, column).map(|shard| Shard::new(Source::Parquet(shard)));
        let shards = files.iter().map(|file| open(file));
        Ok(Self::from_shards(folder.display().to_string(), shards.collect::<Result<_, _>>()?))
    }

    fn open_lines(path: &Path, format: &LineFormat) -> Result<Self, DataError> {
        let files = shard_files(path, format.extension(), "text")?;
        let shard = |file: &Path, places: &[lines::Place]| {
            Shard::new(Source::Lines(LineShard::new(file, format, places, GROUP)))
        };
        let shards = if let [only] = &files[..] {
            let places = lines::index(only, format)?;
            let (train, validation) = places.split_at(train_share(places.len()));
            vec![shard(only, train), shard(only, validation)]
        } else {
            let indexed = files.iter().map(|file| Ok(shard(file, &lines::index(file, format)?)));
            indexed.collect::<Result<_, DataError>>()?
        };
        Ok(Self::from_shards(path.display().to_string(), shards))
    }

    fn open_synthetic(seed: u64, bytes: u64) -> Self {
        let generator = Arc::new(Generator::new(seed));
        let documents = generator.documents_for(bytes);
        let shard = |first: usize, end: usize| {
            let group_sizes = (first..end).step_by(GROUP).map(|start| GROUP.min(end - start)).collect();
            let source = Source::Synthetic { generator: generator.clone(), first: first as u64 };
            Shard { name: format!("synthetic[{first}..{end}]"), group_sizes, source }
        };
        let train_end = train_share(documents);
        let starts = (0..train_end).step_by(SYNTHETIC_SHARD);
        let mut shards: Vec<Shard> = starts.map(|start| shard(start, train_end.min(start + SYNTHETIC_SHARD))).collect();
        shards.push(shard(train_end, documents));
        Self::from_shards(format!("synthetic corpus (seed {seed}, {bytes} bytes)"), shards)
    }

    /// The last shard is validation.
    fn from_shards(description: String, mut shards: Vec<Shard>) -> Self {
        let validation = shards.pop().into_iter().collect();
        let (scan, plan, cache) = (OnceLock::new(), String::new(), None);
        let remembered = Remembered::default();
        Self { description, train: shards, validation, scan, remembered, plan, cache, opened: None }
    }

    /// Keeps tokens and tokenizers of these documents in a cache.
    pub fn with_cache(self, cache: Arc<Cache>) -> Self {
        Self { cache: Some(cache), ..self }
    }

    /// Where tokens and tokenizers of these documents are kept, if anywhere.
    pub fn cache(&self) -> Option<&Arc<Cache>> {
        self.cache.as_ref()
    }

    /// Encoded reads of long documents.
    pub(super) fn remembered(&self) -> &Remembered {
        &self.remembered
    }

    /// Tells whether the documents are those of before without reading them; none where that can't be told.
    pub(super) fn stamp(&self) -> Option<Key> {
        let mut files: Vec<&Path> = self.train.iter().chain(&self.validation).filter_map(Shard::file).collect();
        files.dedup();
        stamp(&self.plan, files)
    }

    /// Where the documents come from, for messages.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The shards of a split, in order.
    pub fn shards(&self, split: Split) -> &[Shard] {
        match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
        }
    }

    /// Number of documents in a split; nothing is read for it.
    pub fn document_count(&self, split: Split) -> u64 {
        self.shards(split).iter().map(Shard::document_count).sum()
    }

    /// All documents of a split, once, in order, a group in memory at a time.
    pub fn documents(&self, split: Split) -> impl Iterator<Item = Result<String, DataError>> + '_ {
        self.groups(split).flat_map(|group| match group {
            Ok(documents) => documents.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        })
    }

    /// The same, group by group.
    pub fn groups(&self, split: Split) -> impl Iterator<Item = Result<Vec<String>, DataError>> + '_ {
        let shards = self.shards(split).iter();
        shards.flat_map(|shard| (0..shard.group_sizes.len()).map(|group| shard.read_group(group)))
    }

    /// Sizes of a split; reads all documents the first time, see [`Self::sha256`].
    ///
    /// # Errors
    /// A shard can't be read.
    pub fn size(&self, split: Split) -> Result<Size, DataError> {
        let scan = self.scan()?;
        let shards = self.shards(split);
        Ok(Size {
            shards: shards.len(),
            groups: shards.iter().map(|shard| shard.group_sizes.len()).sum(),
            documents: self.document_count(split),
            bytes: if split == Split::Train { scan.train_bytes } else { scan.validation_bytes },
        })
    }

    /// SHA-256, 64 hex digits, of all documents in order with the borders of shards and groups: of everything that
    /// decides the batches, and nothing else (no names, no file format). Reads all documents the first time, then is
    /// remembered.
    ///
    /// # Errors
    /// A shard can't be read.
    pub fn sha256(&self) -> Result<String, DataError> {
        Ok(self.scan()?.sha256.clone())
    }

    fn scan(&self) -> Result<&KeptScan, DataError> {
        if let Some(scan) = self.scan.get() {
            return Ok(scan);
        }
        let kept = self.cache.as_ref().zip(self.stamp());
        let found = kept.as_ref().and_then(|(cache, stamp)| kept_scan(cache, stamp));
        if let Some(scan) = found {
            return Ok(self.scan.get_or_init(|| scan));
        }
        let scan = self.read_all()?;
        if let Some(cache) = &self.cache {
            keep_scan(cache, kept.as_ref().map(|(_, stamp)| stamp), &scan);
        }
        Ok(self.scan.get_or_init(|| scan))
    }

    fn read_all(&self) -> Result<KeptScan, DataError> {
        let (mut hash, mut shards, mut longest) = (Sha256::new(), Vec::new(), 0);
        let train_bytes = hash_shards(&self.train, &mut hash, &mut shards, &mut longest)?;
        let validation_bytes = hash_shards(&self.validation, &mut hash, &mut shards, &mut longest)?;
        Ok(KeptScan { sha256: hex(&hash.finalize()), train_bytes, validation_bytes, longest, shards })
    }

    /// Refuses documents that are no longer those that were read first: where files were touched since, all are read again.
    ///
    /// # Errors
    /// A shard was changed, or can't be read.
    pub fn refuse_changed(&self) -> Result<(), DataError> {
        let Some(scan) = self.scan.get() else { return Ok(()) };
        let now = self.stamp();
        if now.is_some() && now == self.opened {
            return Ok(());
        }
        match self.read_all()?.sha256 == scan.sha256 {
            true => Ok(()),
            false => Err(DataError::Changed { path: self.description.clone().into() }),
        }
    }
}

/// Adds the shards to the hash, each list with its length first, and a digest of each to the list; notes the longest document, and
/// gives the bytes of text.
fn hash_shards(
    shards: &[Shard],
    hash: &mut Sha256,
    digests: &mut Vec<u64>,
    longest: &mut u64,
) -> Result<u64, DataError> {
    let mut bytes = 0;
    hash.update((shards.len() as u64).to_le_bytes());
    for shard in shards {
        let mut digest = DefaultHasher::new();
        hash.update((shard.group_sizes.len() as u64).to_le_bytes());
        for group in 0..shard.group_sizes.len() {
            let documents = shard.read_group(group)?;
            hash.update((documents.len() as u64).to_le_bytes());
            for document in &documents {
                hash.update((document.len() as u64).to_le_bytes());
                hash.update(document.as_bytes());
                digest.write(document.as_bytes());
                *longest = (*longest).max(document.len() as u64);
                bytes += document.len() as u64;
            }
        }
        digests.push(digest.finish());
    }
    Ok(bytes)
}

impl Shard {
    fn new(source: Source) -> Self {
        let (path, group_sizes) = match &source {
            Source::Parquet(shard) => (shard.path(), shard.group_sizes()),
            Source::Lines(shard) => (shard.path(), shard.group_sizes()),
            Source::Synthetic { .. } => (Path::new("synthetic"), Vec::new()),
        };
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self { name, group_sizes, source }
    }

    /// The file that holds it, if one does.
    fn file(&self) -> Option<&Path> {
        match &self.source {
            Source::Parquet(shard) => Some(shard.path()),
            Source::Lines(shard) => Some(shard.path()),
            Source::Synthetic { .. } => None,
        }
    }

    /// File name, or a name that says which part of what.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Documents in each group.
    pub fn group_sizes(&self) -> &[usize] {
        &self.group_sizes
    }

    /// Number of documents.
    pub fn document_count(&self) -> u64 {
        self.group_sizes.iter().map(|&size| size as u64).sum()
    }

    /// The documents of a group.
    ///
    /// # Errors
    /// The shard can't be read, or is not what it was when it was opened.
    ///
    /// # Panics
    /// There is no such group.
    pub fn read_group(&self, group: usize) -> Result<Vec<String>, DataError> {
        match &self.source {
            Source::Parquet(shard) => shard.read_group(group),
            Source::Lines(shard) => shard.read_group(group),
            Source::Synthetic { generator, first } => {
                let start = first + (group * GROUP) as u64;
                Ok((start..start + self.group_sizes[group] as u64).map(|number| generator.document(number)).collect())
            }
        }
    }
}

/// How many of `documents` are for training, where there are no shards to go by: all but the last tenth, rounded up.
fn train_share(documents: usize) -> usize {
    documents - documents.div_ceil(10)
}
