//! The scripts of a submission. Whatever comes from a spec, a profile or a path is checked or quoted before it stands in one.

use std::fmt::Write as _;
use std::path::Path;

use nanochat_plan::SlurmSettings;

use super::ClusterError;

/// Seconds before the end of a job's time at which its run is told to save.
const WARNED_BEFORE: u64 = 120;
/// Times that a run is started again after it was killed, or stopped before it came any further.
const MOST_RESTARTS: u64 = 3;

/// What the scripts of a submission have in common.
#[derive(Debug, Clone)]
pub struct Job<'a> {
    /// Name of the experiment, which is a name of a folder too.
    pub experiment: &'a str,
    /// The program and the arguments of `run` with its spec.
    pub command: &'a [String],
    /// Arguments for the last job besides.
    pub judging: &'a [String],
    /// The profile's settings.
    pub settings: &'a SlurmSettings,
    /// Threads of a run; 0: as many as there are processors.
    pub threads: u64,
    /// Folder for logs and lists, relative to the project.
    pub folder: &'a Path,
}

/// A part of the runs that fits into one array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// The first line of the list.
    pub first: usize,
    /// Lines.
    pub count: usize,
}

/// Cuts so many elements into arrays of at most `longest`.
pub fn slices(elements: usize, longest: usize) -> Vec<Slice> {
    let longest = longest.max(1);
    (0..elements).step_by(longest).map(|first| Slice { first, count: longest.min(elements - first) }).collect()
}

