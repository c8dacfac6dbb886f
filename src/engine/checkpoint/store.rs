//! The folder of a run's checkpoints: saving, finding, verifying, loading, pruning.
//!
//! ```text
//! checkpoints/step_000040/model.safetensors, optimizer.safetensors, …   one file a group
//!                         state.json                                    the one JSON state
//!                         manifest.json                                 hashes of the others, written last
//! checkpoints/partial-step_000050/     being written; worthless
//! checkpoints/replaced-step_000040/    the one that a new step_000040 takes the place of
//! checkpoints/discarded-step_000030/   being removed; worthless
//! ```

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::manifest::{self, Entry, Hashing, Manifest};
use super::{CheckpointError, Disk, FileOperations, Stored, tensors};
use crate::cache::Secret;

const STATE: &str = "state.json";
const TENSORS: &str = ".safetensors";
const STEP: &str = "step_";
/// Longest file that [`Checkpoints::file`] reads.
const LONGEST_FILE: u64 = 1 << 20;
const PARTIAL: &str = "partial-";
const REPLACED: &str = "replaced-";
const DISCARDED: &str = "discarded-";

/// A run's checkpoint folder.
///
/// Reading changes nothing on disk, so an evaluation may look into the folder of a running training. Saving is for the
/// one process that holds the run's [`super::RunLock`].
#[derive(Clone)]
pub struct Checkpoints {
    folder: PathBuf,
    files: Arc<dyn FileOperations>,
    secret: Option<Secret>,
}

/// What a checkpoint holds.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a, T = Tensor> {
    /// Groups of tensors by name, such as `model` and `optimizer`; each becomes `<name>.safetensors`.
    pub tensors: &'a BTreeMap<String, BTreeMap<String, T>>,
    /// Everything small. Floats come back bit for bit; JSON has no NaN and no infinities.
    pub state: &'a serde_json::Value,
    /// Further files by name, for what is too big for JSON.
    pub files: &'a BTreeMap<String, Vec<u8>>,
}

/// A verified checkpoint in memory.
#[derive(Debug)]
pub struct Loaded {
    /// Its step.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
    /// Groups of tensors by name, on the device that was asked for.
    pub tensors: BTreeMap<String, BTreeMap<String, Tensor>>,
    /// The state.
    pub state: serde_json::Value,
    /// The further files by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// SHA-256 of its manifest, which holds those of all its files.
    pub sha256: String,
    /// It carries the seal of the store's secret.
    pub sealed: bool,
    /// Newer checkpoints that were damaged and passed over, each with what is wrong; to be told to the user.
    pub skipped: Vec<(PathBuf, String)>,
}

