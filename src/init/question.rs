//! What the user asks: what is compared, on which data, in how much time.

use std::path::{Path, PathBuf};

use nanochat_artifacts::check_name;
use nanochat_engine::data::detect;
use nanochat_plan::DataPlan;

use super::InitError;

/// Seed of the generated corpus.
const SYNTHETIC_SEED: u64 = 0;
/// Bytes of the generated corpus.
const SYNTHETIC_BYTES: u64 = 2_000_000;
/// Field of JSON lines that holds the document.
const FIELD: &str = "text";
/// How an argument of `--compare` is written.
const EXAMPLE: &str = "--compare optimizer.matrix_lr=0.2,0.3: the first value is the control";

/// Kinds of experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Template {
    /// One key: its first value is the control, the others are judged against it.
    #[default]
    Ablation,
    /// Every combination of the values of several keys, ranked, against the first of each.
    Sweep,
    /// Commits of karpathy/nanochat and this program, the first being the control.
    Arms,
    /// Model depths at one budget of FLOPs.
    Scaling,
}

/// A key, or the name of an arm, with its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Dotted key of the spec; of an arm its name.
    pub key: String,
    /// Values as YAML; of an arm its commit, or `native`.
    pub values: Vec<String>,
}

/// What a spec is written for.
#[derive(Debug, Clone)]
pub struct Question {
    /// The spec's file.
    pub file: PathBuf,
    /// Kind of experiment.
    pub template: Template,
    /// What is compared.
    pub compared: Vec<Compared>,
    /// The documents.
    pub data: DataPlan,
    /// Seconds that all runs together may take.
    pub seconds: f64,
    /// Difference in bits per byte that the seeds must show; none: as few seeds as give an interval.
    pub difference: Option<f64>,
    /// Name of the hardware profile; none: the one that fits this machine.
    pub profile: Option<String>,
}

impl Compared {
    /// Reads `KEY=A,B`.
    ///
    /// # Errors
    /// No key, or no value.
    pub fn parse(argument: &str) -> Result<Self, InitError> {
        let Some((key, values)) = argument.split_once('=').filter(|(key, _)| !key.trim().is_empty()) else {
            return Err(InitError::compare(argument, "it has no KEY=", EXAMPLE));
        };
        let values: Vec<String> = values.split(',').map(|value| value.trim().to_owned()).collect();
        if values.iter().any(String::is_empty) {
            return Err(InitError::compare(argument, "a value is empty", EXAMPLE));
        }
        Ok(Self { key: key.trim().to_owned(), values })
    }
}

impl Question {
    /// The experiment's name, which is the file's.
    pub(super) fn name(&self) -> Result<String, InitError> {
        let is_yaml = self.file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        let name = self.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match is_yaml && check_name("the experiment's name", &name).is_ok() {
            true => Ok(name),
            false => Err(InitError::Name { name }),
        }
    }

    /// Checks that the template can compare this.
    ///
    /// # Errors
    /// Too few or too many keys or values.
    pub fn check(&self) -> Result<(), InitError> {
        let written = |one: &Compared| format!("{}={}", one.key, one.values.join(","));
        match self.template {
            Template::Arms => return self.check_arms(),
            Template::Ablation if self.compared.len() != 1 => {
                let all: Vec<String> = self.compared.iter().map(written).collect();
                let help = format!("{EXAMPLE}; several keys are a --template sweep");
                return Err(InitError::compare(&all.join(" "), "an ablation compares the values of one key", help));
            }
            Template::Sweep if self.compared.is_empty() => {
                return Err(InitError::compare("", "a sweep needs at least one key", EXAMPLE));
            }
            Template::Scaling if self.compared.iter().any(|one| one.key != "model.depth") => {
                let help = "--compare model.depth=2,4,6, or leave it out for depths around what fits the time";
                return Err(InitError::compare(&written(&self.compared[0]), "scaling compares depths", help));
            }
            _ => {}
        }
        match self.compared.iter().find(|one| one.values.len() < 2) {
            Some(one) => Err(InitError::compare(&written(one), "there is nothing to compare one value with", EXAMPLE)),
            None => Ok(()),
        }
    }

    fn check_arms(&self) -> Result<(), InitError> {
        let help = "--compare control=COMMIT --compare candidate=COMMIT, each a full commit of karpathy/nanochat or a \
                    fork (40 hexadecimal digits), or NAME=native for this program; the first is the control";
        if self.compared.len() < 2 {
            let all: Vec<String> =
                self.compared.iter().map(|arm| format!("{}={}", arm.key, arm.values.join(","))).collect();
            return Err(InitError::compare(&all.join(" "), "arms need at least two names", help));
        }
        let full = |value: &str| value.len() == 40 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
        for arm in &self.compared {
            if !matches!(arm.values.as_slice(), [one] if one == "native" || full(one)) {
                let written = format!("{}={}", arm.key, arm.values.join(","));
                return Err(InitError::compare(&written, "it names no commit", help));
            }
        }
        match self.has_checkouts() && !self.data.is_parquet() {
            true => Err(InitError::ArmsNeedParquet),
            false => Ok(()),
        }
    }

    /// Whether an arm is a checkout.
    pub(super) fn has_checkouts(&self) -> bool {
        self.template == Template::Arms && self.compared.iter().any(|arm| arm.values[0] != "native")
    }

    /// Number of cells, or of arms.
    pub(super) fn cells(&self) -> u64 {
        match self.template {
            Template::Arms => self.compared.len() as u64,
            Template::Scaling if self.compared.is_empty() => super::sizes::DEPTHS,
            _ => self.compared.iter().map(|one| one.values.len() as u64).product(),
        }
    }

    /// How often each cell's first seed is run again.
    pub(super) fn repeats(&self) -> u64 {
        u64::from(!self.has_checkouts())
    }
}

/// Where a spec goes whose file wasn't named: by what it compares, among the project's other specs where there are any.
pub fn default_file(template: Template, compared: &[Compared]) -> PathBuf {
    let last = |one: &Compared| one.key.rsplit('.').next().unwrap_or_default().replace('_', "-");
    let name = match (template, compared) {
        (Template::Arms, _) => "arms".to_owned(),
        (Template::Scaling, _) => "scaling".to_owned(),
        (Template::Sweep, [_, _, ..]) | (_, []) => "sweep".to_owned(),
        (_, [one, ..]) => last(one),
    };
    Path::new("experiments").join(format!("{name}.yaml"))
}

/// The data that a user names: `synthetic`, a folder of shards or one file, by what lies there.
///
/// # Errors
/// Nothing there, or shards of no kind or several.
pub fn source(named: &str) -> Result<DataPlan, InitError> {
    match named {
        "synthetic" => Ok(DataPlan::Synthetic { seed: SYNTHETIC_SEED, bytes: SYNTHETIC_BYTES }),
        path => Ok(detect(path, FIELD, Path::new(""))?),
    }
}