impl Job<'_> {
    /// The script of an array: an element carries out the runs of its line of `list`.
    ///
    /// # Errors
    /// A setting or path that can't stand in a script.
    pub fn array(&self, list: &Path, slice: Slice) -> Result<String, ClusterError> {
        let throttle = self.settings.throttle.map(|most| format!("%{most}")).unwrap_or_default();
        let mut script = self.head(self.experiment, "%A_%a")?;
        line(&mut script, "array", &format!("0-{}{throttle}", slice.count.saturating_sub(1)))?;
        self.element(script, list, slice.first)
    }

    /// The script of the timing session: an array of one element, the line `place` of `list`, on one node, when the jobs `after`
    /// have ended in whatever way.
    ///
    /// # Errors
    /// As [`Job::array`].
    pub fn timing(&self, after: &[String], list: &Path, place: usize) -> Result<String, ClusterError> {
        let mut script = self.head(&format!("{}-timing", self.experiment), "%A_%a")?;
        line(&mut script, "array", "0-0")?;
        if !after.is_empty() {
            line(&mut script, "dependency", &format!("afterany:{}", after.join(":")))?;
        }
        if self.settings.timing_shares_node != Some(true) {
            line(&mut script, "exclusive", "")?;
        }
        self.element(script, list, place)
    }

    /// What elements have in common: what a run needs, and what is done when it is stopped.
    fn element(&self, mut script: String, list: &Path, first: usize) -> Result<String, ClusterError> {
        line(&mut script, "requeue", "")?;
        line(&mut script, "signal", &format!("B:TERM@{WARNED_BEFORE}"))?;
        if let Some(gres) = &self.settings.gres {
            line(&mut script, "gres", gres)?;
        }
        let threads = Some(self.threads).filter(|threads| *threads > 0);
        for (key, number) in [("nodes", self.settings.nodes), ("cpus-per-task", self.settings.cpus.or(threads))] {
            if let Some(number) = number {
                line(&mut script, key, &number.to_string())?;
            }
        }
        script.push_str(&self.setup()?);
        let (command, list) = (self.command_line()?, quoted(text(list)?)?);
        let _ = write!(
            script,
            "\n# The run is told of signals, saves, and ends with 130; then it is queued again and goes on.\n\
             stopped= child=\n\
             trap 'stopped=1; [ -z \"$child\" ] || kill -TERM \"$child\"' TERM\n\
             if [ -z \"$stopped\" ]; then\n\
             \x20 {command} --element {list}:$(({first} + SLURM_ARRAY_TASK_ID)) &\n\
             \x20 child=$!\n\
             \x20 while kill -0 \"$child\" 2>/dev/null; do wait \"$child\"; done\n\
             \x20 wait \"$child\"\n\
             \x20 code=$?\n\
             else\n\
             \x20 code=130\n\
             fi\n\
             again=\n\
             case $code in\n\
             \x20 130) again=1 ;;\n\
             \x20 # Killed, or stopped before it came any further: not for ever.\n\
             \x20 75|13[1-9]|14[0-9]|15[0-9]) [ \"${{SLURM_RESTART_COUNT:-0}}\" -ge {MOST_RESTARTS} ] || again=1 ;;\n\
             esac\n\
             # A job that was cancelled, or that the cluster has queued again itself, isn't running any more. A controller that\n\
             # is down is asked again.\n\
             state= tries=0\n\
             while [ -n \"$again\" ] && [ \"$tries\" -lt 20 ]; do\n\
             \x20 state=$(squeue --noheader --jobs=\"$SLURM_JOB_ID\" --format=%T) && break\n\
             \x20 tries=$((tries + 1))\n\
             \x20 sleep 3\n\
             done\n\
             if [ \"$state\" = RUNNING ]; then\n\
             \x20 scontrol requeue \"$SLURM_JOB_ID\"\n\
             fi\n\
             exit \"$code\"\n"
        );
        Ok(script)
    }

    /// The script of the last job, which judges what is there when the jobs `after` have ended in whatever way.
    ///
    /// # Errors
    /// As [`Job::array`].
    pub fn judging(&self, after: &[String], list: &Path) -> Result<String, ClusterError> {
        let mut script = self.head(&format!("{}-judge", self.experiment), "judge-%j")?;
        line(&mut script, "dependency", &format!("afterany:{}", after.join(":")))?;
        script.push_str(&self.setup()?);
        let (command, list) = (self.command_line()?, quoted(text(list)?)?);
        let more = self.judging.iter().map(|word| Ok(format!(" {}", quoted(word)?)));
        let more = more.collect::<Result<Vec<String>, ClusterError>>()?.concat();
        let _ = write!(script, "\nexec {command} --judge {list}{more}\n");
        Ok(script)
    }

    fn head(&self, name: &str, log: &str) -> Result<String, ClusterError> {
        let mut script = "#!/bin/bash\n".to_string();
        line(&mut script, "job-name", name)?;
        line(&mut script, "output", &format!("{}/{log}.log", text(self.folder)?))?;
        line(&mut script, "open-mode", "append")?;
        let SlurmSettings { partition, account, qos, time, .. } = self.settings;
        for (key, value) in [("partition", partition), ("account", account), ("qos", qos), ("time", time)] {
            if let Some(value) = value {
                line(&mut script, key, value)?;
            }
        }
        Ok(script)
    }

    /// The setup lines, of which none may fail.
    fn setup(&self) -> Result<String, ClusterError> {
        let lines = &self.settings.setup;
        if lines.is_empty() {
            return Ok("\n".to_string());
        }
        if let Some(broken) = lines.iter().find(|line| line.chars().any(|c| c.is_control() && c != '\t')) {
            return Err(ClusterError::Setting { key: "setup".into(), value: broken.clone() });
        }
        let report = "trap 'echo \"the setup line failed: $BASH_COMMAND\" >&2; exit 1' ERR";
        Ok(format!("\nset -e\n{report}\n{}\nset +e\ntrap - ERR\n", lines.join("\n")))
    }

    fn command_line(&self) -> Result<String, ClusterError> {
        Ok(self.command.iter().map(|word| quoted(word)).collect::<Result<Vec<_>, _>>()?.join(" "))
    }
}

/// A line that sbatch reads. What it takes for the value is the value, whatever it says.
fn line(script: &mut String, key: &str, value: &str) -> Result<(), ClusterError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.,:+/@%-".contains(c);
    if !value.chars().all(plain) {
        return Err(ClusterError::Setting { key: key.into(), value: value.into() });
    }
    let equals = if value.is_empty() { "" } else { "=" };
    let _ = writeln!(script, "#SBATCH --{key}{equals}{value}");
    Ok(())
}

/// A word of the shell that stands for exactly this text.
fn quoted(word: &str) -> Result<String, ClusterError> {
    if word.contains('\0') {
        return Err(ClusterError::Setting { key: "an argument".into(), value: word.into() });
    }
    Ok(format!("'{}'", word.replace('\'', r"'\''")))
}

