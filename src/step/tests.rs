use half::bf16;
use nanochat_kernels::gemm::ComputeDtype;
use nanochat_kernels::{Element as _, Kind, Stored};
use nanochat_plan::ModelShape;
use nanochat_plan::activations::{BatchSize, Pass, Slot};
use nanochat_plan::parameters::{Group, Parameter};
use nanochat_plan::shape::head_dim;

use super::{Arena, Batch, Cpu, LearningRates, Network, Optimizer, Recorder, Region, StepSettings};

const RATES: LearningRates = LearningRates { embedding: 0.3, unembedding: 0.008, matrix: 0.02, scalar: 0.5 };
const AT: StepSettings = StepSettings { lr_multiplier: 1.0, muon_momentum: 0.85, muon_weight_decay: 0.1 };

fn shapes() -> Vec<ModelShape> {
    let shape = |n_layer, (n_head, n_kv_head), n_embd, window_pattern: &str| ModelShape {
        sequence_len: 16,
        vocab_size: 37,
        n_layer,
        n_head,
        n_kv_head,
        n_embd,
        window_pattern: window_pattern.into(),
    };
    vec![shape(1, (1, 1), 24, "L"), shape(2, (2, 1), 32, "SL"), shape(5, (4, 2), 48, "SSL")]
}

/// Numbers in −1 … 1 that look random.
fn stream(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 * (-52f64).exp2() - 1.0
    }
}

const SIZE: BatchSize = BatchSize { rows: 2, length: 9 };

fn network(shape: &ModelShape, pass: Pass) -> Network {
    Network::new(shape, SIZE, pass, 2)
}

fn batch(shape: &ModelShape) -> (Vec<i32>, Vec<i32>) {
    let mut next = stream(7);
    let mut id = || ((next() + 1.0) / 2.0 * (shape.vocab_size as f64 - 1.0)) as i32;
    let ids = (0..SIZE.tokens()).map(|_| id()).collect();
    let targets = (0..SIZE.tokens()).map(|token| if token % 5 == 4 { -1 } else { id() }).collect();
    (ids, targets)
}

/// Arenas with random weights and rotary angles.
fn cpu<S: Stored>(network: &Network) -> Cpu<S> {
    let arenas: Vec<_> = network.arenas().into_iter().chain(network.moments()).collect();
    let compute_dtype = if S::KIND == Kind::Bf16 { ComputeDtype::Bf16 } else { ComputeDtype::Full };
    let mut cpu = Cpu::new(&arenas, compute_dtype);
    let mut next = stream(3);
    for entry in network.parameters().entries() {
        let scale = match entry.group {
            Group::ResidualScalars => 1.0,
            _ => 1.5 / (entry.columns as f64).sqrt(),
        };
        cpu.write(network.weight(entry.parameter))
            .iter_mut()
            .for_each(|weight| *weight = S::Element::of(scale * next()));
    }
    let half = head_dim(&network.shape) / 2;
    for (index, slot) in [Slot::Cosines, Slot::Sines].into_iter().enumerate() {
        for (place, value) in cpu.write(network.slot(slot)).iter_mut().enumerate() {
            let (position, channel) = (place / half, place % half);
            let angle = position as f64 * 1e5f64.powf(-(channel as f64) / half as f64);
            *value = S::Element::of(if index == 0 { angle.cos() } else { angle.sin() });
        }
    }
    cpu
}

/// Sum of the losses of a batch.
fn loss(network: &Network, cpu: &mut Cpu<f64>, (ids, targets): &(Vec<i32>, Vec<i32>)) -> f64 {
    network.micro_step(cpu, Batch { ids, targets, number: 0 }, 1.0);
    cpu.read(network.slot(Slot::Losses)).iter().sum()
}

#[test]
fn gradients_equal_finite_differences() {
    for shape in shapes() {
        let (training, evaluation) = (network(&shape, Pass::Training), network(&shape, Pass::Evaluation));
        let batch = batch(&shape);
        let (mut trained, mut evaluated) = (cpu::<f64>(&training), cpu::<f64>(&evaluation));
        let total = loss(&training, &mut trained, &batch);
        assert!((total - loss(&evaluation, &mut evaluated, &batch)).abs() < 1e-12);
        for entry in training.parameters().entries() {
            let gradient = trained.read(training.gradient(entry.parameter)).to_vec();
            assert!(gradient.iter().any(|slope| *slope != 0.0), "{:?} has no gradient", entry.parameter);
            // The steepest entry and two others: central differences lose half of f64's digits.
            let steepest = (0..gradient.len()).max_by(|a, b| gradient[*a].abs().total_cmp(&gradient[*b].abs()));
            for index in [steepest.unwrap(), 0, gradient.len() / 2] {
                let weight = training.weight(entry.parameter).element(index);
                let step = 1e-5;
                let mut shifted = |by: f64| {
                    evaluated.write(weight)[0] += by;
                    let total = loss(&evaluation, &mut evaluated, &batch);
                    evaluated.write(weight)[0] -= by;
                    total
                };
                let slope = (shifted(step) - shifted(-step)) / (2.0 * step);
                let difference = (slope - gradient[index]).abs();
                assert!(
                    difference < 1e-6 * (1.0 + slope.abs()),
                    "{:?}[{index}]: {slope}, {}",
                    entry.parameter,
                    gradient[index]
                );
            }
        }
    }
}

