//! What a step costs a GPU, counted from its operations: bytes that kernels move and operations that products and attention do.
//! With a GPU's rates that is the time to expect, kernel by kernel, beside which a measurement can be held.

use std::collections::BTreeMap;

use nanochat_plan::activations::Chunks;
use nanochat_step::{Attention, Batch, Coefficients, Matrix, Network, Op, Ops, Optimizer, QueryKeyValue, Region};

use crate::Dtype;

/// Different ids among the tokens of a batch, as a share of them: a guess, of which little hangs.
const DISTINCT: f64 = 0.25;

/// What some commands cost in all.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cost {
    /// Commands.
    pub commands: usize,
    /// Bytes read and written in memory.
    pub bytes: f64,
    /// Floating-point operations of products and attention.
    pub flops: f64,
}

/// What a GPU does in a second where nothing else holds it up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Bytes a second of copies, read and written counted both.
    pub bytes: f64,
    /// Operations a second of large products.
    pub products: f64,
    /// Operations a second of attention, forward.
    pub attention: f64,
    /// Operations a second of attention, backward.
    pub attention_backward: f64,
}

impl Rates {
    /// Measured on an H200 (`experiments/LOG.md`): d12's products, and attention with heads of 128 channels over 2,048 tokens.
    pub const H200: Self = Self { bytes: 4.2e12, products: 690e12, attention: 530e12, attention_backward: 400e12 };
}

/// Costs by what is done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Forecast {
    costs: BTreeMap<&'static str, Cost>,
    storage: f64,
    tokens: f64,
}

impl Forecast {
    /// A micro-step of a network with activations stored so.
    pub fn micro_step(network: &Network, storage: Dtype) -> Self {
        let tokens = network.activations().batch().tokens();
        let mut forecast = Self { storage: storage.bytes() as f64, tokens: tokens as f64, ..Self::default() };
        network.forward(&mut forecast);
        network.head(&mut forecast);
        network.backward(&mut forecast);
        forecast
    }

    /// A step of the optimizer.
    pub fn optimizer(optimizer: &Optimizer, storage: Dtype) -> Self {
        let mut forecast = Self { storage: storage.bytes() as f64, ..Self::default() };
        optimizer.update(&mut forecast);
        forecast
    }

