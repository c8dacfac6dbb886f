//! Two devices side by side: every command is given to both, and what it leaves in memory is compared.
//!
//! After each command the first device takes over what the second one has, so that every command is judged on its own.

use std::collections::BTreeMap;

use nanochat_gpu::{Address, AttentionCall, Device, DeviceError, Dtype, Graph, Launch, Operand, Output, Product};

/// A piece of memory that both have.
#[derive(Debug, Clone)]
struct Piece {
    first: Address,
    second: Address,
    /// What the second one has, as of the last command.
    bytes: Vec<u8>,
    /// Elements are of bf16 rather than of f32.
    is_bf16: bool,
    /// Holds addresses, which differ.
    has_addresses: bool,
}

/// The two devices. Addresses that they give out are the first one's.
#[derive(Debug)]
pub(super) struct Compared<A, B> {
    first: A,
    second: B,
    pieces: Vec<Piece>,
    /// The largest distance of what a command changed, by the command's name.
    distances: BTreeMap<String, f64>,
}

impl<A: Device, B: Device> Compared<A, B> {
    pub(super) fn new(first: A, second: B) -> Self {
        Self { first, second, pieces: Vec::new(), distances: BTreeMap::new() }
    }

    /// The norm of the difference between both over that of what the command changed: the largest by command.
    pub(super) fn distances(&self) -> &BTreeMap<String, f64> {
        &self.distances
    }

    /// Says that the memory at an address holds bf16; else it is of f32.
    pub(super) fn is_bf16(&mut self, at: Address) {
        if let Some((piece, _)) = self.find(at.0) {
            self.pieces[piece].is_bf16 = true;
        }
    }

    /// Says so of every piece of a size.
    pub(super) fn are_bf16(&mut self, bytes: usize) {
        self.pieces.iter_mut().filter(|piece| piece.bytes.len() == bytes).for_each(|piece| piece.is_bf16 = true);
    }

    /// The piece that an address of the first device lies in, and how far from its beginning.
    fn find(&self, word: u64) -> Option<(usize, usize)> {
        self.pieces.iter().enumerate().find_map(|(index, piece)| {
            let offset = word.checked_sub(piece.first.0)?;
            (offset < piece.bytes.len() as u64).then_some((index, offset as usize))
        })
    }

    /// An address of the first device as the second one's; what is no address stays.
    fn translated(&self, word: u64) -> u64 {
        self.find(word).map_or(word, |(piece, offset)| self.pieces[piece].second.plus(offset).0)
    }

    fn address(&self, at: Address) -> Address {
        Address(self.translated(at.0))
    }

    fn call(&self, call: &AttentionCall) -> AttentionCall {
        let [qkv, out, log_sum] = [call.qkv, call.out, call.log_sum].map(|at| self.address(at));
        AttentionCall { qkv, out, log_sum, ..*call }
    }

    /// Compares all memory after a command.
    fn compare(&mut self, name: &str) -> Result<(), DeviceError> {
        let (mut difference, mut changed) = (0.0, 0.0);
        for piece in self.pieces.iter_mut().filter(|piece| !piece.has_addresses) {
            let (mut found, mut expected) = (vec![0; piece.bytes.len()], vec![0; piece.bytes.len()]);
            self.first.download(piece.first, &mut found)?;
            self.second.download(piece.second, &mut expected)?;
            difference += squares(&found, &expected, piece.is_bf16);
            changed += squares(&expected, &piece.bytes, piece.is_bf16);
            if found != expected {
                self.first.upload(piece.first, &expected)?;
            }
            piece.bytes = expected;
        }
        // What nothing was changed by must not be changed by the other one either.
        let distance = if difference == 0.0 { 0.0 } else { (difference / changed).sqrt() };
        let worst = self.distances.entry(name.to_string()).or_default();
        if distance.is_nan() || distance > *worst {
            *worst = distance;
        }
        Ok(())
    }
}

