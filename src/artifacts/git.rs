//! The only place where `git` is started.
//!
//! A repository may come from a stranger, and its configuration can name programs to run. So every call has an environment
//! of its own and overrides what could start something: the file-system monitor, hooks, pagers, transports, prompts. Only
//! commands that read objects and lists of files are used; none that filters or converts contents; diffs are drawn with
//! drivers and conversions off. A bare
//! repository that lies inside another one is not taken for a repository.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::ArtifactError;

/// Configuration that the repository's own cannot override.
const SETTINGS: [&str; 7] = [
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "safe.bareRepository=explicit",
    "protocol.allow=never",
    "core.pager=cat",
    "core.quotePath=false",
    "credential.helper=",
];

/// In the place of a list of protocols: none is called so.
const NO_PROTOCOL: &str = "none";
/// What a clone may use.
const CLONING_PROTOCOLS: &str = "https:ssh:file:http";

/// The same for a clone, which may use the network: no protocol that runs a program of the repository's choice.
const CLONING: [&str; 4] = [
    "protocol.https.allow=always",
    "protocol.ssh.allow=always",
    "protocol.file.allow=always",
    "protocol.http.allow=always",
];

/// Further variables that a clone keeps: proxies, certificates, and the user's agent of keys.
const KEPT_FOR_CLONES: [&str; 8] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "NO_PROXY",
    "no_proxy",
    "GIT_SSL_CAINFO",
    "SSH_AUTH_SOCK",
];

/// Clones a repository that the user named into a new folder.
///
/// # Errors
/// Git can't be started, or its first line of complaint.
pub fn clone(repository: &str, folder: &Path) -> Result<(), ArtifactError> {
    let mut command = Git::at(Path::new("")).command(&[]);
    command.envs(KEPT_FOR_CLONES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.env("GIT_ALLOW_PROTOCOL", CLONING_PROTOCOLS);
    command.args(CLONING.iter().flat_map(|setting| ["-c", setting]));
    command.args(["clone", "--quiet", "--", repository]).arg(folder).stdin(Stdio::null());
    let output = command.output();
    let output = output.map_err(|error| ArtifactError::Git { message: format!("`git` can't be started: {error}") })?;
    if output.status.success() { Ok(()) } else { Err(complaint(&output.stderr)) }
}

/// The first line of git's complaint, and the command that it proposes.
fn complaint(said: &[u8]) -> ArtifactError {
    let said = String::from_utf8_lossy(said);
    let first = said.trim().lines().next().unwrap_or("it failed without a word").trim_start_matches("fatal: ");
    let proposed =
        said.lines().map(str::trim).find(|line| line.starts_with("git config --global --add safe.directory"));
    let proposed = proposed.map(|command| format!("; if you trust it: `{command}`")).unwrap_or_default();
    ArtifactError::Git { message: format!("{first}{proposed}") }
}

/// Variables of the surroundings that git keeps: where programs and the user's own configuration lie.
const KEPT: [&str; 9] =
    ["PATH", "HOME", "XDG_CONFIG_HOME", "USERPROFILE", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP", "GIT_CONFIG_GLOBAL"];

/// Longest line of an answer's head: an object's name, kind and size, or the name that was asked for.
const LONGEST_HEAD: u64 = 1 << 16;

/// The repository that a folder lies in, as the user named the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Git {
    folder: PathBuf,
    /// Folder with the objects of another repository.
    objects: Option<PathBuf>,
}

impl Git {
    /// Git in a folder. The folder must be one that the user named, or the current one; never one that a document names.
    pub fn at(folder: &Path) -> Self {
        let here = folder.as_os_str().is_empty();
        Self { folder: if here { PathBuf::from(".") } else { folder.to_path_buf() }, objects: None }
    }

    /// The same repository, which also finds the objects of another one.
    ///
    /// # Errors
    /// The other folder is no repository.
    pub fn with_objects_of(self, other: &Self) -> Result<Self, ArtifactError> {
        let place = other.output(&["rev-parse", "--git-path", "objects"])?;
        let place = other.folder.join(String::from_utf8_lossy(&place).trim());
        let place = std::path::absolute(&place).map_err(|error| ArtifactError::io("find", &place, error))?;
        Ok(Self { objects: Some(place), ..self })
    }

    /// The diff of two commits, drawn by git itself: no driver or filter that the repository names, no renames guessed.
    ///
    /// # Errors
    /// As [`Git::output`].
    pub fn diff(&self, from: &str, to: &str) -> Result<String, ArtifactError> {
        let plain = ["--no-ext-diff", "--no-textconv", "--no-renames", "--no-color", "--no-abbrev"];
        let output = self.output(&[&["diff-tree", "-r", "-p"], &plain[..], &[from, to]].concat())?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    /// The files of a commit, relative to the folder and below it.
    ///
    /// # Errors
    /// As [`Git::output`].
    pub fn files(&self, commit: &str) -> Result<BTreeSet<String>, ArtifactError> {
        let listed = self.output(&["ls-tree", "-r", "-z", "--name-only", commit])?;
        Ok(String::from_utf8_lossy(&listed).split('\0').map(str::to_string).collect())
    }

    /// The error of a file that a commit lists and whose contents aren't here.
    pub fn lacks(&self, path: &str, commit: &str) -> ArtifactError {
        let short = commit.get(..12).unwrap_or(commit);
        let message = format!(
            "the contents of `{path}` at {short} are not in this repository, as in a partial clone (`git clone --filter`); \
             `git fetch --refetch --no-filter` brings them"
        );
        ArtifactError::Git { message }
    }

    /// What a command prints.
    ///
    /// # Errors
    /// Git can't be started, or the command fails: its first line of complaint.
    pub fn output(&self, arguments: &[&str]) -> Result<Vec<u8>, ArtifactError> {
        self.output_of(arguments, b"")
    }

    /// The same with text on the command's standard input.
    ///
    /// # Errors
    /// As [`Git::output`].
    pub fn output_of(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, ArtifactError> {
        let mut child = self.spawn(arguments, Stdio::piped())?;
        let Some(mut pipe) = child.stdin.take() else { return Err(broken(arguments, "has no pipes")) };
        let input = input.to_vec();
        let writer = std::thread::spawn(move || pipe.write_all(&input));
        let output = child.wait_with_output().map_err(|error| broken(arguments, &format!("can't be read: {error}")))?;
        // A command that ends early doesn't read all of its input: its status tells.
        let _ = writer.join();
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(complaint(&output.stderr))
    }

    /// The exit code of a command whose output doesn't matter; none when git can't be started or was killed.
    pub fn code(&self, arguments: &[&str]) -> Option<i32> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().ok()?.code()
    }

    /// Opens the objects of the repository.
    ///
    /// # Errors
    /// Git can't be started.
    pub fn objects(&self) -> Result<Objects, ArtifactError> {
        let arguments = ["cat-file", "--batch"];
        let mut child = self.spawn(&arguments, Stdio::null())?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => Ok(Objects { child, input: Some(input), output: BufReader::new(output) }),
            _ => Err(broken(&arguments, "has no pipes")),
        }
    }

    fn spawn(&self, arguments: &[&str], complaints: Stdio) -> Result<Child, ArtifactError> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints);
        command.spawn().map_err(|error| ArtifactError::Git { message: format!("`git` can't be started: {error}") })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.env_clear();
        command.envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs([
            ("LC_ALL", "C"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", ""),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_NO_LAZY_FETCH", "1"),
            // Unlike `protocol.allow`, no setting of the repository for one protocol overrides it.
            ("GIT_ALLOW_PROTOCOL", NO_PROTOCOL),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_LITERAL_PATHSPECS", "1"),
        ]);
        command.envs(self.objects.iter().map(|place| ("GIT_ALTERNATE_OBJECT_DIRECTORIES", place)));
        command.arg("-C").arg(&self.folder);
        command.args(SETTINGS.iter().flat_map(|setting| ["-c", setting])).args(arguments);
        command
    }
}

