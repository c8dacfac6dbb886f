//! Files that are not what their name says, told by how they begin.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How many bytes are looked at.
const LOOKED_AT: u64 = 64;

/// What a file is in truth, with what to do about it; none where nothing is known against it.
pub fn disguise(path: &Path) -> Option<&'static str> {
    let mut begin = Vec::new();
    File::open(path).ok()?.take(LOOKED_AT).read_to_end(&mut begin).ok()?;
    let text = String::from_utf8_lossy(&begin).trim_start().to_ascii_lowercase();
    let text = text.trim_start_matches('\u{feff}');
    let pointer = ["version https://git-lfs.github.com/spec/", "version https://hawser.github.com/spec/"];
    if pointer.iter().any(|pointer| text.starts_with(pointer)) {
        return Some("this is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`");
    }
    if text.starts_with("<!doctype html") || text.starts_with("<html") {
        return Some("this is an HTML page, as a failed download leaves it; download the file again");
    }
    // An XML document may be what it should be; an error of a store isn't.
    if text.starts_with("<?xml") && text.contains("<error") {
        return Some("this is an XML answer, as a failed download leaves it; download the file again");
    }
    let magic: [(&[u8], &str); 7] = [
        (&[0xff, 0xfe], "this is UTF-16; convert it: `iconv -f UTF-16 -t UTF-8`"),
        (&[0xfe, 0xff], "this is UTF-16; convert it: `iconv -f UTF-16 -t UTF-8`"),
        (&[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], "this is compressed by xz; unpack it first"),
        (&[0x1f, 0x8b], "this is compressed by gzip; unpack it first"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "this is compressed by zstd; unpack it first"),
        (&[0x42, 0x5a, 0x68], "this is compressed by bzip2; unpack it first"),
        (&[0x50, 0x4b, 0x03, 0x04], "this is a zip archive; unpack it first"),
    ];
    magic.into_iter().find(|(bytes, _)| begin.starts_with(bytes)).map(|(_, told)| told)
}

/// How a file begins that is text, where it should be binary.
pub fn text_begin(path: &Path) -> Option<String> {
    let mut begin = Vec::new();
    File::open(path).ok()?.take(LOOKED_AT).read_to_end(&mut begin).ok()?;
    // The last character may be cut in two.
    let text = match std::str::from_utf8(&begin) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&begin[..error.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    let is_text = !text.trim().is_empty() && !text.contains(|c: char| c.is_control() && !c.is_whitespace());
    is_text.then(|| text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(40).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let told = |content: &[u8]| {
            let path = folder.path().join("file");
            std::fs::write(&path, content).unwrap();
            disguise(&path)
        };
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n";
        assert!(told(pointer).is_some_and(|told| told.contains("Git LFS")));
        assert!(told(b"\n<!DOCTYPE html><html>").is_some_and(|told| told.contains("HTML")));
        assert!(told(&[0x1f, 0x8b, 8, 0]).is_some_and(|told| told.contains("gzip")));
        assert!(told(&[0x28, 0xb5, 0x2f, 0xfd, 1]).is_some_and(|told| told.contains("zstd")));
        assert!(told(b"version https://hawser.github.com/spec/v1\n").is_some_and(|told| told.contains("Git LFS")));
        assert!(told(b"<?xml version=\"1.0\"?><Error>AccessDenied</Error>").is_some_and(|told| told.contains("XML")));
        assert!(told(&[0xff, 0xfe, b'a', 0]).is_some_and(|told| told.contains("UTF-16")));
        assert!(told(&[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]).is_some_and(|told| told.contains("xz")));
        assert_eq!(told(b"<?xml version=\"1.0\"?><book>"), None);
        assert_eq!(told(b"PAR1"), None);
        assert_eq!(told(b"version one of a text"), None);
        assert_eq!(told(b""), None);
    }

    #[test]
    fn text_is_shown_by_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let begin = |content: &[u8]| {
            let path = folder.path().join("file");
            std::fs::write(&path, content).unwrap();
            text_begin(&path)
        };
        assert_eq!(begin(b"{\"error\":\n \"Repository not found\"}").unwrap(), "{\"error\": \"Repository not found\"}");
        assert_eq!(begin("é".repeat(40).as_bytes()).unwrap(), "é".repeat(32));
        assert_eq!(begin(b"PAR1\x15\x04\x15"), None);
        assert_eq!(begin(b"\xff\xfe"), None);
        assert_eq!(begin(b""), None);
    }
}