impl Checkpoints {
    /// A run's checkpoint folder, which need not exist yet.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        Self::with_files(folder, Arc::new(Disk))
    }

    /// The same over other file operations, for fault injection.
    pub fn with_files(folder: &Path, files: Arc<dyn FileOperations>) -> Result<Self, CheckpointError> {
        let found = Self { folder: folder.to_path_buf(), files, secret: None };
        found.entries()?;
        Ok(found)
    }

    /// The same with a secret: what is saved carries its seal, and [`Loaded::sealed`] says what does.
    #[must_use]
    pub fn sealed_with(self, secret: Secret) -> Self {
        Self { secret: Some(secret), ..self }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Steps that have a folder, in ascending order; nothing is verified.
    pub fn steps(&self) -> Vec<u64> {
        let mut steps: Vec<u64> = self.entries().unwrap_or_default().into_iter().map(|(step, _)| step).collect();
        steps.dedup();
        steps
    }

    /// A small file beside a step's tensors; nothing of the checkpoint is verified.
    pub fn file(&self, step: u64, name: &str) -> Option<Vec<u8>> {
        let entries = self.entries().ok()?;
        let (_, folder) = entries.into_iter().find(|(found, _)| *found == step)?;
        nanochat_artifacts::files::read(&folder.join(name), LONGEST_FILE).ok()
    }

    /// Saves a step's tensors and state; see [`Checkpoints::save_content`].
    pub fn save<T: Stored>(
        &self,
        step: u64,
        tensors: &BTreeMap<String, BTreeMap<String, T>>,
        state: &serde_json::Value,
        keep: usize,
    ) -> Result<PathBuf, CheckpointError> {
        self.save_content(step, &Content { tensors, state, files: &BTreeMap::new() }, keep)
    }

    /// Saves a step, verifies it by reading it back, then removes checkpoints of later steps (they belong to a future
    /// that was abandoned by going back) and all but the newest `keep` (0 keeps all). Gives the step's folder.
    ///
    /// When it fails, every checkpoint that was whole before still is, except that a fault between two renames may
    /// leave the one being replaced under another name, where [`Checkpoints::latest`] finds it.
    pub fn save_content<T: Stored>(
        &self,
        step: u64,
        content: &Content<'_, T>,
        keep: usize,
    ) -> Result<PathBuf, CheckpointError> {
        let named = named_parts(content)?;
        self.tidy()?;
        let partial = self.folder.join(format!("{PARTIAL}{}", folder_name(step)));
        let target = self.folder.join(folder_name(step));
        if let Err(error) = self.write_parts(step, &partial, &named) {
            // Best effort: gives the space back on a full disk; the next save clears it up otherwise.
            let _ = self.files.remove_folder(&partial);
            return Err(error);
        }
        self.publish(step, &partial, &target)?;
        if let Err(reason) = self.verify(step, &target) {
            return Err(CheckpointError::ReadBack { path: target, reason });
        }
        self.prune(step, keep)?;
        Ok(target)
    }

    /// The newest checkpoint that verifies, or none when there are none at all.
    ///
    /// Errors: [`CheckpointError::NoneWhole`] when there are some and all are damaged.
    pub fn latest(&self, device: &Device) -> Result<Option<Loaded>, CheckpointError> {
        let mut skipped = Vec::new();
        for (step, path) in self.entries()?.into_iter().rev() {
            match self.load_folder(step, &path, device) {
                Ok(loaded) => return Ok(Some(Loaded { skipped, ..loaded })),
                Err(reason) => skipped.push((path, reason)),
            }
        }
        if skipped.is_empty() {
            Ok(None)
        } else {
            Err(CheckpointError::NoneWhole { folder: self.folder.clone(), skipped })
        }
    }

    /// The checkpoint of one step.
    pub fn load(&self, step: u64, device: &Device) -> Result<Loaded, CheckpointError> {
        let mut damaged = None;
        for (_, path) in self.entries()?.into_iter().rev().filter(|(found, _)| *found == step) {
            match self.load_folder(step, &path, device) {
                Ok(loaded) => return Ok(loaded),
                Err(reason) => damaged = damaged.or(Some(CheckpointError::Damaged { path, reason })),
            }
        }
        Err(damaged.unwrap_or_else(|| CheckpointError::NoSuchStep {
            folder: self.folder.clone(),
            step,
            available: self.steps(),
        }))
    }

    /// Removes all checkpoints and what interrupted saves left; nothing else in the folder is touched.
    ///
    /// # Errors
    /// Something that can't be removed, or isn't from this program.
    pub fn clear(&self) -> Result<(), CheckpointError> {
        for path in self.list()? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let bare = [PARTIAL, REPLACED, DISCARDED].iter().find_map(|prefix| name.strip_prefix(prefix));
            if parse_step(bare.unwrap_or(&name)).is_some() {
                self.remove(&path)?;
            }
        }
        Ok(())
    }

    /// Steps and their folders, ascending; of one step, the one that was being replaced comes first.
    fn entries(&self) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
        let mut found = Vec::new();
        for path in self.list()? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let current = parse_step(&name).map(|step| (step, true));
            let replaced = || name.strip_prefix(REPLACED).and_then(parse_step).map(|step| (step, false));
            if let Some((step, is_current)) = current.or_else(replaced) {
                found.push((step, is_current, path));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(step, _, path)| (step, path)).collect())
    }

    fn list(&self) -> Result<Vec<PathBuf>, CheckpointError> {
        self.files.list(&self.folder).map_err(CheckpointError::io("list the folder", &self.folder))
    }

    /// Clears what an interrupted save left behind: worthless folders go, a replaced step without a successor returns.
    fn tidy(&self) -> Result<(), CheckpointError> {
        for path in self.list()? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let worthless = name.strip_prefix(PARTIAL).or_else(|| name.strip_prefix(DISCARDED));
            if worthless.and_then(parse_step).is_some() {
                self.remove(&path)?;
            } else if let Some(step) = name.strip_prefix(REPLACED).and_then(parse_step) {
                let current = self.folder.join(folder_name(step));
                if self.verify(step, &current).is_ok() {
                    self.discard(&path, step)?;
                } else {
                    self.discard(&current, step)?;
                    self.rename(&path, &current)?;
                }
            }
        }
        Ok(())
    }

    /// Makes the folder and writes every part and, last, the manifest.
    fn write_parts(
        &self,
        step: u64,
        folder: &Path,
        parts: &BTreeMap<String, Part<'_, impl Stored>>,
    ) -> Result<(), CheckpointError> {
        self.files.create_folder(folder).map_err(CheckpointError::io("create the folder", folder))?;
        let mut entries = BTreeMap::new();
        for (name, part) in parts {
            let entry = self.write_file(&folder.join(name), &mut |out| part.write(out))?;
            entries.insert(name.clone(), entry);
        }
        let manifest = Manifest::new(step, entries);
        let manifest = self.secret.iter().fold(manifest, Manifest::sealed).to_bytes();
        self.write_file(&folder.join(manifest::FILE), &mut |out| out.write_all(&manifest))?;
        self.files.sync_folder(folder).map_err(CheckpointError::io("sync the folder", folder))
    }

    fn write_file(
        &self,
        path: &Path,
        content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Entry, CheckpointError> {
        let mut entry = None;
        let written = self.files.write(path, &mut |out| {
            let mut hashing = Hashing::new(out);
            content(&mut hashing)?;
            entry = Some(hashing.finish());
            Ok(())
        });
        written.map_err(CheckpointError::io("write", path))?;
        entry.ok_or_else(|| CheckpointError::io("write", path)(io::Error::other("nothing was written")))
    }

    /// Gives the finished folder its name; one that has the name already steps aside until then.
    fn publish(&self, step: u64, partial: &Path, target: &Path) -> Result<(), CheckpointError> {
        let occupied = self.list()?.iter().any(|path| path == target);
        let aside = self.folder.join(format!("{REPLACED}{}", folder_name(step)));
        if occupied {
            self.rename(target, &aside)?;
        }
        if let Err(error) = self.rename(partial, target) {
            if occupied {
                // Best effort: `latest` and the next save know the name it has now.
                let _ = self.files.rename(&aside, target);
            }
            return Err(error);
        }
        self.sync()?;
        if occupied { self.discard(&aside, step) } else { Ok(()) }
    }

    /// Removes the checkpoints of later steps, and the oldest beyond `keep`.
    fn prune(&self, step: u64, keep: usize) -> Result<(), CheckpointError> {
        let (later, mut kept): (Vec<_>, Vec<_>) = self.entries()?.into_iter().partition(|(found, _)| *found > step);
        kept.reverse();
        let beyond = if keep == 0 { kept.len() } else { keep };
        for (found, path) in later.into_iter().chain(kept.into_iter().skip(beyond)) {
            self.discard(&path, found)?;
        }
        Ok(())
    }

    /// Removes a checkpoint in two moves, so that no half-removed one ever has a checkpoint's name.
    fn discard(&self, path: &Path, step: u64) -> Result<(), CheckpointError> {
        if !self.list()?.iter().any(|found| found == path) {
            return Ok(());
        }
        let discarded = self.folder.join(format!("{DISCARDED}{}", folder_name(step)));
        if self.list()?.contains(&discarded) {
            self.remove(&discarded)?;
        }
        self.rename(path, &discarded)?;
        self.remove(&discarded)
    }

    fn remove(&self, path: &Path) -> Result<(), CheckpointError> {
        self.files.remove_folder(path).map_err(CheckpointError::io("remove the folder", path))?;
        self.sync()
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), CheckpointError> {
        self.files.rename(from, to).map_err(CheckpointError::io("rename the folder", from))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), CheckpointError> {
        self.files.sync_folder(&self.folder).map_err(CheckpointError::io("sync the folder", &self.folder))
    }

    /// Reads every file of a step and compares it with the manifest, holding no more than a buffer in memory.
    fn verify(&self, step: u64, folder: &Path) -> Result<(), String> {
        let manifest = self.manifest(step, folder)?;
        for (name, entry) in manifest.files() {
            let mut hashing = Hashing::new(io::sink());
            let (length, mut reader) = self.open_file(folder, name)?;
            if length == entry.bytes {
                io::copy(&mut reader.by_ref().take(length), &mut hashing)
                    .map_err(|error| format!("{name}: {error}"))?;
            }
            compare(name, length, &hashing.finish(), entry)?;
        }
        Ok(())
    }

    fn load_folder(&self, step: u64, folder: &Path, device: &Device) -> Result<Loaded, String> {
        let manifest = self.manifest(step, folder)?;
        let (mut tensors, mut state, mut files) = (BTreeMap::new(), None, BTreeMap::new());
        for (name, entry) in manifest.files() {
            let bytes = self.read_verified(folder, name, entry)?;
            if let Some(group) = name.strip_suffix(TENSORS) {
                let group_tensors = tensors::read(&bytes, device).map_err(|reason| format!("{name}: {reason}"))?;
                tensors.insert(group.to_string(), group_tensors);
            } else if name == STATE {
                state = Some(serde_json::from_slice(&bytes).map_err(|error| format!("{name}: {error}"))?);
            } else {
                files.insert(name.clone(), bytes);
            }
        }
        let state = state.ok_or_else(|| format!("{STATE} is missing"))?;
        let sealed = self.secret.as_ref().is_some_and(|secret| manifest.is_sealed_under(secret));
        let sha256 = manifest.sha256();
        Ok(Loaded { step, path: folder.to_path_buf(), tensors, state, files, sha256, sealed, skipped: Vec::new() })
    }

    /// The manifest of a step's folder, after checking that it lists just the files that are there.
    fn manifest(&self, step: u64, folder: &Path) -> Result<Manifest, String> {
        let (length, mut reader) = self.open_file(folder, manifest::FILE)?;
        if length > manifest::MAX_BYTES {
            return Err(format!("{} has {length} bytes, more than any manifest", manifest::FILE));
        }
        let mut bytes = Vec::new();
        reader.by_ref().take(length).read_to_end(&mut bytes).map_err(|error| format!("{}: {error}", manifest::FILE))?;
        let manifest = Manifest::parse(&bytes, step)?;
        for path in self.files.list(folder).map_err(|error| error.to_string())? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name != manifest::FILE && !manifest.files().contains_key(name.as_ref()) {
                return Err(format!("`{name}` is not in {}", manifest::FILE));
            }
        }
        for name in manifest.files().keys() {
            check_name(name).map_err(|error| error.to_string())?;
        }
        Ok(manifest)
    }

    fn read_verified(&self, folder: &Path, name: &str, entry: &Entry) -> Result<Vec<u8>, String> {
        let (length, mut reader) = self.open_file(folder, name)?;
        let mut hashing = Hashing::new(Vec::new());
        if length == entry.bytes {
            io::copy(&mut reader.by_ref().take(length), &mut hashing).map_err(|error| format!("{name}: {error}"))?;
        }
        let (bytes, found) = hashing.into_parts();
        compare(name, length, &found, entry)?;
        Ok(bytes)
    }

    fn open_file(&self, folder: &Path, name: &str) -> Result<(u64, Box<dyn Read>), String> {
        self.files.open(&folder.join(name)).map_err(|error| format!("{name}: {error}"))
    }
}

