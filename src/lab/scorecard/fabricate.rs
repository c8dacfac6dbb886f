//! Makes result folders for tests: plausible documents and tables with the figures that a test wants.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::statistics::SplitMix64;
use nanochat_artifacts::*;
use nanochat_plan::*;

pub(crate) const COMMIT: &str = "92d63d4e8bb4df75c3b71618f31ddde2378b2bcd";
pub(crate) const MACHINE: &str = "4f0c2d9b7a6e1f3c";
pub(crate) const BATCH: u64 = 4096;

/// A project folder that is being filled.
pub(crate) struct Project {
    pub folder: tempfile::TempDir,
    pub record: ExperimentRecord,
    pub steps: u64,
}

/// What a test wants of one run; everything else is filled in.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub depth: Option<usize>,
    pub seed: u64,
    pub repeat: u64,
    pub bpb: f64,
    pub seconds: f64,
    pub machine: String,
    pub binary: String,
    pub status: RunStatus,
    /// Another precision, as an axis of the matrix.
    pub dtype: Option<Precision>,
}

impl Wanted {
    pub fn seed(seed: u64, bpb: f64) -> Self {
        Self {
            depth: None,
            seed,
            repeat: 0,
            bpb,
            seconds: 0.2,
            machine: MACHINE.into(),
            binary: "e".repeat(64),
            status: RunStatus::Finished,
            dtype: None,
        }
    }

    pub fn dtype(self, dtype: Precision) -> Self {
        Self { dtype: Some(dtype), ..self }
    }

    pub fn depth(self, depth: usize) -> Self {
        Self { depth: Some(depth), ..self }
    }

    pub fn repeat(self, repeat: u64) -> Self {
        Self { repeat, ..self }
    }

    fn run_id(&self, plan_hash: &str) -> String {
        let depth = self.depth.map(|d| format!("depth{d}-")).unwrap_or_default();
        let repeat = if self.repeat > 0 { format!("-r{}", self.repeat) } else { String::new() };
        let depth = format!("{depth}{}", self.dtype.map(|dtype| format!("{}-", dtype.word())).unwrap_or_default());
        format!("{depth}s{}{repeat}-{}", self.seed, &plan_hash[..8])
    }
}

impl Project {
    pub fn new(name: &str) -> Self {
        let record = ExperimentRecord {
            schema: ExperimentRecord::SCHEMA.into(),
            name: name.into(),
            description: "Does it hold up?".into(),
            baseline_commit: COMMIT.into(),
            baseline_results: None,
            control: None,
            quality: QualityRule { claim: None, metric: QualityMetric::ValBpb, relative: Some(0.002), absolute: None },
            speed: SpeedRule { claim: None, metric: SpeedMetric::TokensPerSecond, min_ratio: 1.0 },
            reproducibility: ReproducibilityRule { repeats: 1, require: ReproducibilityLevel::Bitwise },
            drift: None,
            ruleset: "v1".into(),
            spec: None,
            runs: Vec::new(),
        };
        Self { folder: tempfile::tempdir().expect("a temporary folder"), record, steps: 60 }
    }

    pub fn root(&self) -> ResultsRoot {
        ResultsRoot::new(self.folder.path())
    }

