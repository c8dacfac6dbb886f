//! Why runs can't be handed to a cluster.

use miette::{NamedSource, SourceSpan};

use nanochat_artifacts::ArtifactError;

use crate::run::RunError;

/// Why runs can't be handed to a cluster.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ClusterError {
    /// A document can't be read or written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Artifact(#[from] ArtifactError),
    /// The runs' state can't be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Run(#[from] RunError),
    /// There is no Slurm.
    #[error("there is no Slurm here: `{program}` can't be started: {reason}")]
    #[diagnostic(help(
        "run this on a machine of the cluster that has sbatch, or share the work out with `nanochat run SPEC --shard 1/4`"
    ))]
    NoSlurm {
        /// The program.
        program: &'static str,
        /// What the system says.
        reason: String,
    },
    /// Slurm refuses a script.
    #[error("sbatch refuses the job: {message}")]
    Refused {
        /// What it says.
        message: String,
        /// The script.
        #[source_code]
        script: NamedSource<String>,
        /// The line that it is about, if it is about one.
        #[label("this line")]
        line: Option<SourceSpan>,
        /// What to do.
        #[help]
        help: String,
    },
    /// Another program of Slurm fails.
    #[error("{program} fails: {message}")]
    #[diagnostic(help("`scontrol ping` says whether the cluster's controller answers; what is submitted stays so"))]
    Failed {
        /// The program.
        program: &'static str,
        /// What it says.
        message: String,
    },
    /// A value that can't stand in a script.
    #[error("`{}` can't stand in a job's script as {key}", value.escape_debug())]
    #[diagnostic(help("`slurm` of the hardware profile takes plain words: letters, digits and _ . , : + / @ -"))]
    Setting {
        /// What it is for.
        key: String,
        /// The value.
        value: String,
    },
    /// An element's list can't be used.
    #[error("`{element}` names no runs of this experiment")]
    #[diagnostic(help(
        "the spec has changed since the job was submitted; `nanochat run SPEC --on slurm` submits what is missing"
    ))]
    Element {
        /// The file and the line.
        element: String,
    },
    /// An experiment that was never submitted, or whose jobs have ended.
    #[error("no job of `{experiment}` is known to be queued or running")]
    #[diagnostic(help("`nanochat watch {experiment}` shows who works on its runs"))]
    NoJobs {
        /// The experiment.
        experiment: String,
    },
}

/// What sbatch's messages are about: words of the message, and the line of the script.
const CAUSES: [(&str, &str, &str); 13] = [
    ("partition", "--partition", "`sinfo -s` lists the partitions; set hardware.slurm.partition"),
    ("account", "--account", "`sacctmgr show associations user=$USER` lists your accounts; set hardware.slurm.account"),
    ("qos", "--qos", "`sacctmgr show qos` lists them; set hardware.slurm.qos"),
    ("time limit", "--time", "`sinfo -o \"%P %l\"` shows the partitions' limits; set hardware.slurm.time"),
    ("--time", "--time", "write minutes or hours:minutes:seconds in hardware.slurm.time"),
    ("generic resource", "--gres", "`sinfo -o \"%N %G\"` shows what nodes have; set hardware.slurm.gres"),
    ("gres", "--gres", "`sinfo -o \"%N %G\"` shows what nodes have; set hardware.slurm.gres"),
    ("cpu count", "--cpus-per-task", "`sinfo -o \"%N %c\"` shows the nodes' processors; set hardware.slurm.cpus"),
    ("node count", "--nodes", "`sinfo -s` shows the partitions' nodes; set hardware.slurm.nodes"),
    ("node configuration", "--nodes", "no node is like that: see gres, cpus and nodes of hardware.slurm"),
    ("array", "--array", "`scontrol show config` has MaxArraySize and MaxJobCount"),
    ("dependency", "--dependency", "the jobs before it are gone already: `nanochat report` judges them"),
    ("limit", "", "a quota of the cluster is reached: wait for jobs to end, or lower hardware.slurm.throttle"),
];

impl ClusterError {
    /// A refusal of sbatch, with the line of the script that its message is about.
    pub(super) fn refused(message: &str, script: &str) -> Self {
        let said = message.to_lowercase();
        let cause = CAUSES.iter().find(|(words, ..)| said.contains(words));
        let line = cause.filter(|(_, key, _)| !key.is_empty()).and_then(|(_, key, _)| {
            let start = script.find(&format!("#SBATCH {key}"))?;
            let length = script.get(start..)?.lines().next()?.len();
            Some(SourceSpan::from((start, length)))
        });
        let help =
            cause.map_or("nothing more was submitted; the cluster's administrators know its rules", |cause| cause.2);
        Self::Refused {
            message: message.trim().replace("sbatch: error: ", "").replace('\n', "; "),
            script: NamedSource::new("job script", script.to_string()),
            line,
            help: help.to_string(),
        }
    }

    /// The labels of the error.
    #[cfg(test)]
    fn line_of(&self) -> Option<String> {
        let labels: Vec<miette::LabeledSpan> = miette::Diagnostic::labels(self)?.collect();
        let Self::Refused { script, .. } = self else { return None };
        let (start, length) = labels.first().map(|label| (label.offset(), label.len()))?;
        script.inner().get(start..start + length).map(str::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_points_at_the_line_that_caused_it() {
        let script = "#!/bin/bash\n#SBATCH --array=0-3\n#SBATCH --partition=nope\n#SBATCH --time=abc\ntrue\n";
        for (message, line) in [
            (
                "sbatch: error: invalid partition specified: nope\nsbatch: error: Batch job submission failed: Invalid partition name specified",
                Some("#SBATCH --partition=nope"),
            ),
            ("sbatch: error: Invalid --time specification", Some("#SBATCH --time=abc")),
            (
                "sbatch: error: Batch job submission failed: Invalid job array specification",
                Some("#SBATCH --array=0-3"),
            ),
            ("sbatch: error: QOSMaxSubmitJobPerUserLimit", None),
            ("sbatch: error: something else", None),
        ] {
            let error = ClusterError::refused(message, script);
            assert_eq!(error.line_of().as_deref(), line, "{message}");
            assert!(!error.to_string().contains("sbatch: error"), "{error}");
        }
    }
}
