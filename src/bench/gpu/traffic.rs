//! The bytes that a kernel must read and write once, by its arguments (as `src/gpu/kernels` describes them).

use nanochat_gpu::{Kernel, Launch};

/// None for kernels that work on little, or on a number of rows that their arguments don't tell.
pub(super) fn bytes(launch: &Launch<'_>) -> Option<u64> {
    use Kernel as K;
    let (element, at) = (launch.storage.bytes() as u64, launch.arguments);
    let end = |back: usize| at.len().checked_sub(back).and_then(|place| at.get(place)).copied().unwrap_or(0);
    // Streams of rows × width elements, which stand at the end.
    let streams = |count: u64| count * end(2) * end(1) * element;
    let matrices = end(3) * end(2) * end(1);
    Some(match launch.kernel {
        K::Norm => streams(2),
        K::Mix | K::NormBackward => streams(4),
        K::Backout => streams(3),
        K::MixBackward => streams(8),
        K::BackoutBackward => streams(5),
        K::Embed => 3 * end(4) * end(2) * element,
        K::EmbedBackward => 3 * end(4) * end(2) * element,
        K::SmearSlopes => 2 * end(3) * end(1) * element,
        K::Add | K::SquareBackward => 3 * end(1) * element,
        K::Square => 2 * end(1) * element,
        K::CrossEntropy => u64::from(launch.grid) * end(2) * element * (1 + end(1)),
        K::Heads => {
            let ([tokens, queries, keys, size], extra) = ([end(7), end(4), end(3), end(2)], at.get(7) != Some(&0));
            tokens * size * element * (2 * (queries + keys) + if extra { 3 * keys } else { 0 })
        }
        K::HeadsBackward => {
            let ([tokens, queries, keys, size], extra) = ([end(5), end(3), end(2), end(1)], at.get(6) != Some(&0));
            tokens * size * element * (3 * (queries + keys) + if extra { 2 * keys } else { 0 })
        }
        K::GateInput => 2 * end(4) * end(1) * element,
        K::GateSums => end(4) * (end(1) * element + 4 * end(2)),
        K::ScaleRows => streams(2),
        K::RowSquares => streams(1),
        K::ColumnSquares => matrices * element,
        K::MuonLookahead => matrices * (12 + element),
        K::MuonUpdate => matrices * (8 + 2 * element),
        K::AdamW => end(1) * (28 + if at.get(4) == Some(&0) { 0 } else { element }),
        K::CopyWeights => end(1) * (4 + element),
        K::SumRows | K::FinishSums | K::MeanLoss | K::JoinRows | K::Equilibrate | K::MuonSecond => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nanochat_gpu::Dtype;

    #[test]
    fn sizes_are_taken_from_where_they_stand() {
        let of = |kernel, storage, grid, arguments: &[u64]| {
            bytes(&Launch { kernel, storage, grid, threads: 256, arguments })
        };
        // x, normed, inverse, 10 rows of 8.
        assert_eq!(of(Kernel::Norm, Dtype::Bf16, 1, &[1, 1, 1, 10, 8]), Some(2 * 80 * 2));
        // 10 rows of 64 logits, read, and with training written.
        assert_eq!(of(Kernel::CrossEntropy, Dtype::Bf16, 10, &[1, 1, 1, 1, 60, 64, 1]), Some(2 * 640 * 2));
        assert_eq!(of(Kernel::CrossEntropy, Dtype::Bf16, 10, &[1, 1, 1, 1, 60, 64, 0]), Some(640 * 2));
        // Without a table nothing is added to values: 5 tokens, 2 heads of queries, 1 of keys, 16 channels.
        let heads = |table| [1, 1, 1, 1, 1, 1, 1, table, 1, 1, 5, 5, 64, 2, 1, 16, 12];
        assert_eq!(of(Kernel::Heads, Dtype::F32, 1, &heads(0)), Some(5 * 16 * 4 * 6));
        assert_eq!(of(Kernel::Heads, Dtype::F32, 1, &heads(9)), Some(5 * 16 * 4 * 9));
        assert_eq!(of(Kernel::MeanLoss, Dtype::F32, 1, &[1, 1, 1, 5]), None);
    }
}