    pub fn experiment(&self) -> ExperimentFolder {
        self.root().experiment(&self.record.name).expect("a fine name")
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the record with all runs added so far.
    pub fn write_record(&self) -> &Self {
        write_document(&self.experiment().record(), &self.record).expect("written");
        self
    }

    pub fn scorecard(&self) -> Scorecard {
        self.write_record();
        super::build(&self.experiment(), self.path()).expect("a scorecard")
    }

    pub fn add(&mut self, wanted: Wanted) -> RunFolder {
        self.add_with(wanted, |_, _, _| {})
    }

    /// Adds a run, letting the test change its documents before they are written.
    pub fn add_with(
        &mut self,
        wanted: Wanted,
        change: impl FnOnce(&mut RunPlan, &mut Summary, &mut Environment),
    ) -> RunFolder {
        let mut plan = plan(&self.record.name, &wanted, self.steps);
        let folder = self.experiment().run(&plan.run_id).expect("a fine name");
        let (rows, evals) = tables(&wanted, self.steps);
        write_steps(&folder.steps(), &rows).expect("written");
        write_evals(&folder.evals(), &evals).expect("written");
        let mut summary = summary(&plan, &wanted, &rows, &evals, &folder);
        let mut environment = environment(&wanted);
        change(&mut plan, &mut summary, &mut environment);
        write_document(&folder.plan(), &plan).expect("written");
        write_document(&folder.summary(), &summary).expect("written");
        write_document(&folder.environment(), &environment).expect("written");
        self.record.runs.push(plan.run_id);
        folder
    }

    /// Records baseline runs and names the recording in the experiment.
    pub fn baseline(&mut self, runs: Vec<BaselineRun>) {
        let path = format!("results/baselines/{}/tiny.json", &COMMIT[..12]);
        let result =
            BaselineResult { schema: BaselineResult::SCHEMA.into(), commit: COMMIT.into(), name: "tiny".into(), runs };
        write_document(&self.path().join(&path), &result).expect("written");
        self.record.baseline_results = Some(path);
    }

    /// A baseline run that matches the runs of [`Wanted::seed`] in budget.
    pub fn baseline_run(&self, seed: u64, bpb: f64, seconds: f64) -> BaselineRun {
        let wanted = Wanted { seconds, ..Wanted::seed(seed, bpb) };
        let plan = plan("baseline", &wanted, self.steps);
        let (rows, evals) = tables(&wanted, self.steps);
        BaselineRun {
            seed,
            status: RunStatus::Finished,
            reason: None,
            flags: vec!["--device-batch-size=4".into(), "--eval-tokens=65536".into()],
            model: plan.model,
            steps: self.steps,
            tokens: plan.total_tokens,
            total_batch_size: BATCH,
            final_val_bpb: Some(bpb),
            min_val_bpb: Some(bpb),
            core_metric: None,
            evals: evals.iter().filter_map(|row| Some((row.step, row.val_bpb?))).collect(),
            losses: rows.iter().map(|row| row.loss).collect(),
            tokens_per_second: median_tokens_per_second(&rows, BATCH),
            step_seconds: rows.iter().map(|row| row.seconds).collect(),
            training_seconds: Some(training_seconds(&rows)),
            elapsed_seconds: None,
            peak_rss_bytes: None,
            data_sha256: Some("b".repeat(64)),
            tokenizer_sha256: Some("c".repeat(64)),
            first_batch_sha256: Some("f".repeat(64)),
            dtype: Precision::F32,
            machine_id: Some(MACHINE.into()),
            versions: BTreeMap::from([("torch".into(), "2.9.1".into())]),
            measured: None,
            provenance: None,
        }
    }

    /// A baseline run beside a run of ours, as block `number` has it, in a precision.
    pub fn beside(&self, base: BaselineRun, dtype: Precision, number: u64, candidate_run: &str) -> BaselineRun {
        let steps = base.step_seconds.iter().scan(9.0, |at, seconds| {
            *at += seconds;
            Some(*at)
        });
        let evals = base.evals.iter().map(|(step, _)| {
            let stepping: f64 = base.step_seconds.iter().take(*step as usize).sum();
            9.0 + stepping + 0.5 * (step / 10) as f64
        });
        BaselineRun {
            dtype,
            elapsed_seconds: Some(30.0),
            peak_rss_bytes: Some(1_500_000_000 + number),
            measured: Some(BaselineMeasurement {
                startup_seconds: base.step_seconds.first().map(|first| 9.0 + first),
                eval_printed_seconds: evals.collect(),
                step_printed_seconds: steps.collect(),
                cpu_seconds: None,
                peak_tree_rss_bytes: None,
                warm_compile_cache: true,
            }),
            provenance: Some(BaselineProvenance {
                source: "run".into(),
                plan_hash: None,
                variant: Some(format!("{}-threads2", dtype.word())),
                threads: Some(2),
                environment: BTreeMap::new(),
                block: Some(BaselineBlock {
                    number,
                    baseline_first: number % 2 == 1,
                    candidate_run: Some(candidate_run.into()),
                    of_arms: None,
                }),
                first_validation_batch_sha256: None,
                batches_agree: Some(true),
                weights_sha256: None,
                log_sha256: "a".repeat(64),
                warnings: Vec::new(),
                cpu: None,
                cores: Some(2),
                gpus: Vec::new(),
                program_version: "0.1.0".into(),
                finished_at: Some("2026-07-10T11:58:00Z".into()),
            }),
            ..base
        }
    }
}

fn plan(experiment: &str, wanted: &Wanted, steps: u64) -> RunPlan {
    let depth = wanted.depth.unwrap_or(4);
    let depth_axis = wanted.depth.map(|d| ("model.depth".to_string(), json!(d)));
    let dtype_axis = wanted.dtype.map(|dtype| ("hardware.dtype".to_string(), json!(dtype.word())));
    let axes = depth_axis.into_iter().chain(dtype_axis).collect();
    let dials = DeriveInputs {
        head_dim: 64,
        sequence_len: 256,
        n_embd: Some(128),
        total_batch_size: Some(BATCH),
        budget: BudgetPlan::Iterations(steps),
        ..DeriveInputs::baseline(depth, 1024)
    };
    let settings = Settings {
        optimizer: OptimizerPlan {
            unembedding_lr: 0.004,
            weight_decay: 0.2,
            warmup_steps: 0,
            warmdown_ratio: 0.5,
            final_lr_frac: 0.0,
            ..OptimizerPlan::BASELINE
        },
        eval: EvalPlan { every: 10, tokens: 65_536, core: None },
        profile: Profile { dtype: wanted.dtype.unwrap_or(Precision::F32), ..Profile::cpu(4, 2) },
        ..Settings::baseline(
            dials,
            DataPlan::Synthetic { seed: 1, bytes: 4_000_000 },
            TokenizerPlan::Train { vocab_size: 1024, max_chars_per_document: 10_000, max_chars: 1_000_000 },
            Profile::cpu(4, 2),
        )
    };
    let mut plan = RunPlan {
        repeat: wanted.repeat,
        hardware: "cpu-smoke".into(),
        // Round figures, which the tests count with.
        flops_per_token: 6_000_000,
        total_flops: u128::from(steps * BATCH) * 6_000_000,
        lr_scale: 0.25,
        weight_decay: 0.1,
        ..settings.plan(experiment, &axes, wanted.seed).expect("plannable")
    };
    plan.plan_hash = plan_hash(&plan);
    plan.run_id = wanted.run_id(&plan.plan_hash);
    plan
}

/// Steps whose times wobble and whose loss falls; evaluations that end at the wanted figure. The same seed gives the same.
fn tables(wanted: &Wanted, steps: u64) -> (Vec<StepRow>, Vec<EvalRow>) {
    let mut noise = SplitMix64::new(wanted.seed);
    let mut timing = SplitMix64::new(wanted.seed ^ wanted.repeat << 32 ^ wanted.seconds.to_bits());
    let unit = |generator: &mut SplitMix64| (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let rows: Vec<StepRow> = (0..steps)
        .map(|step| {
            let start = if step == 0 { 3.0 } else { 1.0 };
            StepRow {
                step,
                tokens: (step + 1) * BATCH,
                loss: 2.2 * wanted.bpb + 5.0 * (-(step as f64) / 15.0).exp() + 0.05 * unit(&mut noise),
                lr_multiplier: 1.0,
                muon_momentum: 0.85,
                muon_weight_decay: 0.1,
                seconds: wanted.seconds * start * (1.0 + 0.02 * unit(&mut timing)),
                rss_bytes: 400_000_000 + step * 1000,
            }
        })
        .collect();
    let evals = (0..=steps)
        .filter(|step| step % 10 == 0 || *step == steps)
        .map(|step| EvalRow {
            step,
            tokens: step * BATCH,
            val_bpb: Some(if step == steps { wanted.bpb } else { wanted.bpb + 2.0 * (-(step as f64) / 15.0).exp() }),
            core_metric: None,
            training_seconds: step as f64 * wanted.seconds,
            eval_seconds: 0.5,
            rss_bytes: Some(400_000_000),
        })
        .collect();
    (rows, evals)
}

fn summary(plan: &RunPlan, wanted: &Wanted, rows: &[StepRow], evals: &[EvalRow], folder: &RunFolder) -> Summary {
    let last = evals.last().and_then(|row| row.val_bpb);
    let hash = |path: &Path| file_sha256(path).expect("a hash");
    Summary {
        schema: Summary::SCHEMA.into(),
        run_id: plan.run_id.clone(),
        plan_hash: plan.plan_hash.clone(),
        status: wanted.status,
        reason: None,
        steps: plan.num_iterations,
        tokens: plan.total_tokens,
        final_val_bpb: last,
        min_val_bpb: evals.iter().filter_map(|row| row.val_bpb).min_by(f64::total_cmp),
        core_metric: None,
        train_loss: rows.last().map(|row| row.loss),
        tokens_per_second: median_tokens_per_second(rows, BATCH),
        training_seconds: training_seconds(rows),
        elapsed_seconds: 20.0,
        startup_seconds: Some(1.5),
        peak_rss_bytes: 450_000_000,
        peak_device_bytes: None,
        weights_sha256: Some(bytes_sha256(format!("{} {}", wanted.seed, wanted.bpb).as_bytes())),
        initial_weights_sha256: Some(bytes_sha256(format!("{} {}", wanted.seed, plan.model.n_layer).as_bytes())),
        loss_trace_sha256: Some(loss_trace_sha256(rows)),
        data_sha256: "b".repeat(64),
        tokenizer_sha256: "c".repeat(64),
        bundle_sha256: None,
        first_batch_sha256: Some("f".repeat(64)),
        files_sha256: BTreeMap::from([
            ("steps.parquet".into(), hash(&folder.steps())),
            ("evals.parquet".into(), hash(&folder.evals())),
        ]),
        rollbacks: Vec::new(),
        adopted_steps: 0,
        continued_from: Vec::new(),
        arm: None,
    }
}

fn environment(wanted: &Wanted) -> Environment {
    Environment {
        schema: Environment::SCHEMA.into(),
        program_version: "0.1.0".into(),
        code_commit: Some("1234567890abcdef1234567890abcdef12345678".into()),
        code_clean: Some(true),
        deciding_code_sha256: None,
        binary_sha256: wanted.binary.clone(),
        os: "Linux 6.1".into(),
        arch: "x86_64".into(),
        cpu: "Example CPU @ 2.0 GHz".into(),
        cpu_stepping: Some("family 6, model 143, stepping 8".into()),
        cpu_features: vec!["avx2".into(), "fma".into()],
        cores: 2,
        threads: 2,
        memory_bytes: 25_769_803_776,
        gpus: Vec::new(),
        machine_id: wanted.machine.clone(),
        libraries: BTreeMap::from([("candle-core".into(), "0.11.1".into())]),
        finished_at: "2026-07-10T12:00:00Z".into(),
        hardware_matches_profile: true,
        block: None,
    }
}
