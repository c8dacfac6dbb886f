//! A GPU that times every command it is given.

use nanochat_cuda::Cuda;
use nanochat_gpu::{Address, AttentionCall, Device, DeviceError, Dtype, Graph, Launch, Product};

use super::traffic;

/// The least that a command has to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Work {
    /// Floating-point operations.
    Flops(f64),
    /// Bytes read and written.
    Bytes(f64),
    /// Little.
    Little,
}

/// A command, by what it does at which sizes.
#[derive(Debug, Clone)]
pub(super) struct Noted {
    pub(super) name: String,
    pub(super) work: Work,
    /// For products, to be tried with other algorithms.
    pub(super) product: Option<Product>,
}

/// The GPU, with a note of each command while it is watched.
#[derive(Debug)]
pub(super) struct Timed {
    pub(super) cuda: Cuda,
    notes: Option<Vec<Noted>>,
}

impl Timed {
    pub(super) fn new(cuda: Cuda) -> Self {
        Self { cuda, notes: None }
    }

    /// Watches commands from now on.
    pub(super) fn watch(&mut self) -> Result<(), DeviceError> {
        self.notes = Some(Vec::new());
        self.cuda.mark()
    }

    /// The commands since then, with their seconds.
    pub(super) fn noted(&mut self) -> Result<Vec<(Noted, f64)>, DeviceError> {
        let seconds = self.cuda.seconds_between_marks()?;
        Ok(self.notes.take().unwrap_or_default().into_iter().zip(seconds).collect())
    }

    fn note(&mut self, noted: impl FnOnce() -> Noted) -> Result<(), DeviceError> {
        let Some(notes) = &mut self.notes else { return Ok(()) };
        notes.push(noted());
        self.cuda.mark()
    }
}

impl Device for Timed {
    fn allocate(&mut self, bytes: usize) -> Result<Address, DeviceError> {
        self.cuda.allocate(bytes)
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), DeviceError> {
        self.cuda.upload(to, bytes)?;
        self.note(|| Noted { name: "copies to the GPU".into(), work: Work::Little, product: None })
    }

    fn download(&self, from: Address, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.cuda.download(from, bytes)
    }

    fn zero(&mut self, at: Address, bytes: usize) -> Result<(), DeviceError> {
        self.cuda.zero(at, bytes)?;
        self.note(|| Noted { name: "zeros".into(), work: Work::Bytes(bytes as f64), product: None })
    }

    fn launch(&mut self, launch: Launch<'_>) -> Result<(), DeviceError> {
        self.cuda.launch(launch)?;
        self.note(|| {
            let work = traffic::bytes(&launch).map_or(Work::Little, |bytes| Work::Bytes(bytes as f64));
            Noted { name: format!("kernel {}", launch.kernel.symbol(launch.storage)), work, product: None }
        })
    }

    fn product(&mut self, product: &Product) -> Result<(), DeviceError> {
        self.cuda.product(product)?;
        self.note(|| Noted { name: product_name(product), work: product_work(product), product: Some(*product) })
    }

    fn attend(&mut self, call: &AttentionCall) -> Result<(), DeviceError> {
        self.cuda.attend(call)?;
        self.note(|| attention("attention", call, 1.0))
    }

    fn attend_backward(&mut self, call: &AttentionCall, dout: Address, dqkv: Address) -> Result<(), DeviceError> {
        self.cuda.attend_backward(call, dout, dqkv)?;
        // Five products in place of two.
        self.note(|| attention("attention backward", call, 2.5))
    }

    fn begin_recording(&mut self) -> Result<(), DeviceError> {
        self.cuda.begin_recording()
    }

    fn end_recording(&mut self) -> Result<Graph, DeviceError> {
        self.cuda.end_recording()
    }

    fn replay(&mut self, graph: Graph) -> Result<(), DeviceError> {
        self.cuda.replay(graph)
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        self.cuda.synchronize()
    }
}

/// Both products of attention over the pairs of tokens that see each other.
fn attention(pass: &str, call: &AttentionCall, factor: f64) -> Noted {
    let shape = call.shape;
    let pairs: usize = (0..shape.length).map(|token| (token + 1).min(shape.window + 1)).sum();
    let flops = 4.0 * (shape.rows * shape.heads * shape.size * pairs) as f64 * factor;
    let window = if shape.window + 1 < shape.length { format!(", window {}", shape.window) } else { String::new() };
    let name = format!("{pass} ({} × {}, {} × {}{window})", shape.rows, shape.length, shape.heads, shape.size);
    Noted { name, work: Work::Flops(flops), product: None }
}

fn product_work(product: &Product) -> Work {
    let ([rows, inner], [_, columns]) = (product.a.taken(), product.b.taken());
    Work::Flops(2.0 * (product.count * rows * inner * columns) as f64)
}

/// Sizes, `ᵀ` for a side that is taken transposed, and the result's type where it isn't the operands'.
pub(super) fn product_name(product: &Product) -> String {
    let ([rows, inner], [_, columns]) = (product.a.taken(), product.b.taken());
    let side = |transposed| if transposed { "ᵀ" } else { "" };
    let times = if product.count > 1 { format!("{} × ", product.count) } else { String::new() };
    let out = if product.out.dtype != product.dtype && product.out.dtype == Dtype::F32 { ", f32" } else { "" };
    let (a, b) = (side(product.a.transposed), side(product.b.transposed));
    let added = if product.beta == 0.0 { "" } else { ", added" };
    format!("product {times}({rows} × {inner}){a} ({inner} × {columns}){b}{out}{added}")
}
