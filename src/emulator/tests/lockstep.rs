//! Every operation against the processor's, on the same inputs.

use std::collections::BTreeSet;

use nanochat_gpu::{Dtype, GpuOps, KERNELS};
use nanochat_kernels::gemm::ComputeDtype;
use nanochat_step::{Arena, Batch, Coefficients, Cpu, MuonMember, Op, Ops, Optimizer, Region};

use super::{AT, RATES, cpu, distance, gpu, networks, pass, shapes};
use crate::Emulator;

/// In f32 both differ by orders of summation alone: a few units in the last place times what sums of some hundred terms lose.
const BOUND: f64 = 1e-5;
/// The same of what Polar Express works on: 2^-24 a thousandfold, and the few hundred terms of a sum.
const MUON_BOUND: f64 = 2e-4;
/// Where the true value is 0 (with one layer the backout takes a stream off itself) nothing but rounding is left.
const NOTHING: f32 = 1e-6;

/// Runs every operation on both, and compares what it wrote.
struct Lockstep {
    cpu: Cpu<f32>,
    gpu: GpuOps<Emulator>,
    /// Kernels launched on the way.
    seen: BTreeSet<String>,
    compared: usize,
}

impl Lockstep {
    fn compare(&mut self, op: &Op<'_>, region: Region) {
        let found = self.gpu.read(region).unwrap_or_else(|error| panic!("{op:?}: {error}"));
        let expected = self.cpu.widened(region);
        let off = distance(&found, &expected);
        let absolute = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < BOUND || absolute < NOTHING, "{region:?} of {op:?}: {off:e}, {absolute:e}");
        // From here on both have the same again.
        if region.arena != Arena::Weights {
            self.gpu.write(region, &expected).unwrap();
        }
        self.compared += 1;
    }
}

impl Lockstep {
    /// Momentum is elementary. The processor orthogonalises small matrices in f64, the device in f32, where five iterations raise
    /// rounding errors in directions of small singular values some thousandfold.
    fn compare_muon(&mut self, op: &Op<'_>, member: &MuonMember) {
        self.compare(op, member.momentum);
        for region in [member.parameter, member.second] {
            let found = self.gpu.read(region).unwrap();
            let off = distance(&found, self.cpu.read(region));
            assert!(off < MUON_BOUND, "{region:?} of {op:?}: {off:e}");
        }
        self.compared += 1;
    }
}

/// What both write alike: how queries, keys and values and the MLP's activations lie is each one's own.
fn written(op: &Op<'_>) -> Vec<Region> {
    let own: Vec<Region> = match op {
        Op::QueryKeyValue { layer, .. } => {
            [layer.qkv].into_iter().chain(layer.inverses).chain(layer.mix.map(|mix| mix.sigma)).collect()
        }
        Op::MlpOutput { hidden, .. } => vec![*hidden],
        Op::AttendBackward { dqkv, .. } | Op::QueryKeyValueBackward { dqkv, .. } => vec![*dqkv],
        _ => Vec::new(),
    };
    let access = op.access();
    access.writes.into_iter().chain(access.updates).filter(|region| !own.contains(region)).collect()
}

impl Ops for Lockstep {
    fn load_batch(&mut self, batch: Batch<'_>, factor: f64) {
        self.cpu.load_batch(batch, factor);
        self.gpu.load_batch(batch, factor);
    }

    fn load_coefficients(&mut self, coefficients: &Coefficients) {
        self.cpu.load_coefficients(coefficients);
        self.gpu.load_coefficients(coefficients);
    }

    fn run(&mut self, op: &Op<'_>) {
        self.cpu.run(op);
        self.gpu.run(op);
        self.gpu.check().unwrap_or_else(|error| panic!("{op:?}: {error}"));
        if let Op::Muon { members, .. } = op {
            members.iter().for_each(|member| self.compare_muon(op, member));
        } else {
            written(op).into_iter().for_each(|region| self.compare(op, region));
        }
        self.seen.extend(self.gpu.device().launches().iter().cloned());
    }
}

#[test]
fn every_operation_in_f32_gives_what_the_processor_gives() {
    let mut seen = BTreeSet::new();
    for shape in shapes() {
        let [on_cpu, on_gpu] = networks(&shape);
        // Both networks have the same slots but for the logits, which come last of what is stored in the run's precision and
        // are a workspace.
        let mut lockstep = Lockstep {
            cpu: cpu(&on_gpu, ComputeDtype::Full),
            gpu: gpu(&on_gpu, Dtype::F32, 0),
            seen: BTreeSet::new(),
            compared: 0,
        };
        assert_eq!(on_cpu.parameters(), on_gpu.parameters());
        pass(&on_gpu, &mut lockstep);
        Optimizer::new(on_gpu.parameters(), shape.n_embd, RATES).step(&mut lockstep, &AT, 1);
        assert!(lockstep.compared > 40 * shape.n_layer);
        seen.extend(lockstep.seen);
    }
    // Weights are copied in bf16 alone.
    let unseen: Vec<_> =
        KERNELS.iter().map(|kernel| kernel.symbol(Dtype::F32)).filter(|name| !seen.contains(*name)).collect();
    assert_eq!(unseen, ["copy_weights_f32"]);
}
