//! Small helpers for what goes into results.

use std::path::Path;

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes this machine's folders out of text that is to be recorded, and keeps it to a readable length.
pub(super) struct Scrub(Vec<(String, String)>);

/// Longest text that is recorded, in characters.
const LONGEST: usize = 600;

impl Scrub {
    /// Replaces each folder by its name, and the home and the temporary folder by theirs.
    pub fn new(folders: &[(&Path, &str)]) -> Self {
        let mut names: Vec<(String, String)> = Vec::new();
        let mut add = |folder: &Path, name: &str| {
            let text = folder.to_string_lossy().into_owned();
            // Shorter ones, such as `/`, would take the text apart.
            if folder.is_absolute() && text.len() > 3 {
                names.push((text, name.to_string()));
            }
        };
        for (folder, name) in folders {
            add(folder, name);
        }
        if let Some(home) = std::env::home_dir() {
            add(&home, "~");
        }
        add(&std::env::temp_dir(), "<temporary>");
        // The longest first: one folder may lie in another.
        names.sort_by_key(|(folder, _)| std::cmp::Reverse(folder.len()));
        Self(names)
    }

    /// The text without folders.
    pub fn apply(&self, text: &str) -> String {
        let plain = self.0.iter().fold(text.to_string(), |text, (folder, name)| text.replace(folder, name));
        match plain.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…", plain.get(..end).unwrap_or_default()),
            None => plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_go_the_inner_one_first() {
        let scrub = Scrub::new(&[(Path::new("/a/checkout"), "<outer>"), (Path::new("/a/checkout/in"), "<inner>")]);
        assert_eq!(
            scrub.apply("File /a/checkout/in/x.py, /a/checkout/y.py, /b"),
            "File <inner>/x.py, <outer>/y.py, /b"
        );
        assert_eq!(Scrub::new(&[(Path::new("/"), "<root>")]).apply("a/b"), "a/b");
        assert_eq!(scrub.apply(&"é".repeat(1000)).chars().count(), LONGEST + 1);
    }
}
