//! Where a loader stands: enough to go on exactly, to the bit.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::Split;

/// A loader's position and its whole buffer. The baseline keeps the position alone and so repeats or skips documents
/// after a resume; here the next batch is the one that would have come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderState {
    /// The split that is read.
    pub split: Split,
    /// Passes over the split, the first is 1.
    pub epoch: u64,
    /// The next document to read: its shard, its group there, and its number in the group.
    pub shard: usize,
    /// Group within the shard.
    pub group: usize,
    /// Document within the group.
    pub document: usize,
    /// Length in tokens of each buffered document, in the order of their arrival.
    pub lengths: Vec<u32>,
    /// Their first tokens, as many as a row can take, one document after the other: in JSON as base64 of little-endian 32-bit numbers.
    #[serde(serialize_with = "write_tokens", deserialize_with = "read_tokens")]
    pub tokens: Vec<u32>,
}

fn write_tokens<S: serde::Serializer>(tokens: &[u32], serializer: S) -> Result<S::Ok, S::Error> {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn read_tokens<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
    let (tokens, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(serde::de::Error::custom("tokens are cut off"));
    }
    Ok(tokens.iter().map(|token| u32::from_le_bytes(*token)).collect())
}