/// The sum of the squares of the differences of elements.
fn squares(a: &[u8], b: &[u8], is_bf16: bool) -> f64 {
    // Most of the memory is none of a command's business.
    if a == b {
        return 0.0;
    }
    let wide = |bytes: &[u8]| match (is_bf16, bytes) {
        (true, [low, high]) => f32::from_bits(u32::from(u16::from_le_bytes([*low, *high])) << 16),
        (_, [a, b, c, d]) => f32::from_le_bytes([*a, *b, *c, *d]),
        _ => 0.0,
    };
    let size = if is_bf16 { 2 } else { 4 };
    let pairs = a.chunks_exact(size).zip(b.chunks_exact(size)).filter(|(a, b)| a != b);
    pairs.map(|(a, b)| (f64::from(wide(a)) - f64::from(wide(b))).powi(2)).sum()
}

impl<A: Device, B: Device> Device for Compared<A, B> {
    fn allocate(&mut self, bytes: usize) -> Result<Address, DeviceError> {
        let (first, second) = (self.first.allocate(bytes)?, self.second.allocate(bytes)?);
        let (is_bf16, has_addresses) = (false, false);
        self.pieces.push(Piece { first, second, bytes: vec![0; bytes], is_bf16, has_addresses });
        Ok(first)
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), DeviceError> {
        self.first.upload(to, bytes)?;
        let Some((piece, offset)) = self.find(to.0) else {
            let reason = format!("{to:?} was not allocated");
            return Err(DeviceError::Failed { command: "a copy".into(), reason });
        };
        let words: &[[u8; 8]] = bytes.as_chunks().0;
        let has_addresses = words.iter().any(|word| self.find(u64::from_le_bytes(*word)).is_some());
        if has_addresses {
            let translated = words.iter().flat_map(|word| self.translated(u64::from_le_bytes(*word)).to_le_bytes());
            let translated: Vec<u8> = translated.collect();
            self.pieces[piece].has_addresses = true;
            return self.second.upload(self.address(to), &translated);
        }
        self.pieces[piece].bytes[offset..][..bytes.len()].copy_from_slice(bytes);
        self.second.upload(self.address(to), bytes)
    }

    fn download(&self, from: Address, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.second.download(self.address(from), bytes)
    }

    fn zero(&mut self, at: Address, bytes: usize) -> Result<(), DeviceError> {
        self.first.zero(at, bytes)?;
        self.second.zero(self.address(at), bytes)?;
        self.compare("zeros")
    }

    fn launch(&mut self, launch: Launch<'_>) -> Result<(), DeviceError> {
        self.first.launch(launch)?;
        let arguments: Vec<u64> = launch.arguments.iter().map(|word| self.translated(*word)).collect();
        self.second.launch(Launch { arguments: &arguments, ..launch })?;
        self.compare(launch.kernel.symbol(launch.storage))
    }

    fn product(&mut self, product: &Product) -> Result<(), DeviceError> {
        self.first.product(product)?;
        let operand = |operand: Operand| Operand { at: self.address(operand.at), ..operand };
        let (a, b, c) = (operand(product.a), operand(product.b), self.address(product.c));
        let out = Output { at: self.address(product.out.at), ..product.out };
        self.second.product(&Product { a, b, c, out, ..*product })?;
        let added = if product.beta == 0.0 { "" } else { ", added" };
        let out = if product.out.dtype == Dtype::F32 { "f32" } else { "bf16" };
        self.compare(&format!("product to {out}{added}"))
    }

    fn attend(&mut self, call: &AttentionCall) -> Result<(), DeviceError> {
        self.first.attend(call)?;
        self.second.attend(&self.call(call))?;
        self.compare(&format!("attention, window {}", call.shape.window))
    }

    fn attend_backward(&mut self, call: &AttentionCall, dout: Address, dqkv: Address) -> Result<(), DeviceError> {
        self.first.attend_backward(call, dout, dqkv)?;
        self.second.attend_backward(&self.call(call), self.address(dout), self.address(dqkv))?;
        self.compare(&format!("attention backward, window {}", call.shape.window))
    }

    fn begin_recording(&mut self) -> Result<(), DeviceError> {
        self.first.begin_recording()?;
        self.second.begin_recording()
    }

    fn end_recording(&mut self) -> Result<Graph, DeviceError> {
        let graph = self.first.end_recording()?;
        self.second.end_recording()?;
        Ok(graph)
    }

    fn replay(&mut self, graph: Graph) -> Result<(), DeviceError> {
        self.first.replay(graph)?;
        self.second.replay(graph)?;
        self.compare("a replay")
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        self.first.synchronize()?;
        self.second.synchronize()
    }
}
