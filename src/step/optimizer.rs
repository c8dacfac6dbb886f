//! The optimizer's step over all parameters: AdamW and Muon, as the baseline sets them up (`setup_optimizer`).

use nanochat_kernels::adamw;
use nanochat_plan::RunPlan;
use nanochat_plan::parameters::{Entry, Group, ParameterLayout};

use super::ops::{Arena, Coefficients, MUON_GROUPS, MuonMember, Op, Ops, Region};

/// Width at which AdamW's learning rates were tuned; they scale with 1/√width from there.
const TUNED_WIDTH: f64 = 768.0;
/// Learning rate of smear and backout, whatever the others are.
const SMEAR_LEARNING_RATE: f64 = 0.2;
/// Residual scalars learn at this share of the scalars' rate.
const RESIDUAL_SHARE: f64 = 0.01;
/// Value embeddings learn at this share of the embeddings' rate.
const VALUE_EMBEDDING_SHARE: f64 = 0.5;
/// Added to the root of AdamW's second moment.
const EPSILON: f32 = 1e-10;
/// AdamW's groups, in the order of their coefficients.
pub const ADAMW_GROUPS: [Group; 6] = [
    Group::Head,
    Group::TokenEmbedding,
    Group::ValueEmbeddings,
    Group::ResidualScalars,
    Group::InputScalars,
    Group::Smear,
];

/// Base learning rates, after the factor for the batch size, before the one for the width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRates {
    /// Token and value embeddings (AdamW).
    pub embedding: f64,
    /// Output projection (AdamW).
    pub unembedding: f64,
    /// Layer matrices (Muon).
    pub matrix: f64,
    /// Residual and input scalars (AdamW).
    pub scalar: f64,
}

impl LearningRates {
    /// Those of a plan.
    pub fn of(plan: &RunPlan) -> Self {
        let (base, scale) = (&plan.optimizer, plan.lr_scale);
        Self {
            embedding: base.embedding_lr * scale,
            unembedding: base.unembedding_lr * scale,
            matrix: base.matrix_lr * scale,
            scalar: base.scalar_lr * scale,
        }
    }
}

/// AdamW's hyperparameters for one group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWRule {
    /// Base learning rate.
    pub learning_rate: f64,
    /// Decay of the first and second moments.
    pub betas: [f64; 2],
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// What the schedules give for one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepSettings {
    /// Factor on every learning rate.
    pub lr_multiplier: f64,
    /// Muon's momentum.
    pub muon_momentum: f64,
    /// Muon's weight decay.
    pub muon_weight_decay: f64,
}

/// One parameter of AdamW.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AdamWMember {
    group: usize,
    span: Region,
    second: Region,
}

/// Muon's matrices of one shape.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MuonStep {
    rows: usize,
    columns: usize,
    members: Vec<MuonMember>,
}

/// The sequence of an optimizer step.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimizer {
    width: usize,
    rates: LearningRates,
    adamw: Vec<AdamWMember>,
    muon: Vec<MuonStep>,
}

impl Optimizer {
    /// That of a layout's parameters, for a model of this width.
    pub fn new(layout: &ParameterLayout, width: usize, rates: LearningRates) -> Self {
        let muon = layout.muon_groups().into_iter().map(|group| MuonStep {
            rows: group.rows,
            columns: group.columns,
            members: group.members.iter().filter_map(|place| layout.entries().get(*place)).map(member).collect(),
        });
        let adamw = layout.entries().iter().filter_map(|entry| {
            let group = ADAMW_GROUPS.iter().position(|group| *group == entry.group)?;
            let (span, second) = (Region::new(Arena::Weights, entry.span), Region::new(Arena::Second, entry.second));
            Some(AdamWMember { group, span, second })
        });
        let (adamw, muon): (Vec<_>, Vec<_>) = (adamw.collect(), muon.collect());
        debug_assert!(muon.len() <= MUON_GROUPS);
        Self { width, rates, adamw, muon }
    }

