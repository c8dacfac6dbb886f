//! The sizes of model that a spec may get, smallest first. Learning rates are tuned for batches of 2^19 tokens and shrink with
//! the root of the batch, so that small batches get larger ones: not the whole of it, with which real text diverges; weight decay grows with what a model is smaller than the
//! reference, and gets smaller ones.

/// Depths of a comparison at one budget of FLOPs.
pub(super) const DEPTHS: u64 = 3;

/// A size of model, with what trains it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Size {
    /// Layers.
    pub depth: usize,
    /// Width a layer.
    pub aspect_ratio: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Context in tokens.
    pub sequence_len: usize,
    /// Vocabulary of the tokenizer.
    pub vocab_size: usize,
    /// Sequences of a micro-step.
    pub device_batch_size: u64,
    /// Tokens of an optimizer step.
    pub total_batch_size: u64,
    /// How many times the baseline's learning rates.
    pub rate: f64,
    /// Weight decay before scaling.
    pub weight_decay: f64,
}

impl Size {
    /// The depths that are compared at one budget, this one in their middle.
    pub fn depths(&self) -> [usize; DEPTHS as usize] {
        let step = (self.depth / 2).max(1);
        [(self.depth - step).max(1), self.depth.max(2), self.depth.max(2) + step]
    }
}

/// The sizes.
#[rustfmt::skip]
pub(super) const SIZES: [Size; 7] = [
    Size { depth: 2, aspect_ratio: 32, head_dim: 32, sequence_len: 128, vocab_size: 512, device_batch_size: 8, total_batch_size: 1024, rate: 5.0, weight_decay: 0.002 },
    Size { depth: 3, aspect_ratio: 32, head_dim: 32, sequence_len: 256, vocab_size: 1024, device_batch_size: 8, total_batch_size: 2048, rate: 5.0, weight_decay: 0.005 },
    Size { depth: 4, aspect_ratio: 32, head_dim: 32, sequence_len: 256, vocab_size: 1024, device_batch_size: 8, total_batch_size: 2048, rate: 5.0, weight_decay: 0.01 },
    Size { depth: 4, aspect_ratio: 64, head_dim: 64, sequence_len: 512, vocab_size: 4096, device_batch_size: 8, total_batch_size: 4096, rate: 4.5, weight_decay: 0.016 },
    Size { depth: 6, aspect_ratio: 64, head_dim: 64, sequence_len: 512, vocab_size: 4096, device_batch_size: 8, total_batch_size: 8192, rate: 4.0, weight_decay: 0.033 },
    Size { depth: 8, aspect_ratio: 64, head_dim: 64, sequence_len: 1024, vocab_size: 8192, device_batch_size: 8, total_batch_size: 16384, rate: 3.5, weight_decay: 0.09 },
    Size { depth: 12, aspect_ratio: 64, head_dim: 128, sequence_len: 1024, vocab_size: 32768, device_batch_size: 8, total_batch_size: 32768, rate: 2.5, weight_decay: 0.28 },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_divide_and_sizes_grow() {
        for size in SIZES {
            assert_eq!(size.total_batch_size % (size.device_batch_size * size.sequence_len as u64), 0, "{size:?}");
            assert_eq!((size.depth * size.aspect_ratio) % size.head_dim, 0, "{size:?}");
            let [a, b, c] = size.depths();
            assert!(a < b && b < c && a >= 1, "{size:?}");
        }
        let width = |size: &Size| size.depth * size.depth * size.aspect_ratio;
        assert!(SIZES.windows(2).all(|pair| width(&pair[0]) < width(&pair[1])));
    }
}
