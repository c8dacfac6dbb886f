//! The corpus that the baseline trains on (`nanochat/dataset.py`): which files it has, where they are looked for, and their
//! approximate sizes.

/// Where its shards are looked for unless the spec says otherwise: the baseline's own folder.
pub const CLIMBMIX_FOLDER: &str = "~/.cache/nanochat/base_data_climbmix";
/// Number of the validation shard, which is the last one; every smaller number is a training shard.
pub const CLIMBMIX_VALIDATION: u64 = 6542;
/// Training shards unless the spec says otherwise: as many as the baseline's own run takes.
pub const CLIMBMIX_SHARDS: u64 = 170;
/// Bytes of a shard on disk, about.
pub const CLIMBMIX_SHARD_BYTES: u64 = 100_000_000;
/// Training tokens that a shard is good for, about: 250 million characters at 4.8 a token, of which packing crops a third.
/// The baseline takes 150 shards for 5.8 billion tokens.
pub const CLIMBMIX_SHARD_TOKENS: u64 = 35_000_000;

/// File name of a shard.
pub fn climbmix_shard(number: u64) -> String {
    format!("shard_{number:05}.parquet")
}

/// File names of the first so many training shards, and of the validation shard at the end.
pub fn climbmix_shards(training: u64) -> impl Iterator<Item = String> {
    (0..training.min(CLIMBMIX_VALIDATION)).chain([CLIMBMIX_VALIDATION]).map(climbmix_shard)
}

/// The command that downloads so many training shards into a folder.
pub fn climbmix_command(shards: u64, folder: &str) -> String {
    let out = if folder == CLIMBMIX_FOLDER { String::new() } else { format!(" --out {folder}") };
    format!("nanochat data download climbmix --shards {shards}{out}")
}

/// Training shards that hold so many tokens, about.
pub fn climbmix_shards_for(tokens: u64) -> u64 {
    tokens.div_ceil(CLIMBMIX_SHARD_TOKENS).clamp(1, CLIMBMIX_VALIDATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_baselines_and_validation_comes_last() {
        let names: Vec<String> = climbmix_shards(2).collect();
        assert_eq!(names, ["shard_00000.parquet", "shard_00001.parquet", "shard_06542.parquet"]);
        assert_eq!(climbmix_shards(u64::MAX).count() as u64, CLIMBMIX_VALIDATION + 1);
        assert_eq!((climbmix_shards_for(0), climbmix_shards_for(35_000_001)), (1, 2));
    }
}
