//! The tasks of the CORE metric: one archive, unpacked beside where it was downloaded.

use std::path::{Path, PathBuf};

use nanochat_artifacts::{create_folder, files};

use super::sums::{self, Sums};
use super::transfer::{Event, FreeBytes, Report, Wanted, Watch, fetch, part_of};
use super::unpack::unpack;
use super::verify::{self, Kind};
use super::{Client, DownloadError};

/// Where the baseline has it from.
pub const EVAL_BUNDLE_URL: &str = "https://karpathy-public.s3.us-west-2.amazonaws.com/eval_bundle.zip";
/// Where it is looked for unless the spec says otherwise: the baseline's own folder.
pub const EVAL_BUNDLE_FOLDER: &str = "~/.cache/nanochat/eval_bundle";
/// Bytes of the archive, about.
const ARCHIVE_BYTES: u64 = 162_000_000;
/// The file by which a folder is known to be a bundle.
const CONFIG: &str = "core.yaml";

/// The evaluation bundle, and where it goes.
#[derive(Debug, Clone)]
pub struct EvalBundle {
    /// Address of the archive.
    pub address: String,
    /// The folder that its tasks go to.
    pub folder: PathBuf,
    /// Read what is here in full and compare its digests.
    pub verify: bool,
}

impl EvalBundle {
    /// Downloads and unpacks the bundle, unless it is here. `free` tells the free bytes of a folder's disk.
    ///
    /// # Errors
    /// See [`DownloadError`]; nothing but a complete bundle gets the folder's name.
    pub fn download(&self, client: &Client, free: FreeBytes<'_>, watch: Watch<'_>) -> Result<Report, DownloadError> {
        let folder = self.folder.clone();
        if let Some(kept) = self.kept()? {
            watch(Event::Begins { here: kept, missing: 0, bytes: 0 });
            return Ok(Report { folder, downloaded: 0, kept, bytes: 0 });
        }
        let parent = self.folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        create_folder(parent)?;
        let archive = self.archive();
        let wanted = Wanted { url: self.address.clone(), path: archive.clone(), kind: Kind::Zip, sha256: None };
        let here = part_of(&archive).metadata().map_or(0, |part| part.len());
        watch(Event::Begins { here: 0, missing: 1, bytes: ARCHIVE_BYTES.saturating_sub(here) });
        // An archive that is here whole was left when unpacking it was interrupted.
        let bytes = match archive.is_file() {
            true => 0,
            false => fetch(client, &wanted, free, watch)?.bytes,
        };
        let unpacked = unpack(&archive, &part_of(&self.folder), &self.folder, free);
        if unpacked.is_ok() || matches!(unpacked, Err(DownloadError::Archive { .. })) {
            files::remove(&archive).map_err(DownloadError::io(&archive))?;
        }
        Ok(Report { folder, downloaded: unpacked?, kept: 0, bytes })
    }

    /// Where the archive lies until it is unpacked.
    fn archive(&self) -> PathBuf {
        let mut name = self.folder.as_os_str().to_owned();
        name.push(".zip");
        PathBuf::from(name)
    }

    /// Number of files of a bundle that is here; none when nothing is.
    fn kept(&self) -> Result<Option<usize>, DownloadError> {
        let occupied = |problem: String| DownloadError::Occupied { path: self.folder.clone(), problem };
        if !files::is_there(&self.folder) {
            return Ok(None);
        }
        if !self.folder.join(CONFIG).is_file() {
            return Err(occupied(format!("it has no `{CONFIG}`, so it is no evaluation bundle")));
        }
        let sums = Sums::read(&self.folder)?;
        for (name, sha256) in sums.entries().filter(|_| self.verify) {
            let path = files::beneath(&self.folder, name)?;
            let mut file = files::open(&path).map_err(DownloadError::io(&path))?;
            let found = verify::sha256(&mut file).map_err(DownloadError::io(&path))?;
            if found != sha256 {
                return Err(occupied(format!("`{name}` is not what {} says", sums::FILE)));
            }
        }
        Ok(Some(sums.entries().count()))
    }
}
