//! The built program in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A temporary project folder and the built program.
pub struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    /// An empty project with the hardware profiles of this one.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let profiles = folder.path().join("experiments/hardware");
        std::fs::create_dir_all(&profiles).expect("a folder for profiles");
        for entry in std::fs::read_dir(root().join("experiments/hardware")).expect("profiles").flatten() {
            std::fs::copy(entry.path(), profiles.join(entry.file_name())).expect("a copied profile");
        }
        Self { folder }
    }

    /// The project's folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of the project.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, text).expect("a written file");
        path
    }

    /// The program, ready to run in the project with no configuration from the outside.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nanochat"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("NANOCHAT_")) {
            command.env_remove(name);
        }
        command.args(arguments).current_dir(self.path()).env("NO_COLOR", "1");
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran(self.command(arguments).output().expect("the program starts"))
    }

    /// Every file of the project below a folder, as relative paths, sorted.
    pub fn files(&self, folder: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.path().join(folder)];
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else if let Ok(relative) = entry.path().strip_prefix(self.path()) {
                    found.push(relative.to_string_lossy().into_owned());
                }
            }
        }
        found.sort();
        found
    }
}

/// What a finished program left.
pub struct Ran(pub Output);

impl Ran {
    /// Exit code; −1 when it was killed.
    pub fn code(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }

    /// Standard output.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    /// Standard error.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// Standard error as one line: where its lines break depends on how long the paths in it are.
    pub fn told(&self) -> String {
        one_line(&self.stderr())
    }

    /// Fails the test unless the exit code is `code`, showing what was printed.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "stdout:\n{}\nstderr:\n{}", self.stdout(), self.stderr());
        self
    }
}

/// A message without the line breaks and margins of the terminal.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

/// The project's own root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
