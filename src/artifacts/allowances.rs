//! What a parquet file claims to hold, held against its length before anything is decoded.
//!
//! A few hundred bytes can stand for billions of rows. The pages' own heads are read, since the file's description can say
//! something else than they do.

use std::io::{self, Read, Seek, SeekFrom};

use polars_parquet_format::PageHeader;
use polars_parquet_format::thrift::protocol::TCompactInputProtocol;

/// Most values of a column for each byte of the file. Equal values take next to nothing, so this is generous.
pub const VALUES_A_BYTE: u64 = 64;
/// Most decompressed bytes for each byte of the file.
pub const BYTES_A_BYTE: u64 = 1024;
/// A file of any length may hold so many values, and so many bytes.
pub const ALWAYS: u64 = 1 << 16;
/// Longest head of a page; statistics are in it.
const LONGEST_HEAD: usize = 1 << 20;

/// A part of a column, as the file's description has it.
#[derive(Debug, Clone, Copy)]
pub struct Chunk {
    /// Where its first page begins: that of its dictionary if it has one.
    pub start: i64,
    /// Bytes of its pages.
    pub length: i64,
    /// Values in it.
    pub values: i64,
    /// Rows of the group that it belongs to.
    pub rows: usize,
}

/// Refuses parts of columns that hold more than `length`, the file's, can account for.
///
/// # Errors
/// What they claim, or pages that can't be read.
pub fn check(
    file: &mut (impl Read + Seek),
    length: u64,
    chunks: impl IntoIterator<Item = Chunk>,
) -> Result<(), String> {
    let mut claimed = Claimed { length, values: 0, bytes: 0 };
    for chunk in chunks {
        claimed.chunk(file, chunk)?;
    }
    Ok(())
}

/// Refuses so many decoded bytes of a file of this length.
///
/// # Errors
/// They are too many.
pub fn check_bytes(length: u64, bytes: u64) -> Result<(), String> {
    let most = length.saturating_mul(BYTES_A_BYTE).max(ALWAYS);
    if bytes > most { Err(format!("its {length} bytes stand for more than {most}")) } else { Ok(()) }
}

struct Claimed {
    length: u64,
    values: u64,
    bytes: u64,
}

impl Claimed {
    fn chunk(&mut self, file: &mut (impl Read + Seek), chunk: Chunk) -> Result<(), String> {
        let damaged = || "its description doesn't fit it".to_string();
        let whole = |number: i64| u64::try_from(number).map_err(|_| damaged());
        let (start, length, values) = (whole(chunk.start)?, whole(chunk.length)?, whole(chunk.values)?);
        if start.checked_add(length).is_none_or(|end| end > self.length) {
            return Err(damaged());
        }
        self.add(values.max(chunk.rows as u64), 0)?;
        self.values -= values.max(chunk.rows as u64);
        file.seek(SeekFrom::Start(start)).map_err(|error| error.to_string())?;
        let mut pages = vec![0; usize::try_from(length).map_err(|_| damaged())?];
        file.read_exact(&mut pages).map_err(|error| error.to_string())?;
        self.pages(&pages, values)
    }

    /// Goes from head to head, as a decoder does.
    fn pages(&mut self, pages: &[u8], values: u64) -> Result<(), String> {
        let (mut seen, mut place) = (0u64, 0u64);
        while seen < values && place < pages.len() as u64 {
            let mut rest = io::Cursor::new(pages);
            rest.set_position(place);
            let head = PageHeader::read_from_in_protocol(&mut TCompactInputProtocol::new(&mut rest, LONGEST_HEAD));
            let head = head.map_err(|error| format!("the head of a page: {error}"))?;
            let count = [
                head.data_page_header.as_ref().map(|page| page.num_values),
                head.data_page_header_v2.as_ref().map(|page| page.num_values.max(page.num_rows)),
                head.dictionary_page_header.as_ref().map(|page| page.num_values),
            ];
            let whole = |number: i32| u64::try_from(number).map_err(|_| "the head of a page is damaged".to_string());
            let most = whole(count.into_iter().flatten().max().unwrap_or_default())?;
            self.add(most, whole(head.uncompressed_page_size)?)?;
            if head.dictionary_page_header.is_none() {
                seen += most;
            }
            place = rest.position() + whole(head.compressed_page_size)?;
        }
        Ok(())
    }

    fn add(&mut self, values: u64, bytes: u64) -> Result<(), String> {
        self.values = self.values.saturating_add(values);
        self.bytes = self.bytes.saturating_add(bytes);
        let most = self.length.saturating_mul(VALUES_A_BYTE).max(ALWAYS);
        if self.values > most {
            return Err(format!("its {} bytes stand for more than {most} values", self.length));
        }
        check_bytes(self.length, self.bytes)
    }
}
