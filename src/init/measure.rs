//! The engine, measured for some steps on the data that the experiment will train on.

use nanochat_artifacts::ResultsRoot;
use nanochat_engine::data::Split;
use nanochat_experiment::{self as experiment, LoadOptions, load_profile, profile_names};
use nanochat_plan::{DeviceKind, Profile, RunPlan};

use super::sizes::Size;
use super::spec::{self, Budget, Draft};
use super::{InitError, Question};
use crate::bench::{self, Subject, TrainOptions};
use crate::hardware::{self, Machine};
use crate::run::Resources;

/// Steps that are timed, and how many of the first don't count.
const STEPS: TrainOptions = TrainOptions { steps: 8, warmup: 3, evaluate: true };
/// Steps of the plan that is measured, at least.
const PLANNED_STEPS: u64 = 64;
/// Share of the validation tokens that are sure to be in whole rows, since the ends of documents are cut.
const IN_ROWS: f64 = 0.8;
/// Validation tokens that are counted, at most.
const COUNTED: u64 = 4 << 20;

/// What a size of model does here.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    /// The plan that was measured.
    pub plan: RunPlan,
    /// Seconds of a step.
    pub step_seconds: f64,
    /// Seconds of an evaluated token.
    pub eval_seconds_per_token: f64,
    /// Validation tokens that are sure to be there, or as many as were counted.
    pub validation_tokens: u64,
}

impl Measured {
    /// The rate of training in TFLOP/s.
    pub fn tflops(&self) -> f64 {
        self.plan.flops_per_token as f64 * self.plan.total_batch_size as f64 / self.step_seconds / 1e12
    }

    /// Tokens a second.
    pub fn tokens_per_second(&self) -> f64 {
        self.plan.total_batch_size as f64 / self.step_seconds
    }
}

/// Measures sizes of model for a question.
pub(super) struct Bench<'a> {
    question: &'a Question,
    root: &'a ResultsRoot,
    name: &'a str,
    /// The profile.
    pub profile: Profile,
}

impl<'a> Bench<'a> {
    pub fn new(question: &'a Question, root: &'a ResultsRoot, name: &'a str, profile: Profile) -> Self {
        Self { question, root, name, profile }
    }

    /// Trains a size for some steps.
    pub fn measure(&mut self, size: Size) -> Result<Measured, InitError> {
        let batch = size.device_batch_size * size.sequence_len as u64;
        let draft = Draft {
            size,
            budget: Budget::Iterations(PLANNED_STEPS),
            warmup: 1,
            eval_every: 0,
            eval_tokens: 2 * batch,
            seeds: 1,
            profile: self.profile.name.clone(),
            tflops: None,
            comments: spec::Comments::default(),
        };
        // Shape and speed of the control alone: what is compared may change either a little.
        let text = spec::render_cell(self.question, self.name, &draft);
        let loaded = experiment::load_bytes(&self.question.file, text.as_bytes(), &LoadOptions::default())?;
        let mut plan = experiment::expand(&loaded).map_err(InitError::plan)?.swap_remove(0);
        let mut resources = Resources::new(self.root);
        let validation_tokens = self.validation_tokens(&plan, &mut resources)?;
        if validation_tokens < batch {
            let data = plan.data.path().unwrap_or("the generated corpus").to_owned();
            return Err(InitError::SmallValidation { data, tokens: validation_tokens, batch });
        }
        plan.eval.tokens = plan.eval.tokens.min(validation_tokens / batch * batch);
        let mut subject = Subject { plan: plan.clone(), resources, hardware_matches: true };
        let document = bench::train(&mut subject, STEPS, &mut |_| {})?;
        let rate = document.tokens_per_second.unwrap_or(f64::MIN_POSITIVE);
        let evaluation = document.evaluation.map_or(0.0, |one| one.seconds / one.tokens.max(1) as f64);
        Ok(Measured {
            step_seconds: plan.total_batch_size as f64 / rate,
            eval_seconds_per_token: evaluation,
            plan,
            validation_tokens,
        })
    }

    fn validation_tokens(&self, plan: &RunPlan, resources: &mut Resources) -> Result<u64, InitError> {
        let corpus = resources.corpus(&plan.data)?;
        let tokenizer = resources.tokenizer(plan, &corpus)?;
        let mut tokens = 0u64;
        for document in corpus.documents(Split::Validation) {
            tokens += tokenizer.encode(&document?).len() as u64 + 1;
            if tokens >= COUNTED {
                break;
            }
        }
        Ok((tokens as f64 * IN_ROWS) as u64)
    }
}

/// The profile by name, or else the one that fits this machine: a GPU's where this program can use one, else `cpu`.
pub(super) fn profile(named: Option<&str>) -> Result<Profile, InitError> {
    let machine = hardware::this_machine();
    if let Some(name) = named {
        let profile = load_profile(name)?;
        hardware::check(&profile, &machine)?;
        return Ok(profile);
    }
    let candidates = gpu_profiles(&machine).into_iter().chain(["cpu", "cpu-smoke"].map(str::to_owned));
    let loaded = candidates.filter_map(|name| load_profile(&name).ok());
    let mut mismatch = None;
    for profile in loaded {
        match hardware::check(&profile, &machine) {
            Ok(()) => return Ok(profile),
            Err(found) => mismatch = Some(found),
        }
    }
    match mismatch {
        Some(mismatch) => Err(mismatch.into()),
        None => Ok(load_profile("cpu")?),
    }
}

/// Profiles of one GPU, those that name its model first; none where this program has no engine for GPUs.
fn gpu_profiles(machine: &Machine) -> Vec<String> {
    if machine.gpus.is_empty() || !matches!(hardware::gpu_engine(), Some(Ok(_))) {
        return Vec::new();
    }
    let names = profile_names();
    let of_one = |name: &String| {
        let profile = load_profile(name).ok()?;
        let fits = profile.device == DeviceKind::Cuda && profile.device_count == 1;
        fits.then(|| (profile.requirements.gpu.is_none(), name.clone()))
    };
    let mut found: Vec<(bool, String)> = names.iter().filter_map(of_one).collect();
    found.sort();
    found.into_iter().map(|(_, name)| name).collect()
}
