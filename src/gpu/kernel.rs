//! The kernels by name.

use crate::Dtype;

macro_rules! kernels {
    ($($(#[$doc:meta])* $kernel:ident $name:literal $typed:literal,)*) => {
        /// A kernel of `kernels/`, where its arguments are described.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "described where they are written")]
        pub enum Kernel { $($kernel,)* }

        /// All kernels.
        pub const KERNELS: &[Kernel] = &[$(Kernel::$kernel,)*];

        impl Kernel {
            /// The symbol of its form for that storage.
            pub fn symbol(self, storage: Dtype) -> &'static str {
                match (self, storage) {
                    $(
                        (Self::$kernel, _) if !$typed => $name,
                        (Self::$kernel, Dtype::F32) => concat!($name, "_f32"),
                        (Self::$kernel, Dtype::Bf16) => concat!($name, "_bf16"),
                    )*
                }
            }
        }
    };
}

kernels! {
    Embed "embed" true,
    Norm "norm" true,
    Mix "mix" true,
    Backout "backout" true,
    NormBackward "norm_backward" true,
    MixBackward "mix_backward" true,
    BackoutBackward "backout_backward" true,
    SmearSlopes "smear_slopes" true,
    EmbedBackward "embed_backward" true,
    Add "add" true,
    Heads "heads" true,
    HeadsBackward "heads_backward" true,
    GateInput "gate_input" true,
    GateSums "gate_sums" true,
    Square "square" true,
    SquareBackward "square_backward" true,
    CrossEntropy "cross_entropy" true,
    SumRows "sum_rows" true,
    MuonLookahead "muon_lookahead" true,
    ScaleRows "scale_rows" true,
    RowSquares "row_squares" true,
    ColumnSquares "column_squares" true,
    MuonUpdate "muon_update" true,
    AdamW "adamw" true,
    CopyWeights "copy_weights" true,
    FinishSums "finish_sums" false,
    MeanLoss "mean_loss" false,
    JoinRows "join_rows" false,
    Equilibrate "equilibrate" false,
    MuonSecond "muon_second" false,
}
