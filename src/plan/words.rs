//! Choices that specs, documents and the command line write with the same words.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Text that is none of a type's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is none of {}", words.join(", "))]
pub struct UnknownWord {
    /// The text.
    pub found: String,
    /// The type's words.
    pub words: Vec<&'static str>,
}

/// Gives an enum its words, the same that serde writes (a test compares them).
macro_rules! words {
    ($type:ident: $($variant:ident = $word:literal),+) => {
        impl $type {
            /// Every choice, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As specs and documents write it.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl FromStr for $type {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                let unknown = || UnknownWord { found: text.to_owned(), words: vec![$($word),+] };
                Self::ALL.iter().copied().find(|choice| choice.word() == text).ok_or_else(unknown)
            }
        }
    };
}

/// Kind of compute device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// An Apple GPU.
    Metal,
}

words!(DeviceKind: Cpu = "cpu", Cuda = "cuda", Metal = "metal");

/// Arithmetic of activations and matrix products; master weights and optimizer state are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// IEEE single precision.
    #[default]
    F32,
    /// bfloat16 products with f32 accumulation.
    Bf16,
}

words!(Precision: F32 = "f32", Bf16 = "bf16");

/// Operating systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum System {
    /// Linux.
    Linux,
    /// macOS.
    Macos,
    /// Windows.
    Windows,
}

words!(System: Linux = "linux", Macos = "macos", Windows = "windows");

/// What quality is judged on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QualityMetric {
    /// Validation bits per byte; less is better.
    ValBpb,
    /// Lowest validation bits per byte of a run; less is better. Noise is recorded of it, but no spec asks for it.
    #[schemars(skip)]
    MinValBpb,
    /// The CORE metric; more is better.
    CoreMetric,
}

words!(QualityMetric: ValBpb = "val_bpb", MinValBpb = "min_val_bpb", CoreMetric = "core_metric");

impl QualityMetric {
    /// Whether less is better.
    pub fn lower_is_better(self) -> bool {
        self != Self::CoreMetric
    }
}

/// What speed is judged on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpeedMetric {
    /// Training tokens a second, optimizer included, median after warm-up.
    TokensPerSecond,
}

words!(SpeedMetric: TokensPerSecond = "tokens_per_second");

/// What a repeated run must equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReproducibilityLevel {
    /// Same seed, machine and build: same loss trace and weights, bit for bit.
    Bitwise,
    /// Another machine or thread count: final bits per byte within a stated bound.
    Numeric,
    /// Other seeds: within the noise between seeds.
    Statistical,
}

words!(ReproducibilityLevel: Bitwise = "bitwise", Numeric = "numeric", Statistical = "statistical");

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T>(all: &[T])
    where
        T: Copy + fmt::Debug + PartialEq + fmt::Display + FromStr<Err = UnknownWord> + Serialize,
    {
        for &choice in all {
            assert_eq!(serde_json::to_value(choice).unwrap(), choice.to_string());
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        let unknown = "other".parse::<T>().unwrap_err();
        assert_eq!(unknown.words.len(), all.len());
    }

    #[test]
    fn words_are_those_that_documents_write() {
        check(DeviceKind::ALL);
        check(Precision::ALL);
        check(System::ALL);
        check(QualityMetric::ALL);
        check(SpeedMetric::ALL);
        check(ReproducibilityLevel::ALL);
    }
}