/// One file to write.
enum Part<'a, T> {
    Tensors(&'a BTreeMap<String, T>),
    State(&'a serde_json::Value),
    Bytes(&'a [u8]),
}

impl<T: Stored> Part<'_, T> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Tensors(group) => tensors::write(group, out),
            Self::State(state) => Ok(serde_json::to_writer_pretty(out, state)?),
            Self::Bytes(bytes) => out.write_all(bytes),
        }
    }
}

/// The parts by file name; refuses names and tensors that can't be stored.
fn named_parts<'a, T: Stored>(content: &Content<'a, T>) -> Result<BTreeMap<String, Part<'a, T>>, CheckpointError> {
    let mut parts = BTreeMap::from([(STATE.to_string(), Part::State(content.state))]);
    for (name, group) in content.tensors {
        tensors::check(group)?;
        parts.insert(format!("{name}{TENSORS}"), Part::Tensors(group));
    }
    for (name, bytes) in content.files {
        let reason = "it would be taken for the checkpoint's own";
        if name.ends_with(TENSORS) || name == STATE || name == manifest::FILE {
            return Err(CheckpointError::Name { name: name.clone(), reason });
        }
        parts.insert(name.clone(), Part::Bytes(bytes));
    }
    parts.keys().try_for_each(|name| check_name(name))?;
    Ok(parts)
}

/// Plain file names only.
fn check_name(name: &str) -> Result<(), CheckpointError> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if plain && !name.starts_with('.') && (1..=128).contains(&name.len()) {
        return Ok(());
    }
    let reason = "names are 1 to 128 letters, digits, `.`, `_` and `-`, and do not start with a dot";
    Err(CheckpointError::Name { name: name.to_string(), reason })
}

/// Says how a file differs from its manifest entry.
fn compare(name: &str, length: u64, found: &Entry, expected: &Entry) -> Result<(), String> {
    if length != expected.bytes {
        return Err(format!("{name} has {length} bytes instead of {}", expected.bytes));
    }
    if found != expected {
        return Err(format!("{name} has the SHA-256 {} instead of {}", found.sha256, expected.sha256));
    }
    Ok(())
}

fn folder_name(step: u64) -> String {
    format!("{STEP}{step:06}")
}

/// The step of a folder's name; none for other names and other spellings.
fn parse_step(name: &str) -> Option<u64> {
    let step = name.strip_prefix(STEP)?.parse().ok()?;
    (folder_name(step) == name).then_some(step)
}