    /// The number of Muon's group of matrices of these rows and columns.
    pub fn muon_group(&self, rows: usize, columns: usize) -> Option<usize> {
        self.muon.iter().position(|muon| (muon.rows, muon.columns) == (rows, columns))
    }

    /// The matrices of Muon's groups, in order of the groups' numbers.
    pub fn muon_members(&self) -> impl Iterator<Item = &[MuonMember]> {
        self.muon.iter().map(|muon| muon.members.as_slice())
    }

    /// Steps all parameters along their gradients; `step` counts from 1.
    pub fn step(&self, ops: &mut impl Ops, at: &StepSettings, step: u64) {
        ops.load_coefficients(&self.coefficients(at, step));
        self.update(ops);
    }

    /// The same by coefficients that were loaded.
    pub fn update(&self, ops: &mut impl Ops) {
        for &AdamWMember { group, span, second } in &self.adamw {
            let [gradient, first] = [Arena::Gradients, Arena::First].map(|arena| Region { arena, ..span });
            ops.run(&Op::AdamW { parameter: span, gradient, first, second, group });
        }
        for (group, muon) in self.muon.iter().enumerate() {
            let MuonStep { rows, columns, members } = muon;
            ops.run(&Op::Muon { group, rows: *rows, columns: *columns, members });
        }
    }

    /// What the step numbered `step` from 1 multiplies by.
    pub fn coefficients(&self, at: &StepSettings, step: u64) -> Coefficients {
        let mut coefficients = Coefficients {
            adamw: ADAMW_GROUPS.map(|group| self.adamw(group, at.lr_multiplier, step)),
            muon_momentum: at.muon_momentum as f32,
            muon_weight_decay: at.muon_weight_decay as f32,
            ..Coefficients::default()
        };
        for (rate, muon) in coefficients.muon_learning_rates.iter_mut().zip(&self.muon) {
            let tall = (muon.rows as f64 / muon.columns as f64).max(1.0);
            *rate = (self.rates.matrix * tall.sqrt() * at.lr_multiplier) as f32;
        }
        coefficients
    }

    fn adamw(&self, group: Group, multiplier: f64, step: u64) -> adamw::Coefficients<f32> {
        let rule = adamw_rule(group, self.width, &self.rates);
        let rate = (rule.learning_rate * multiplier) as f32;
        let [beta1, beta2] = rule.betas.map(|beta| beta as f32);
        let bias = |beta: f32| 1.0 - beta.powf(step as f32);
        adamw::Coefficients {
            keep: 1.0 - rate * rule.weight_decay as f32,
            new_first: 1.0 - beta1,
            new_second: 1.0 - beta2,
            second_bias: bias(beta2),
            step_size: rate / bias(beta1),
            epsilon: EPSILON,
        }
    }
}

/// How AdamW steps the parameters of a group; Muon's are stepped otherwise, and none of these figures is theirs.
pub fn adamw_rule(group: Group, width: usize, rates: &LearningRates) -> AdamWRule {
    let for_width = (width as f64 / TUNED_WIDTH).powf(-0.5);
    let (learning_rate, betas, weight_decay) = match group {
        Group::Head => (rates.unembedding * for_width, [0.8, 0.96], 0.01),
        Group::TokenEmbedding => (rates.embedding * for_width, [0.8, 0.995], 0.001),
        Group::ValueEmbeddings => (rates.embedding * for_width * VALUE_EMBEDDING_SHARE, [0.8, 0.995], 0.01),
        Group::ResidualScalars => (rates.scalar * RESIDUAL_SHARE, [0.8, 0.95], 0.05),
        Group::InputScalars => (rates.scalar, [0.96, 0.95], 0.0),
        Group::Smear | Group::Muon => (SMEAR_LEARNING_RATE, [0.8, 0.95], 0.0),
    };
    AdamWRule { learning_rate, betas, weight_decay }
}

fn member(entry: &Entry) -> MuonMember {
    MuonMember {
        parameter: Region::new(Arena::Weights, entry.span),
        gradient: Region::new(Arena::Gradients, entry.span),
        momentum: Region::new(Arena::First, entry.span),
        second: Region::new(Arena::Second, entry.second),
    }
}
