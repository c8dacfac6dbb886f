//! Reads zip archives as `torch.save` writes them: every entry stored, not compressed (PKWARE APPNOTE 6.3, zip64
//! included). A stored entry can't be longer than its archive, so nothing here can be blown up.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};

pub(super) const END: u32 = 0x0605_4b50;
pub(super) const END64: u32 = 0x0606_4b50;
pub(super) const END64_LOCATOR: u32 = 0x0706_4b50;
pub(super) const CENTRAL: u32 = 0x0201_4b50;
pub(super) const LOCAL: u32 = 0x0403_4b50;

/// Largest central directory that is read, in bytes.
const MAX_DIRECTORY: u64 = 16 << 20;

/// An open archive.
pub(super) struct Archive<R> {
    reader: R,
    length: u64,
    entries: BTreeMap<String, Stored>,
}

/// Where an entry lies.
#[derive(Debug, Clone, Copy)]
struct Stored {
    header: u64,
    length: u64,
    crc: u32,
}

impl<R: Read + Seek> Archive<R> {
    /// Reads the directory of an archive.
    pub fn open(mut reader: R) -> Result<Self, String> {
        let length = reader.seek(SeekFrom::End(0)).map_err(|error| error.to_string())?;
        let mut archive = Self { reader, length, entries: BTreeMap::new() };
        let (offset, bytes, count) = archive.find_directory()?;
        if bytes > MAX_DIRECTORY {
            return Err("its directory is larger than any model's".into());
        }
        let directory = archive.read_at(offset, bytes)?;
        archive.entries = parse_directory(&directory, count)?;
        Ok(archive)
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
        let header = self.read_at(entry.header, 30)?;
        if u32_at(&header, 0)? != LOCAL {
            return Err(format!("the entry `{name}` is not where the directory says"));
        }
        let data = entry.header + 30 + u64::from(u16_at(&header, 26)?) + u64::from(u16_at(&header, 28)?);
        let content = self.read_at(data.checked_add(start).ok_or("an offset is absurd")?, bytes)?;
        if bytes == entry.length && crc32(&content) != entry.crc {
            return Err(format!("the entry `{name}` differs from its checksum"));
        }
        Ok(content)
    }

    fn read_at(&mut self, offset: u64, bytes: u64) -> Result<Vec<u8>, String> {
        // Checked against the file's real length before anything is allocated.
        if offset.checked_add(bytes).is_none_or(|end| end > self.length) {
            return Err("it is cut off".into());
        }
        let size = usize::try_from(bytes).map_err(|error| error.to_string())?;
        let mut buffer = vec![0; size];
        self.reader.seek(SeekFrom::Start(offset)).map_err(|error| error.to_string())?;
        self.reader.read_exact(&mut buffer).map_err(|error| error.to_string())?;
        Ok(buffer)
    }

    /// Offset, length and number of entries of the central directory.
    fn find_directory(&mut self) -> Result<(u64, u64, u64), String> {
        let tail_length = self.length.min(22 + 0xffff);
        let tail_start = self.length - tail_length;
        let tail = self.read_at(tail_start, tail_length)?;
        let last = tail.len().checked_sub(22).ok_or("it is no zip archive")?;
        let end =
            (0..=last).rev().find(|&at| u32_at(&tail, at) == Ok(END)).ok_or("it is no zip archive, or is cut off")?;
        let small = (u32_at(&tail, end + 16)?.into(), u32_at(&tail, end + 12)?.into(), u16_at(&tail, end + 10)?.into());
        match (tail_start + end as u64).checked_sub(20) {
            Some(locator) if u32_at(&self.read_at(locator, 20)?, 0)? == END64_LOCATOR => self.find_directory64(locator),
            _ => Ok(small),
        }
    }

    fn find_directory64(&mut self, locator: u64) -> Result<(u64, u64, u64), String> {
        let locator = self.read_at(locator, 20)?;
        let end = self.read_at(u64_at(&locator, 8)?, 56)?;
        if u32_at(&end, 0)? != END64 {
            return Err("its directory is not where its end says".into());
        }
        Ok((u64_at(&end, 48)?, u64_at(&end, 40)?, u64_at(&end, 32)?))
    }
}

/// Parses the central directory.
fn parse_directory(directory: &[u8], count: u64) -> Result<BTreeMap<String, Stored>, String> {
    let mut entries = BTreeMap::new();
    let mut at = 0;
    for _ in 0..count {
        if u32_at(directory, at)? != CENTRAL {
            return Err("its directory is broken".into());
        }
        let (name_length, extra_length) = (u16_at(directory, at + 28)? as usize, u16_at(directory, at + 30)? as usize);
        let comment_length = u16_at(directory, at + 32)? as usize;
        let name = directory.get(at + 46..at + 46 + name_length).ok_or("its directory is broken")?;
        let name = String::from_utf8(name.to_vec()).map_err(|_| "an entry's name is not UTF-8")?;
        let extra_start = at + 46 + name_length;
        let extra = directory.get(extra_start..extra_start + extra_length).ok_or("its directory is broken")?;
        if u16_at(directory, at + 10)? != 0 {
            return Err(format!("the entry `{name}` is compressed, which `torch.save` never does"));
        }
        let [length, stored_length, header] = wide_fields(directory, at, extra)?;
        if length != stored_length {
            return Err(format!("the entry `{name}` has two lengths"));
        }
        let entry = Stored { header, length, crc: u32_at(directory, at + 16)? };
        if entries.insert(name.clone(), entry).is_some() {
            return Err(format!("the entry `{name}` is there twice"));
        }
        at = extra_start + extra_length + comment_length;
    }
    Ok(entries)
}

/// Length, stored length and offset of an entry; where they are all ones, the zip64 field has them, in this order.
fn wide_fields(directory: &[u8], at: usize, extra: &[u8]) -> Result<[u64; 3], String> {
    let mut wide = zip64_field(extra);
    let mut fields =
        [u32_at(directory, at + 24)?, u32_at(directory, at + 20)?, u32_at(directory, at + 42)?].map(u64::from);
    for field in &mut fields {
        if *field == u64::from(u32::MAX) {
            *field = u64_at(wide, 0)?;
            wide = wide.get(8..).unwrap_or_default();
        }
    }
    Ok(fields)
}

/// The content of the extra field with id 1, or nothing.
fn zip64_field(mut extra: &[u8]) -> &[u8] {
    while let (Ok(id), Ok(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let content = extra.get(4..4 + length as usize).unwrap_or_default();
        if id == 1 {
            return content;
        }
        extra = extra.get(4 + length as usize..).unwrap_or_default();
    }
    &[]
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], String> {
    let slice = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    slice.copied().ok_or_else(|| "it is cut off".to_string())
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, String> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, String> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, String> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

/// The zip checksum: CRC-32 with the reflected polynomial 0xEDB88320.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = crc_table();
    let folded = bytes.iter().fold(u32::MAX, |crc, &byte| (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)]);
    !folded
}

const fn crc_table() -> [u32; 256] {
    let mut table = [0u32; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    #[test]
    fn checksum_has_the_published_check_value() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926);
    }
}
