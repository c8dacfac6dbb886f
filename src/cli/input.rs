//! Text from files and standard input.

use std::io::Read as _;
use std::path::Path;

use super::CliError;

/// The text of a file, or of standard input for `-`.
///
/// # Errors
/// A file that can't be read, or that isn't UTF-8; the message names the first invalid byte.
pub fn text(path: &Path) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    let name = if path == Path::new("-") { "standard input".to_string() } else { path.display().to_string() };
    let read = match path == Path::new("-") {
        true => std::io::stdin().read_to_end(&mut bytes),
        false => std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)),
    };
    read.map_err(|error| CliError::usage(format!("can't read {name}: {error}"), None))?;
    utf8(bytes, &name)
}

/// One line of standard input; none at its end.
pub fn line() -> Option<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).ok().filter(|read| *read > 0).map(|_| line)
}

/// Bytes as text.
///
/// # Errors
/// Bytes that aren't UTF-8; the message names the first invalid one.
pub fn utf8(bytes: Vec<u8>, name: &str) -> Result<String, CliError> {
    String::from_utf8(bytes).map_err(|error| {
        let error = error.utf8_error();
        let message = format!("{name} is not UTF-8: byte {} is invalid", error.valid_up_to());
        CliError::usage(message, Some("convert the text to UTF-8, for example with `iconv -t utf-8`"))
    })
}
