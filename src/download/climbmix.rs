//! The baseline's training data: its shards, from the Hugging Face hub or a mirror of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use nanochat_artifacts::{create_folder, files};
use nanochat_plan::{CLIMBMIX_SHARD_BYTES, climbmix_shards};

use super::sums::{self, Sums};
use super::transfer::{Event, FreeBytes, Report, Wanted, Watch, fetch_all, part_of};
use super::verify::{self, Kind};
use super::{Client, DownloadError, Environment};

/// Where the baseline has it from.
const HUB: &str = "https://huggingface.co";
/// Its place at the hub.
const DATASET: &str = "datasets/karpathy/climbmix-400b-shuffle/resolve/main";
/// Digests that are known to the project, as `sha256sum` writes them.
const KNOWN: &str = include_str!("climbmix.sha256");

/// Address of the folder with the shards: at the hub, or at its mirror.
pub fn climbmix_address(environment: &Environment) -> String {
    let hub = environment.endpoint.as_deref().unwrap_or(HUB);
    format!("{}/{DATASET}", hub.trim().trim_end_matches('/'))
}

/// What of the baseline's training data is wanted, and where.
#[derive(Debug, Clone)]
pub struct Climbmix {
    /// Address of the folder with the shards.
    pub address: String,
    /// Where they go.
    pub folder: PathBuf,
    /// Training shards, the first of them all; the validation shard comes with them.
    pub shards: u64,
    /// Read what is here in full and compare its digests, not only the ends of the files.
    pub verify: bool,
}

impl Climbmix {
    /// Downloads what isn't here. `free` tells the free bytes of a folder's disk.
    ///
    /// # Errors
    /// See [`DownloadError`]; shards that are complete stay.
    pub fn download(&self, client: &Client, free: FreeBytes<'_>, watch: Watch<'_>) -> Result<Report, DownloadError> {
        create_folder(&self.folder)?;
        let mut sums = Sums::read(&self.folder)?;
        let known = sums::parse(KNOWN);
        let names: Vec<String> = climbmix_shards(self.shards).collect();
        let missing = self.missing(&names, &known, &mut sums, watch)?;
        let bytes = bytes_left(&missing);
        watch(Event::Begins { here: names.len() - missing.len(), missing: missing.len(), bytes });
        if let Some(free) = free(&self.folder).filter(|&free| free < bytes) {
            return Err(DownloadError::space(&self.folder, bytes, free));
        }
        let (sums, downloaded) = (Mutex::new(sums), AtomicU64::new(0));
        fetch_all(client, &missing, free, watch, &|wanted, fetched| {
            downloaded.fetch_add(fetched.bytes, Ordering::Relaxed);
            let name = super::transfer::name(&wanted.path);
            sums.lock().map_or(Ok(()), |mut sums| sums.record(&name, &fetched.sha256))
        })?;
        Ok(Report {
            folder: self.folder.clone(),
            downloaded: missing.len(),
            kept: names.len() - missing.len(),
            bytes: downloaded.into_inner(),
        })
    }

    /// The shards that aren't here, or aren't what they should be. Digests of those that are here are recorded.
    fn missing(
        &self,
        names: &[String],
        known: &BTreeMap<String, String>,
        sums: &mut Sums,
        watch: Watch<'_>,
    ) -> Result<Vec<Wanted>, DownloadError> {
        let (mut missing, mut recorded) = (Vec::new(), Vec::new());
        for name in names {
            let path = self.folder.join(name);
            let sha256 = known.get(name).map(String::as_str).or(sums.get(name)).map(str::to_owned);
            let problem = match path.is_file() {
                false => None,
                true => match self.look(&path, sha256.as_deref())? {
                    Found::Whole(None) => continue,
                    Found::Whole(Some(digest)) => {
                        recorded.push((name.clone(), digest));
                        continue;
                    }
                    Found::Wrong(problem) => Some(problem),
                },
            };
            if let Some(problem) = problem {
                watch(Event::Replaced { file: name, problem: &problem });
            }
            missing.push(Wanted {
                url: format!("{}/{name}", self.address.trim_end_matches('/')),
                path,
                kind: Kind::Parquet,
                sha256,
            });
        }
        if !recorded.is_empty() {
            sums.record_all(recorded)?;
        }
        Ok(missing)
    }

    /// Holds a shard that is here against what is known of it.
    fn look(&self, path: &Path, expected: Option<&str>) -> Result<Found, DownloadError> {
        let failed = || DownloadError::io(path);
        let mut file = files::open_named(path).map_err(failed())?;
        if let Some(problem) = verify::problem(Kind::Parquet, &mut file).map_err(failed())? {
            return Ok(Found::Wrong(problem));
        }
        if expected.is_some() && !self.verify {
            return Ok(Found::Whole(None));
        }
        let digest = verify::sha256(&mut file).map_err(failed())?;
        Ok(match expected {
            Some(expected) if expected != digest => Found::Wrong(format!("its SHA-256 is {digest}, not {expected}")),
            Some(_) => Found::Whole(None),
            None => Found::Whole(Some(digest)),
        })
    }
}

/// A file that is here.
enum Found {
    /// It is what it should be; with its digest where that wasn't recorded.
    Whole(Option<String>),
    /// It isn't, and why.
    Wrong(String),
}

/// Bytes that are still to come, about.
fn bytes_left(missing: &[Wanted]) -> u64 {
    let here = |wanted: &Wanted| part_of(&wanted.path).metadata().map_or(0, |part| part.len());
    missing.iter().map(|wanted| CLIMBMIX_SHARD_BYTES.saturating_sub(here(wanted))).sum()
}
