//! Text shards that are compressed by gzip or zstd: streams of bounded length, never unpacked as a whole.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use nanochat_artifacts::allowances::{ALWAYS, BYTES_A_BYTE};

use super::DataError;

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 18;

/// How a file is compressed, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// Not at all.
    Plain,
    /// `.gz`
    Gzip,
    /// `.zst`
    Zstd,
}

impl Packing {
    /// The endings that shards of JSON lines may have after their own.
    pub const ENDINGS: [&str; 2] = [".gz", ".zst"];

    /// Whether a file begins as files that are packed so do; plain ones may begin in any way.
    pub fn begins(self, path: &Path) -> bool {
        let magic: &[u8] = match self {
            Self::Plain => return false,
            Self::Gzip => &[0x1f, 0x8b],
            Self::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
        };
        let mut begin = Vec::new();
        let read = File::open(path).and_then(|file| file.take(magic.len() as u64).read_to_end(&mut begin));
        read.is_ok() && begin == magic
    }

    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => Self::Gzip,
            Some("zst") => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// The text of a file from a byte on, counted in what it is decompressed to.
pub(super) fn open(path: &Path, offset: u64) -> Result<Box<dyn BufRead + Send>, DataError> {
    let mut file = File::open(path).map_err(DataError::io(path))?;
    let length = file.metadata().map_err(DataError::io(path))?.len();
    let broken = |source| broken(path, source);
    let packed: Box<dyn Read + Send> = match Packing::of(path) {
        Packing::Plain => {
            file.seek(SeekFrom::Start(offset)).map_err(DataError::io(path))?;
            return Ok(Box::new(BufReader::with_capacity(BUFFER, file)));
        }
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(BufReader::with_capacity(BUFFER, file))),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(file).map_err(broken)?),
    };
    let most = length.saturating_mul(BYTES_A_BYTE).max(ALWAYS);
    let mut input = BufReader::with_capacity(BUFFER, Bounded { inner: packed, length, left: most });
    skip(&mut input, offset).map_err(broken)?;
    Ok(Box::new(input))
}

/// Passes over bytes.
pub(super) fn skip(input: &mut dyn BufRead, bytes: u64) -> io::Result<()> {
    match io::copy(&mut input.take(bytes), &mut io::sink())? == bytes {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has become shorter")),
    }
}

/// An error of reading: of the system, or of what is compressed.
pub(super) fn broken(path: &Path, source: io::Error) -> DataError {
    match Packing::of(path) {
        Packing::Plain => DataError::io(path)(source),
        Packing::Gzip if ends_in_zeros(path) => {
            DataError::Packed { path: path.to_path_buf(), reason: format!("{source}; it ends in zeros") }
        }
        _ => DataError::Packed { path: path.to_path_buf(), reason: source.to_string() },
    }
}

/// Whether a file is padded with zeros, as tapes and interrupted downloads leave it.
fn ends_in_zeros(path: &Path) -> bool {
    let mut end = [1; 16];
    let read = || File::open(path).ok().filter(|mut file| file.seek(SeekFrom::End(-16)).is_ok());
    read().is_some_and(|mut file| file.read_exact(&mut end).is_ok()) && end == [0; 16]
}

/// A reader that refuses to give more than its file can account for.
struct Bounded<R> {
    inner: R,
    length: u64,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            let problem = format!("its {} bytes stand for more than {BYTES_A_BYTE} times as many", self.length);
            io::Error::new(io::ErrorKind::InvalidData, problem)
        })?;
        Ok(read)
    }
}