/// A path as text.
fn text(path: &Path) -> Result<&str, ClusterError> {
    path.to_str().ok_or_else(|| ClusterError::Setting { key: "a path".into(), value: path.display().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job<'a>(command: &'a [String], settings: &'a SlurmSettings) -> Job<'a> {
        Job {
            experiment: "tiny",
            command,
            judging: &[],
            settings,
            threads: 0,
            folder: Path::new("results/tiny/.slurm"),
        }
    }

    #[test]
    fn arrays_are_cut_where_the_cluster_says() {
        assert_eq!(slices(0, 1000), []);
        assert_eq!(slices(3, 2), [Slice { first: 0, count: 2 }, Slice { first: 2, count: 1 }]);
        let many = slices(10_000, 1001);
        assert_eq!((many.len(), many.iter().map(|slice| slice.count).sum::<usize>()), (10, 10_000));
    }

    #[test]
    fn settings_that_would_add_lines_or_words_are_refused() {
        for value in ["main\n#SBATCH --uid=0", "a b", "$(id)", "a;b", "`id`", "a\"", "#"] {
            let settings = SlurmSettings { partition: Some(value.into()), ..SlurmSettings::default() };
            let refused = job(&[], &settings).array(Path::new("list"), Slice { first: 0, count: 1 });
            assert!(matches!(refused, Err(ClusterError::Setting { .. })), "{value}");
        }
        let settings = SlurmSettings { setup: vec!["true\nfalse".into()], ..SlurmSettings::default() };
        assert!(job(&[], &settings).judging(&["1".into()], Path::new("list")).is_err());
    }

    /// The shell takes every word for what it is, and the element's number is counted on from the slice's first.
    #[cfg(unix)]
    #[test]
    fn words_of_a_script_are_what_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("said");
        let hostile = "it's $(touch pwned) `id` \"x\" \\ \n; rm -rf *\t-- #!";
        let program = "printf '%s\\0' \"$@\" > \"$0\"; exit 3";
        let command: Vec<String> = ["bash", "-c", program, out.to_str().unwrap(), hostile].map(String::from).to_vec();
        let settings = SlurmSettings { setup: vec!["export SEEN='a b'".into()], ..SlurmSettings::default() };
        let script = job(&command, &settings).array(Path::new("it's a list"), Slice { first: 40, count: 3 }).unwrap();
        let file = folder.path().join("script");
        std::fs::write(&file, script).unwrap();
        let status = std::process::Command::new("bash").arg(&file).env("SLURM_ARRAY_TASK_ID", "2").status().unwrap();
        assert_eq!(status.code(), Some(3));
        let said = std::fs::read_to_string(out).unwrap();
        assert_eq!(said.split('\0').collect::<Vec<_>>(), [hostile, "--element", "it's a list:42", ""]);
    }

    #[test]
    fn the_timing_session_has_a_node_to_itself_after_all_runs() {
        let of = |settings: &SlurmSettings, after: &[String]| {
            Job { threads: 4, ..job(&[], settings) }.timing(after, Path::new("list"), 12).unwrap()
        };
        let script = of(&SlurmSettings::default(), &["7".into(), "8".into()]);
        let wanted = ["--array=0-0", "--dependency=afterany:7:8", "--exclusive", "--cpus-per-task=4", "--requeue"];
        for line in wanted {
            assert!(script.contains(&format!("#SBATCH {line}\n")), "{line}: {script}");
        }
        assert!(script.contains("--element 'list':$((12 + SLURM_ARRAY_TASK_ID))"), "{script}");
        let settings = SlurmSettings { timing_shares_node: Some(true), cpus: Some(2), ..SlurmSettings::default() };
        let script = of(&settings, &[]);
        assert!(script.contains("--cpus-per-task=2") && !script.contains("--exclusive"), "{script}");
        assert!(!script.contains("--dependency"), "{script}");
    }

    #[cfg(unix)]
    #[test]
    fn a_setup_line_that_fails_ends_the_job_before_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let settings = SlurmSettings { setup: vec!["true".into(), "false".into()], ..SlurmSettings::default() };
        let command = ["touch".to_string(), folder.path().join("ran").display().to_string()];
        let script = job(&command, &settings).array(Path::new("list"), Slice { first: 0, count: 1 }).unwrap();
        let ran = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
        assert_eq!(ran.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&ran.stderr).contains("the setup line failed: false"));
        assert!(!folder.path().join("ran").exists());
    }
}
