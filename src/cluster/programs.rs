//! Slurm's programs: the only place that starts them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::ClusterError;

/// Elements of an array where the cluster doesn't say how many it takes: Slurm's own default.
const USUAL_ARRAY: usize = 1001;

/// A Slurm cluster, as seen from this machine.
#[derive(Debug, Clone)]
pub struct Slurm {
    /// Where programs are started, which is the folder that jobs work in.
    folder: PathBuf,
}

/// An element of a job that is queued or running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Number of the array's job, or of the job.
    pub job: String,
    /// Number of the element.
    pub element: Option<usize>,
    /// Slurm's word for its state.
    pub state: String,
    /// Slurm's reason why it waits.
    pub reason: String,
}

impl Slurm {
    /// The cluster whose jobs work in a folder.
    pub fn at(folder: &Path) -> Self {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        Self { folder: folder.to_path_buf() }
    }

    /// The most elements of an array; Slurm's default where it can't be asked.
    pub fn longest_array(&self) -> usize {
        let Ok(printed) = self.ask("scontrol", &["show", "config"]) else { return USUAL_ARRAY };
        let stated = printed.lines().find_map(|line| line.trim().strip_prefix("MaxArraySize")?.split('=').nth(1));
        // A size of 0 turns arrays off: then every element is an array of one.
        stated.and_then(|number| number.trim().parse().ok()).map_or(USUAL_ARRAY, |most: usize| most.max(1))
    }

    /// Submits a script; returns the number of its job.
    ///
    /// # Errors
    /// No Slurm, or what it says against the script.
    pub fn submit(&self, script: &str) -> Result<String, ClusterError> {
        let mut command = self.command("sbatch", &["--parsable"]);
        let failed = |error: std::io::Error| ClusterError::NoSlurm { program: "sbatch", reason: error.to_string() };
        let mut child = command.stdin(Stdio::piped()).spawn().map_err(failed)?;
        if let Some(mut input) = child.stdin.take() {
            // One that ends before it has read all says why.
            let _ = input.write_all(script.as_bytes());
        }
        let output = child.wait_with_output().map_err(failed)?;
        let said = String::from_utf8_lossy(&output.stdout);
        // The number, and in a federation the name of its cluster.
        let job = said.trim().split(';').next().unwrap_or_default();
        let is_number = !job.is_empty() && job.bytes().all(|byte| byte.is_ascii_digit());
        match output.status.success() && is_number {
            true => Ok(job.to_string()),
            false => Err(ClusterError::refused(&errors(&output), script)),
        }
    }

    /// The user's jobs that haven't ended.
    ///
    /// # Errors
    /// No Slurm, or a controller that doesn't answer.
    pub fn queue(&self) -> Result<Vec<Queued>, ClusterError> {
        let printed = self.ask("squeue", &["--noheader", "--array", "--me", "--format=%F|%K|%T|%r"])?;
        Ok(printed.lines().filter_map(parse).collect())
    }

    /// Cancels jobs: what runs is told to end, what waits is dropped.
    ///
    /// # Errors
    /// As [`Slurm::queue`].
    pub fn cancel(&self, jobs: &[String]) -> Result<(), ClusterError> {
        let arguments: Vec<&str> = jobs.iter().map(String::as_str).collect();
        self.ask("scancel", &arguments).map(drop)
    }

    fn ask(&self, program: &'static str, arguments: &[&str]) -> Result<String, ClusterError> {
        let output = self.command(program, arguments).stdin(Stdio::null()).output();
        let output = output.map_err(|error| ClusterError::NoSlurm { program, reason: error.to_string() })?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(ClusterError::Failed { program, message: errors(&output) }),
        }
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.folder).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// The cluster's name of the job that this process is part of.
pub(super) fn own_job() -> Option<String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (variable("SLURM_ARRAY_JOB_ID"), variable("SLURM_ARRAY_TASK_ID")) {
        (Some(job), Some(element)) => Some(format!("{job}_{element}")),
        _ => variable("SLURM_JOB_ID"),
    }
}

fn errors(output: &Output) -> String {
    match String::from_utf8_lossy(&output.stderr).trim() {
        "" => format!("it ended with {}", output.status),
        said => said.to_string(),
    }
}

/// A line of squeue.
fn parse(line: &str) -> Option<Queued> {
    let mut fields = line.trim().splitn(4, '|');
    let (job, element) = (fields.next()?.to_string(), fields.next()?.parse().ok());
    Some(Queued { job, element, state: fields.next()?.to_string(), reason: fields.next()?.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_queue_are_read() {
        let queued = |job: &str, element, state: &str, reason: &str| Queued {
            job: job.into(),
            element,
            state: state.into(),
            reason: reason.into(),
        };
        assert_eq!(parse("12|3|RUNNING|None"), Some(queued("12", Some(3), "RUNNING", "None")));
        assert_eq!(parse("13|N/A|PENDING|Dependency"), Some(queued("13", None, "PENDING", "Dependency")));
        assert_eq!(parse("nonsense"), None);
    }
}