/// Objects of a repository, read one at a time through one process.
#[derive(Debug)]
pub struct Objects {
    child: Child,
    /// None once it was closed.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// What one object is.
#[derive(Debug, PartialEq, Eq)]
pub enum Object {
    /// There is none of that name, or it is no file.
    Absent,
    /// A file of more bytes than were asked for.
    TooLong(u64),
    /// A file.
    File(Vec<u8>),
}

impl Objects {
    /// Reads a file of at most `limit` bytes by any name that git knows, such as `<commit>:<path>`.
    ///
    /// # Errors
    /// A name with a line break, or an answer that makes no sense.
    pub fn read(&mut self, name: &str, limit: u64) -> Result<Object, ArtifactError> {
        let nonsense = || broken(&["cat-file", "--batch"], "gave an answer that makes no sense");
        if name.contains('\n') {
            return Err(ArtifactError::Git { message: format!("`{}` has a line break", name.escape_debug()) });
        }
        let asked = self.input.as_mut().map(|input| input.write_all(format!("{name}\n").as_bytes()));
        asked.and_then(Result::ok).ok_or_else(nonsense)?;
        let mut head = Vec::new();
        (&mut self.output).take(LONGEST_HEAD).read_until(b'\n', &mut head).map_err(|_| nonsense())?;
        let head = String::from_utf8_lossy(head.strip_suffix(b"\n").ok_or_else(nonsense)?).into_owned();
        if head.ends_with(" missing") || head.ends_with(" ambiguous") {
            return Ok(Object::Absent);
        }
        let mut words = head.split(' ').skip(1);
        let (kind, size) = (words.next().ok_or_else(nonsense)?, words.next().ok_or_else(nonsense)?);
        self.contents(kind, size.parse().map_err(|_| nonsense())?, limit).ok_or_else(nonsense)
    }

    fn contents(&mut self, kind: &str, size: u64, limit: u64) -> Option<Object> {
        let mut whole = (&mut self.output).take(size.checked_add(1)?);
        if kind == "blob" && size <= limit {
            let mut bytes = Vec::new();
            whole.read_to_end(&mut bytes).ok()?;
            return (bytes.pop() == Some(b'\n') && bytes.len() as u64 == size).then_some(Object::File(bytes));
        }
        std::io::copy(&mut whole, &mut std::io::sink()).ok()?;
        Some(if kind == "blob" { Object::TooLong(size) } else { Object::Absent })
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        // The end of its input ends it; it holds nothing that could be lost.
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn broken(arguments: &[&str], what: &str) -> ArtifactError {
    ArtifactError::Git { message: format!("`git {}` {what}", arguments.join(" ")) }
}
