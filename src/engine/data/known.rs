//! What is known of a plan's documents without reading them again: whether they are here, and their digest if they were read
//! before and no file was touched since.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use nanochat_plan::DataPlan;

use super::Corpus;
use super::corpus::{KeptScan, files, keep_scan, kept_scan, scan_of};
use super::stamp::stamp;
use crate::cache::Cache;

/// Text of at most so many bytes is read on the spot where nothing is known of it.
const READ_AT_ONCE: u64 = 16 << 20;

/// What is known of a plan's documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// They are made, not read: the plan decides them.
    Made,
    /// They aren't here.
    Absent,
    /// Their digest, as [`Corpus::sha256`] gives it.
    Digest(String),
    /// They are here, and nobody has read them since they were changed.
    Unread,
}

/// What is known of a plan's documents; reads small ones, and no others.
pub fn known(plan: &DataPlan, base: &Path, cache: Option<&Arc<Cache>>) -> Known {
    if matches!(plan, DataPlan::Synthetic { .. }) {
        return Known::Made;
    }
    let Ok(files) = files(plan, base) else { return Known::Absent };
    let lengths = files.iter().map(|file| file.metadata().map(|found| found.len()));
    let Ok(lengths) = lengths.collect::<Result<Vec<_>, _>>() else { return Known::Absent };
    let stamp = stamp(&format!("{plan:?}"), files.iter().map(|file| file.as_path()));
    if let Some(scan) = cache.zip(stamp.as_ref()).and_then(|(cache, stamp)| kept_scan(cache, stamp)) {
        return Known::Digest(scan.sha256);
    }
    if lengths.iter().sum::<u64>() > READ_AT_ONCE {
        return Known::Unread;
    }
    let opened = Corpus::open(plan, base).and_then(|corpus| scan_of(&corpus));
    let Ok(scan) = opened else { return Known::Unread };
    if let Some(cache) = cache {
        keep_scan(cache, stamp.as_ref(), &scan);
    }
    Known::Digest(scan.sha256)
}

/// Bytes of the longest of a plan's documents, where they were read before.
pub fn longest_document(plan: &DataPlan, base: &Path, cache: &Arc<Cache>) -> Option<u64> {
    let Known::Digest(sha256) = known(plan, base, Some(cache)) else { return None };
    Some(kept_scan(cache, &super::corpus::by_digest(&sha256))?.longest)
}

/// How the shards of one digest differ from those of another, in words; none where one of them was never read here.
pub fn shard_changes(cache: &Cache, before: &str, now: &str) -> Option<String> {
    let count = |scan: KeptScan| {
        let mut shards: BTreeMap<u64, i64> = BTreeMap::new();
        scan.shards.iter().for_each(|shard| *shards.entry(*shard).or_default() += 1);
        (!shards.is_empty()).then_some(shards)
    };
    let by_digest = |sha256: &str| kept_scan(cache, &super::corpus::by_digest(sha256)).and_then(count);
    let mut changes = by_digest(now)?;
    by_digest(before)?.into_iter().for_each(|(shard, times)| *changes.entry(shard).or_default() -= times);
    let added: i64 = changes.values().filter(|times| **times > 0).sum();
    let removed: i64 = -changes.values().filter(|times| **times < 0).sum::<i64>();
    let replaced = added.min(removed);
    let parts = [(added - replaced, "added"), (removed - replaced, "removed"), (replaced, "replaced")];
    let told = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| match count {
        1 => format!("1 shard {what}"),
        count => format!("{count} shards {what}"),
    });
    let told: Vec<String> = told.collect();
    Some(if told.is_empty() { "shards in another order".to_string() } else { told.join(", ") })
}