    /// Costs by what is done, in order of names.
    pub fn costs(&self) -> impl Iterator<Item = (&'static str, Cost)> + '_ {
        self.costs.iter().map(|(name, cost)| (*name, *cost))
    }

    /// The sum of all.
    pub fn total(&self) -> Cost {
        self.costs.values().fold(Cost::default(), |sum, cost| Cost {
            commands: sum.commands + cost.commands,
            bytes: sum.bytes + cost.bytes,
            flops: sum.flops + cost.flops,
        })
    }

    /// Seconds at some rates, by what is done.
    pub fn seconds(&self, rates: &Rates) -> Vec<(&'static str, f64)> {
        let seconds = |(name, cost): (&'static str, Cost)| {
            let rate = match name {
                "attention" => rates.attention,
                "attention backward" => rates.attention_backward,
                _ => rates.products,
            };
            (name, cost.bytes / rates.bytes + cost.flops / rate)
        };
        self.costs().map(seconds).collect()
    }

    fn add(&mut self, name: &'static str, bytes: f64, flops: f64) {
        let cost = self.costs.entry(name).or_default();
        *cost = Cost { commands: cost.commands + 1, bytes: cost.bytes + bytes, flops: cost.flops + flops };
    }

    /// A kernel that moves as many bytes as these many times a region's elements.
    fn moves(&mut self, name: &'static str, region: Region, times: f64) {
        self.add(name, times * self.storage * region.len as f64, 0.0);
    }

    /// A product whose operands and result are counted as computed, not as moved: its time is its operations'.
    fn product(&mut self, name: &'static str, a: Matrix, b: Matrix) {
        let taken = |matrix: Matrix| {
            if matrix.transposed { [matrix.columns, matrix.rows] } else { [matrix.rows, matrix.columns] }
        };
        let ([rows, inner], [_, columns]) = (taken(a), taken(b));
        self.add(name, 0.0, 2.0 * rows as f64 * inner as f64 * columns as f64);
    }

    fn layer(&mut self, layer: &QueryKeyValue, backward: bool) {
        let elements = |heads: nanochat_step::Heads| self.tokens * (heads.count * heads.size) as f64;
        let (turned, values) = (elements(layer.queries) + elements(layer.keys), elements(layer.keys));
        let [x, weights] = [layer.x.len, layer.weights.iter().map(|weight| weight.region.len).sum()];
        let flops = 2.0 * x as f64 / layer.width as f64 * weights as f64;
        let mixed = if layer.mix.is_some() { values } else { 0.0 };
        if backward {
            self.add("products", 0.0, 2.0 * flops);
            // The gradient in place, and what was turned; of values, the gradient and the table.
            self.add("heads backward", self.storage * (3.0 * turned + 2.0 * mixed), 0.0);
            if mixed > 0.0 {
                // The rows, and those of the table in f32, read and written.
                self.add("embedding gradients", (self.storage + 8.0 * DISTINCT) * mixed, 0.0);
            }
        } else {
            self.add("products", 0.0, flops);
            // In place; of values also the table's rows.
            self.add("heads", self.storage * (2.0 * turned + 3.0 * mixed), 0.0);
        }
    }

    fn attention(&mut self, name: &'static str, shape: Attention, products: f64) {
        let Attention { rows, length, heads, size, window, .. } = shape;
        let pairs: usize = (0..length).map(|query| query.min(window) + 1).sum();
        self.add(name, 0.0, products * 2.0 * (rows * heads * pairs * size) as f64);
    }
}

impl Ops for Forecast {
    fn load_batch(&mut self, _: Batch<'_>, _: f64) {}

    fn load_coefficients(&mut self, _: &Coefficients) {}

    fn run(&mut self, op: &Op<'_>) {
        match *op {
            Op::Zero { out } => self.moves("zero and add", out, 1.0),
            Op::Add { onto, .. } => self.moves("zero and add", onto, 3.0),
            Op::Product { a, b, .. } => self.product("products", a, b),
            Op::Embed { out, .. } => self.moves("embed", out, 3.0),
            Op::Norm { x, .. } => self.moves("norm", x, 2.0),
            Op::Mix { x, .. } => self.moves("mix and norm", x, 4.0),
            Op::Backout { last, .. } => self.moves("backout and norm", last, 3.0),
            Op::QueryKeyValue { layer, .. } => self.layer(&layer, false),
            Op::Attend { shape, .. } => self.attention("attention", shape, 2.0),
            Op::MlpOutput { hidden, weight, .. } => {
                self.moves("squared ReLU", hidden, 2.0);
                let squares = Matrix::new(hidden, hidden.len / weight.columns, weight.columns);
                self.product("products", squares, weight.transposed());
            }
            Op::Head { width, vocab, gradients, .. } => {
                let logits = self.tokens * Chunks::GPU.columns(vocab) as f64;
                let products = if gradients.is_some() { 3.0 } else { 1.0 };
                self.add("products of the head", 0.0, products * 2.0 * logits * width as f64);
                self.add("cross-entropy", 2.0 * self.storage * logits, 0.0);
            }
            Op::MeanLoss { losses, .. } => self.add("mean loss", 4.0 * losses.len as f64, 0.0),
            Op::BackoutBackward { dstream, .. } => self.moves("backout backward", dstream, 5.0),
            Op::NormBackward { onto, .. } => self.moves("norm backward", onto, 4.0),
            Op::MlpOutputBackward { hidden, weight, dhidden, .. } => {
                let dout = Matrix::new(dhidden, hidden.len / weight.columns, weight.rows);
                self.product("products", dout, weight);
                self.product("products", dout, weight);
                self.moves("squared ReLU backward", hidden, 3.0);
            }
            Op::AttendBackward { shape, .. } => self.attention("attention backward", shape, 5.0),
            Op::QueryKeyValueBackward { layer, .. } => self.layer(&layer, true),
            Op::MixBackward { dstream, .. } => self.moves("mix backward", dstream, 8.0),
            Op::EmbedBackward { dx, .. } => self.moves("embed backward", dx, 7.0),
            // Parameter, both moments read and written, the gradient read, a copy written.
            Op::AdamW { parameter, .. } => self.add("AdamW", 30.0 * parameter.len as f64, 0.0),
            Op::Muon { rows, columns, members, .. } => self.muon(rows, columns, members.len()),
        }
    }
}

impl Forecast {
    fn muon(&mut self, rows: usize, columns: usize, count: usize) {
        let (small, large) = (rows.min(columns) as f64, rows.max(columns) as f64);
        let matrix = small * large;
        // Momentum and the update, its scaling, two more passes over it, parameter and copy.
        self.add("Muon", count as f64 * matrix * (12.0 + 2.0 * 2.0 + 2.0 * 2.0 + 2.0 + 8.0 + 2.0), 0.0);
        let iteration = 2.0 * (2.0 * small * matrix + small * small * small);
        self.add("Polar Express", 0.0, 5.0 * count as f64 * iteration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nanochat_plan::ModelShape;
    use nanochat_plan::activations::{BatchSize, Pass};

    /// A model of that depth as measured on GPUs: 32 rows of 2,048 tokens, a vocabulary of 32,768.
    fn of_depth(n_layer: usize) -> Network {
        let shape = ModelShape {
            sequence_len: 2048,
            vocab_size: 32_768,
            n_layer,
            n_head: n_layer / 2,
            n_kv_head: n_layer / 2,
            n_embd: 64 * n_layer,
            window_pattern: "SSSL".into(),
        };
        Network::with_chunks(&shape, BatchSize { rows: 32, length: 2048 }, Pass::Training, 8, Chunks::GPU)
    }

    fn of(forecast: &Forecast, names: &[&str]) -> Cost {
        let costs = forecast.costs().filter(|(name, _)| names.contains(name));
        costs.fold(Cost::default(), |sum, (_, cost)| Cost {
            commands: sum.commands + cost.commands,
            bytes: sum.bytes + cost.bytes,
            flops: sum.flops + cost.flops,
        })
    }

    /// Counted by hand: 6 operations a parameter of the products and token; the same attention once forward, 2.5 times backward.
    #[test]
    fn d12_is_counted_as_by_hand() {
        let forecast = Forecast::micro_step(&of_depth(12), Dtype::Bf16);
        let tokens = 65_536.0;
        let products = 12.0 * 12.0 * 768.0 * 768.0 * 6.0 * tokens;
        assert_eq!(of(&forecast, &["products"]).flops, products);
        assert_eq!(of(&forecast, &["products of the head"]).flops, 6.0 * 768.0 * 32_768.0 * tokens);
        // Nine layers see 513 keys, three all before them.
        let short: f64 = (0..2048).map(|query: i32| f64::from(query.min(512) + 1)).sum();
        let long: f64 = (1..=2048).map(f64::from).sum();
        let attention = 4.0 * 768.0 * 32.0 * (9.0 * short + 3.0 * long);
        assert_eq!(of(&forecast, &["attention"]).flops, attention);
        assert_eq!(of(&forecast, &["attention backward"]).flops, 2.5 * attention);
        // A stream is 100.7 MB: a layer moves 48 of them and, every second one, some of the value embedding's.
        let stream = 65_536.0 * 768.0 * 2.0;
        let own = of(&forecast, &["mix and norm", "heads", "norm", "squared ReLU", "mix backward", "norm backward"]);
        assert_eq!(own.bytes, stream * (12.0 * (4.0 + 4.0 + 2.0 + 8.0 + 8.0 + 4.0) + 6.0 * 3.0));
        let seconds: f64 = forecast.seconds(&Rates::H200).iter().map(|(_, seconds)| seconds).sum();
        assert!((0.080..0.100).contains(&seconds), "{seconds}");
    }

    #[test]
    #[ignore = "prints what d12 and d20 cost an H200, for experiments/LOG.md"]
    fn print_the_forecast() {
        use nanochat_plan::gpu::{GpuSizes, library_bytes};
        use nanochat_step::LearningRates;
        for depth in [12, 20] {
            let network = of_depth(depth);
            let forecast = Forecast::micro_step(&network, Dtype::Bf16);
            println!("d{depth}, {} commands", forecast.total().commands);
            for ((name, cost), (_, seconds)) in forecast.costs().zip(forecast.seconds(&Rates::H200)) {
                let (giga, tera) = (cost.bytes / 1e9, cost.flops / 1e12);
                println!("| {name} | {} | {giga:.2} | {tera:.2} | {:.2} |", cost.commands, seconds * 1e3);
            }
            let rates = LearningRates { embedding: 0.3, unembedding: 0.008, matrix: 0.02, scalar: 0.5 };
            let optimizer = Optimizer::new(network.parameters(), network.shape().n_embd, rates);
            let step = Forecast::optimizer(&optimizer, Dtype::Bf16);
            let total = |forecast: &Forecast| forecast.seconds(&Rates::H200).iter().map(|(_, s)| s).sum::<f64>() * 1e3;
            println!("micro-step {:.1} ms, optimizer {:.1} ms", total(&forecast), total(&step));
            for rows in [8, 16, 32, 64] {
                let batch = BatchSize { rows, length: 2048 };
                let engine = GpuSizes::new(network.shape(), batch, 8, nanochat_plan::Precision::Bf16).total();
                let all = engine + library_bytes(network.shape(), batch);
                println!("{rows} rows: {:.1} GiB, {:.1} with libraries", engine as f64 / 1.074e9, all as f64 / 1.074e9);
            }
        }
    }
}
