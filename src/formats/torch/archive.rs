//! The zip archive around a `.pt` file, held to what `torch.save` writes: no compression, no encryption, no entry twice,
//! no two entries in one place. A stored entry can't be longer than its archive, so every size is that of real bytes.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use zip::read::{ArchiveOffset, Config, ZipArchiveMetadata, ZipFileEntry};
use zip::{CompressionMethod, HasZipMetadata as _, ZipArchive, ZipReadOptions};

/// Most bytes that are read of an archive's directory and headers: some 150,000 entries.
const MAX_DIRECTORY: u64 = 16 << 20;

/// An open archive.
pub(super) struct Archive<R> {
    reader: R,
    length: u64,
    metadata: Arc<ZipArchiveMetadata>,
    entries: BTreeMap<String, Entry>,
}

/// Where an entry lies.
#[derive(Debug, Clone, Copy)]
struct Entry {
    index: usize,
    start: u64,
    length: u64,
}

impl<R: Read + Seek> Archive<R> {
    /// Reads the directory of an archive and the headers of its entries.
    pub fn open(mut reader: R) -> Result<Self, String> {
        let length = reader.seek(SeekFrom::End(0)).map_err(text)?;
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let limited = Limited { reader: &mut reader, left: MAX_DIRECTORY };
        let mut archive = ZipArchive::with_config(config, limited).map_err(text)?;
        if archive.has_duplicate_names() {
            return Err("two of its entries have the same name".into());
        }
        // This reads the header before each entry, and so finds the place of its bytes.
        if archive.has_overlapping_entries().map_err(text)? {
            return Err("some of its entries overlap, or are cut off".into());
        }
        let metadata = archive.metadata();
        let entries = (0..metadata.len()).map(|index| checked(index, &metadata.entry(index).map_err(text)?));
        let entries = entries.collect::<Result<_, _>>()?;
        Ok(Self { reader, length, metadata, entries })
    }

    /// Length of the archive in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Names of the entries.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Length of an entry in bytes.
    pub fn entry_length(&self, name: &str) -> Option<u64> {
        self.entries.get(name).map(|entry| entry.length)
    }

    /// Reads a part of an entry; a whole entry is checked against its checksum.
    pub fn read(&mut self, name: &str, start: u64, bytes: u64) -> Result<Vec<u8>, String> {
        let entry = *self.entries.get(name).ok_or_else(|| format!("it has no entry `{name}`"))?;
        if start.checked_add(bytes).is_none_or(|end| end > entry.length) {
            return Err(format!("the entry `{name}` has only {} bytes", entry.length));
        }
        let mut content = vec![0; usize::try_from(bytes).map_err(text)?];
        let read = if bytes == entry.length {
            self.read_whole(entry.index, &mut content)
        } else {
            self.reader.seek(SeekFrom::Start(entry.start + start)).and_then(|_| self.reader.read_exact(&mut content))
        };
        read.map_err(|error| format!("the entry `{name}`: {error}"))?;
        Ok(content)
    }

    fn read_whole(&mut self, index: usize, content: &mut [u8]) -> io::Result<()> {
        let mut file = self.metadata.entry(index)?.with_reader(&mut self.reader, ZipReadOptions::new())?;
        file.read_exact(content)?;
        // The checksum is compared at the end.
        file.read(&mut [0]).map(drop)
    }
}

/// Name and place of an entry that `torch.save` may have written.
fn checked(index: usize, entry: &ZipFileEntry<'_>) -> Result<(String, Entry), String> {
    let name = entry.name().map_err(text)?.into_owned();
    if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
        return Err(format!("the entry `{name}` is compressed or encrypted, which `torch.save` never does"));
    }
    if entry.size() != entry.compressed_size() {
        return Err(format!("the entry `{name}` has two lengths"));
    }
    if name.starts_with(['/', '\\']) || name.split(['/', '\\']).any(|part| part == "..") {
        return Err(format!("the entry `{name}` leads out of the archive"));
    }
    let start = entry.get_metadata().data_start.get().copied();
    let start = start.ok_or_else(|| format!("the entry `{name}` has no place"))?;
    Ok((name, Entry { index, start, length: entry.size() }))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A reader that gives up after so many bytes.
struct Limited<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the archive's directory is larger than any model's")
        })?;
        Ok(read)
    }
}

impl<R: Seek> Seek for Limited<R> {
    fn seek(&mut self, place: SeekFrom) -> io::Result<u64> {
        self.reader.seek(place)
    }
}
