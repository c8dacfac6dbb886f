//! Whether a file is what it should be: its first and last bytes, and its digest.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use sha2::{Digest, Sha256};

/// Kinds of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Apache Parquet.
    Parquet,
    /// A zip archive.
    Zip,
}

/// First and last bytes of a parquet file.
const PARQUET: &[u8] = b"PAR1";
/// First bytes of an archive with entries.
const ZIP: &[u8] = b"PK\x03\x04";

/// What the first bytes of a file say against its kind.
pub(crate) fn foreign_head(kind: Kind, head: &[u8], content_type: &str) -> Option<String> {
    let (magic, wanted) = match kind {
        Kind::Parquet => (PARQUET, "parquet"),
        Kind::Zip => (ZIP, "a zip archive"),
    };
    if head.starts_with(magic) {
        return None;
    }
    let start = String::from_utf8_lossy(head).trim_start().to_ascii_lowercase();
    let found = if start.starts_with("<!do") || start.starts_with("<htm") || content_type.starts_with("text/html") {
        "an HTML page".to_owned()
    } else if start.starts_with("vers") {
        "a pointer of Git LFS".to_owned()
    } else if content_type.is_empty() {
        "something else".to_owned()
    } else {
        format!("something else ({content_type})")
    };
    Some(format!("the server sent {found} in place of {wanted}"))
}

/// What a whole file says against its kind, by its ends.
///
/// # Errors
/// It can't be read.
pub(crate) fn problem(kind: Kind, file: &mut File) -> io::Result<Option<String>> {
    let length = file.seek(SeekFrom::End(0))?;
    if length < 12 {
        return Ok(Some(format!("it has {length} bytes only")));
    }
    let mut head = [0; 4];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut head)?;
    if let Some(told) = foreign_head(kind, &head, "") {
        return Ok(Some(told));
    }
    match kind {
        Kind::Parquet => parquet_footer(file, length),
        // An archive's directory is read when it is unpacked.
        Kind::Zip => Ok(None),
    }
}

/// A parquet file ends in its metadata, their length, and the magic bytes.
fn parquet_footer(file: &mut File, length: u64) -> io::Result<Option<String>> {
    let mut tail = [0; 8];
    file.seek(SeekFrom::End(-8))?;
    file.read_exact(&mut tail)?;
    let [a, b, c, d, magic @ ..] = tail;
    if magic != PARQUET {
        return Ok(Some("it is cut off: no parquet footer at its end".to_owned()));
    }
    let metadata = u64::from(u32::from_le_bytes([a, b, c, d]));
    Ok((metadata == 0 || metadata + 12 > length).then(|| "its parquet footer is damaged".to_owned()))
}

/// SHA-256 of a whole file, 64 hex digits.
///
/// # Errors
/// It can't be read.
pub(crate) fn sha256(file: &mut File) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hash.update(&buffer[..read]),
        }
    }
}
