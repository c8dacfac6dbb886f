//! The baseline's `tokenizer.pkl`: a pickled `tiktoken.core.Encoding`, read without executing anything, and written.

use std::path::Path;

use nanochat_formats::pickle::opcode::*;
use nanochat_formats::pickle::{Node, NodeId, Pickle, PickleWriter};

use super::{SPECIAL_TOKENS, SPLIT_PATTERN, TokenizerError};

/// Reads the ranks. `path` is for messages.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Vec<Vec<u8>>, TokenizerError> {
    let pickle = Pickle::read(path, bytes, &["tiktoken.core.Encoding"])?;
    let state = match pickle.node(pickle.root()) {
        Node::Call { state: Some(state), .. } => *state,
        _ => return Err(pickle.error(pickle.root(), "it holds no tokenizer object").into()),
    };
    Ok(ranks(&pickle, state, bytes.len()).map_err(|problem| pickle.error(state, problem))?)
}

/// The ranks of an `Encoding`, in order, the rest of its state checked against the baseline's. `length` is the file's.
fn ranks(pickle: &Pickle<'_>, state: NodeId, length: usize) -> Result<Vec<Vec<u8>>, String> {
    if let Some(name) = pickle.text(state) {
        return Err(format!("it only names the published encoding `{name:.100}`; the file doesn't hold its ranks"));
    }
    let pattern = pickle.field(state, "pat_str").and_then(|pattern| pickle.text(pattern));
    if pattern != Some(SPLIT_PATTERN) {
        return Err(format!("`pat_str` is {pattern:.200?}, but only {SPLIT_PATTERN:?} is supported"));
    }
    let entries = dictionary(pickle, state, "mergeable_ranks")?;
    // One text may stand under many ranks: it counts each time, as it takes memory each time.
    let mut budget = length;
    let mut table = super::rank_table::RankTable::with_capacity(entries.len());
    for &(key, value) in entries {
        match (pickle.node(key), pickle.node(value)) {
            (Node::Bytes(bytes), Node::Int(rank)) => {
                let rest = budget.checked_sub(bytes.len());
                budget = rest.ok_or("`mergeable_ranks` repeats its tokens: they are longer than the file")?;
                table.set(*rank, bytes)?;
            }
            _ => return Err("`mergeable_ranks` holds something other than bytes and numbers".into()),
        }
    }
    let ranks = table.finish()?;
    let special = dictionary(pickle, state, "special_tokens")?.iter().map(|&(key, value)| {
        let (name, id) = (pickle.text(key), pickle.int(value));
        let token = name.map(str::to_string).zip(id);
        token.ok_or_else(|| "`special_tokens` holds something other than text and numbers".to_string())
    });
    super::check_special_tokens(special.collect::<Result<_, _>>()?, ranks.len())?;
    Ok(ranks)
}

/// Entries of a dictionary in the tokenizer's state.
fn dictionary<'p>(pickle: &'p Pickle<'_>, state: NodeId, name: &str) -> Result<&'p [(NodeId, NodeId)], String> {
    match pickle.field(state, name).map(|field| pickle.node(field)) {
        Some(Node::Dict(entries)) => Ok(entries),
        _ => Err(format!("the tokenizer's state has no dictionary `{name}`")),
    }
}

/// Bytes of a pickle (protocol 4) from which the baseline's `RustBPETokenizer.from_directory` makes the same tokenizer.
pub(super) fn write(ranks: &[Vec<u8>]) -> Vec<u8> {
    let mut pickle = PickleWriter::new(4);
    pickle.global("tiktoken.core", "Encoding");
    pickle.put(&[EMPTY_TUPLE, NEWOBJ, EMPTY_DICT, MARK]);
    for text in ["name", "rustbpe", "pat_str", SPLIT_PATTERN, "mergeable_ranks"] {
        pickle.text(text);
    }
    pickle.put(&[EMPTY_DICT, MARK]);
    for (rank, bytes) in ranks.iter().enumerate() {
        pickle.bytes(bytes);
        pickle.int(rank as i64);
    }
    pickle.put(&[SETITEMS]);
    pickle.text("special_tokens");
    pickle.put(&[EMPTY_DICT, MARK]);
    for (index, name) in SPECIAL_TOKENS.iter().enumerate() {
        pickle.text(name);
        pickle.int((ranks.len() + index) as i64);
    }
    pickle.put(&[SETITEMS, SETITEMS, BUILD]);
    pickle.finish()
}
