//! Writes zip archives as `torch.save` does: every entry stored, its bytes at a multiple of 64 (PKWARE APPNOTE 6.3). Sizes
//! and offsets that need more than 32 bits are written as zip64 fields.

use std::io::{self, Write};

use super::archive::{CENTRAL, END, END64, END64_LOCATOR, LOCAL, crc32};

/// PyTorch maps storages into memory, for which it wants them aligned so.
const ALIGNMENT: u64 = 64;
/// Id of the extra field that PyTorch pads with.
const PADDING_FIELD: u16 = 0x4246;
/// Id of the extra field with 64-bit sizes.
const WIDE_FIELD: u16 = 1;
/// Version of the format needed to read zip64 fields.
const VERSION: u16 = 45;

/// An archive being written.
pub(super) struct ArchiveWriter<W> {
    out: W,
    at: u64,
    entries: Vec<Written>,
    /// Numbers from here on are written as zip64 fields: all ones in 32 bits, less in tests.
    limit: u64,
}

/// An entry that was written.
struct Written {
    name: String,
    header: u64,
    length: u64,
    crc: u32,
}

impl<W: Write> ArchiveWriter<W> {
    /// An archive at the beginning of `out`.
    pub fn new(out: W) -> Self {
        Self::with_limit(out, u64::from(u32::MAX))
    }

    pub(super) fn with_limit(out: W, limit: u64) -> Self {
        Self { out, at: 0, entries: Vec::new(), limit }
    }

    /// Writes an entry.
    pub fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let entry =
            Written { name: name.to_string(), header: self.at, length: content.len() as u64, crc: crc32(content) };
        let mut extra = self.wide_field(&[entry.length, entry.length]);
        let unpadded = self.at + 30 + name.len() as u64 + extra.len() as u64 + 4;
        let padding = (unpadded.next_multiple_of(ALIGNMENT) - unpadded) as u16;
        extra.extend(PADDING_FIELD.to_le_bytes());
        extra.extend(padding.to_le_bytes());
        extra.resize(extra.len() + usize::from(padding), b'Z');
        let mut header = LOCAL.to_le_bytes().to_vec();
        self.describe(&entry, &extra, &mut header);
        header.extend(name.as_bytes());
        header.extend(extra);
        self.put(&header)?;
        self.put(content)?;
        self.entries.push(entry);
        Ok(())
    }

    /// Writes the directory; gives what the archive was written to.
    pub fn finish(mut self) -> io::Result<W> {
        let (offset, entries) = (self.at, std::mem::take(&mut self.entries));
        let mut directory = Vec::new();
        for entry in &entries {
            let extra = self.wide_field(&[entry.length, entry.length, entry.header]);
            directory.extend(CENTRAL.to_le_bytes());
            directory.extend(VERSION.to_le_bytes());
            self.describe(entry, &extra, &mut directory);
            // Comment, disk and attributes: none.
            directory.extend([0; 10]);
            directory.extend(self.narrow(entry.header).to_le_bytes());
            directory.extend(entry.name.as_bytes());
            directory.extend(extra);
        }
        self.put(&directory)?;
        let (count, length) = (entries.len() as u64, directory.len() as u64);
        if self.is_wide(offset) || self.is_wide(length) || count >= u64::from(u16::MAX) {
            self.put_wide_end(count, length, offset)?;
        }
        let mut end = END.to_le_bytes().to_vec();
        end.extend([0; 4]);
        let short = u16::try_from(count).unwrap_or(u16::MAX);
        end.extend([short.to_le_bytes(), short.to_le_bytes()].concat());
        end.extend([self.narrow(length).to_le_bytes(), self.narrow(offset).to_le_bytes()].concat());
        end.extend([0; 2]);
        self.put(&end)?;
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// What local headers and the directory both say of an entry: version, flags, method, time, date, checksum, lengths.
    fn describe(&self, entry: &Written, extra: &[u8], out: &mut Vec<u8>) {
        out.extend(VERSION.to_le_bytes());
        out.extend([0; 8]);
        out.extend(entry.crc.to_le_bytes());
        out.extend([self.narrow(entry.length).to_le_bytes(), self.narrow(entry.length).to_le_bytes()].concat());
        out.extend((entry.name.len() as u16).to_le_bytes());
        out.extend((extra.len() as u16).to_le_bytes());
    }

    /// The extra field for those of the numbers that 32 bits don't hold; nothing where there are none.
    fn wide_field(&self, numbers: &[u64]) -> Vec<u8> {
        let wide: Vec<u8> =
            numbers.iter().filter(|number| self.is_wide(**number)).flat_map(|number| number.to_le_bytes()).collect();
        if wide.is_empty() {
            return wide;
        }
        [WIDE_FIELD.to_le_bytes().as_slice(), &(wide.len() as u16).to_le_bytes(), &wide].concat()
    }

    fn is_wide(&self, number: u64) -> bool {
        number >= self.limit
    }

    fn narrow(&self, number: u64) -> u32 {
        if self.is_wide(number) { u32::MAX } else { number as u32 }
    }

    fn put_wide_end(&mut self, count: u64, length: u64, offset: u64) -> io::Result<()> {
        let place = self.at;
        let mut end = END64.to_le_bytes().to_vec();
        end.extend(44u64.to_le_bytes());
        end.extend([VERSION.to_le_bytes(), VERSION.to_le_bytes()].concat());
        end.extend([0; 8]);
        [count, count, length, offset].iter().for_each(|number| end.extend(number.to_le_bytes()));
        end.extend(END64_LOCATOR.to_le_bytes());
        end.extend([0; 4]);
        end.extend(place.to_le_bytes());
        end.extend(1u32.to_le_bytes());
        self.put(&end)
    }
}