/// What holds something before a step begins: weights and moments, gradients set to zero, rotary angles.
fn loaded(network: &Network) -> Vec<Region> {
    let parameters = network.parameters();
    let all = |arena, len| Region { arena, offset: 0, len };
    let elements = parameters.elements();
    vec![
        all(Arena::Weights, elements),
        all(Arena::Gradients, elements),
        all(Arena::First, elements),
        all(Arena::Second, parameters.second_elements()),
        network.slot(Slot::Cosines),
        network.slot(Slot::Sines),
        network.mean_losses(),
    ]
}

#[test]
fn no_operation_reads_what_is_not_there_or_writes_what_it_reads() {
    for shape in shapes() {
        for pass in [Pass::Training, Pass::Evaluation] {
            let network = network(&shape, pass);
            let (ids, targets) = batch(&shape);
            let mut recorder = Recorder::default();
            network.micro_step(&mut recorder, Batch { ids: &ids, targets: &targets, number: 0 }, 1.0);
            assert_eq!(recorder.hazards(&loaded(&network)), []);
            let mut again = Recorder::default();
            network.micro_step(&mut again, Batch { ids: &targets, targets: &ids, number: 1 }, 0.5);
            assert_eq!(recorder, again, "the sequence depends on the batch");
            if pass == Pass::Training {
                let optimizer = Optimizer::new(network.parameters(), shape.n_embd, RATES);
                optimizer.step(&mut recorder, &AT, 1);
                assert_eq!(recorder.hazards(&loaded(&network)), []);
            }
        }
    }
}

/// What the backward pass reads of the forward pass is written once, and by nobody else before its last reader.
#[test]
fn what_is_kept_for_the_backward_pass_stays() {
    for shape in shapes() {
        let network = network(&shape, Pass::Training);
        let (ids, targets) = batch(&shape);
        let mut recorder = Recorder::default();
        network.micro_step(&mut recorder, Batch { ids: &ids, targets: &targets, number: 0 }, 1.0);
        let head = recorder.operations().iter().position(|(name, _)| name == "Head").unwrap();
        let workspaces = [
            Slot::Wide,
            Slot::WideGradient,
            Slot::NormedGradient,
            Slot::StreamGradient,
            Slot::InputGradient,
            Slot::MiddleGradient,
            Slot::Delta,
            Slot::Gates,
            Slot::Logits,
            Slot::FinalInverse,
        ];
        let kept = network.activations().slots().filter(|(slot, _)| !workspaces.contains(slot));
        for (slot, span) in kept {
            let region = network.slot(slot);
            assert_eq!(region.len, span.len);
            for (name, access) in &recorder.operations()[head + 1..] {
                let mut written = access.writes.iter().chain(&access.updates).chain(&access.workspaces);
                assert!(!written.any(|other| other.overlaps(region)), "{name} changes {slot:?}");
            }
        }
    }
}

/// A recorder finds what it is there for.
#[test]
fn planted_hazards_are_found() {
    use super::{Hazard, Op, Ops as _};
    let region = |offset, len| Region { arena: Arena::Activations, offset, len };
    let mut recorder = Recorder::default();
    recorder.run(&Op::Zero { out: region(0, 10) });
    recorder.run(&Op::Add { from: region(10, 10), onto: region(0, 10) });
    recorder.run(&Op::Zero { out: region(5, 10) });
    recorder.run(&Op::Add { from: region(0, 10), onto: region(8, 7) });
    let kinds: Vec<&str> = recorder
        .hazards(&[])
        .iter()
        .map(|hazard| match hazard {
            Hazard::ReadBeforeWrite { .. } => "unwritten",
            Hazard::Overwritten { .. } => "overwritten",
            Hazard::Aliased { .. } => "aliased",
        })
        .collect();
    assert_eq!(kinds, ["unwritten", "overwritten", "aliased"]);
}

/// The weights after three steps on so many threads; all of them have moved.
fn weights_after_steps<S: Stored<Element = f32>>(shape: &ModelShape, threads: usize) -> Vec<Vec<f32>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let network = network(shape, Pass::Training);
        let optimizer = Optimizer::new(network.parameters(), shape.n_embd, RATES);
        let (mut cpu, (ids, targets)) = (cpu::<S>(&network), batch(shape));
        for step in 1..=3 {
            network.zero_gradients(&mut cpu);
            network.micro_step(&mut cpu, Batch { ids: &ids, targets: &targets, number: 0 }, 0.1);
            optimizer.step(&mut cpu, &AT, step);
        }
        let before = self::cpu::<S>(&network);
        let entries = network.parameters().entries().iter().map(|entry| network.weight(entry.parameter));
        let weights: Vec<Vec<f32>> = entries.clone().map(|region| cpu.read(region).to_vec()).collect();
        for (region, after) in entries.zip(&weights) {
            assert!(before.read(region) != after.as_slice() && after.iter().all(|weight| weight.is_finite()));
        }
        weights
    })
}

/// Whatever activations are kept in.
#[test]
fn a_step_has_the_same_bits_for_any_number_of_threads() {
    for shape in shapes() {
        let in_f32 = weights_after_steps::<f32>(&shape, 1);
        assert_eq!(in_f32, weights_after_steps::<f32>(&shape, 3));
        let in_bf16 = weights_after_steps::<bf16>(&shape, 1);
        assert_eq!(in_bf16, weights_after_steps::<bf16>(&shape, 3));
        assert_ne!(in_f32, in_bf16, "nothing was rounded");
    }
}

#[test]
fn the_layout_names_every_parameter_the_step_uses() {
    let network = network(&shapes()[2], Pass::Training);
    assert!(network.parameters().get(Parameter::ValueEmbedding(4)).is_some());
    assert!(network.parameters().get(Parameter::ValueEmbedding(3)).is_none());
}
