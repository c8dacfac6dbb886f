//! `nanochat data`: shows and writes training data.

use std::path::{Path, PathBuf};

use serde_json::json;

use nanochat_artifacts::ArtifactError;
use nanochat_engine::cache::{Cache, DEFAULT_LIMIT, Secret};
use nanochat_engine::data::{
    Corpus, ShardFormat, Split, bigram_bits_per_byte, detect, resolve, train_tokenizer, write_shards,
};
use nanochat_engine::tokenizer::Tokenizer;
use nanochat_plan::{CLIMBMIX_FOLDER, CLIMBMIX_VALIDATION, DataPlan, climbmix_shard};

use super::download;
use super::{CliError, CliResult, Exit, Format};
use crate::run::project;

/// Default length to which tokenizer training cuts documents, as in a run.
const CHARACTERS_PER_DOCUMENT: u64 = 10_000;
/// Shards that hold the two billion characters that the baseline trains its tokenizer on.
const TOKENIZER_SHARDS: u64 = 8;

/// Inspect and write training data.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Download the baseline's training data, or the tasks of the CORE metric
    Download(download::Args),
    /// Show shards, documents and bytes of both splits
    Inspect {
        #[command(flatten)]
        source: Source,
        /// Print this many documents of the training split too
        #[arg(long, default_value_t = 0)]
        show: usize,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Write data as shards, by default the synthetic corpus
    Synthesize {
        #[command(flatten)]
        source: Source,
        /// Folder for the shards; must not hold any
        #[arg(long)]
        out: PathBuf,
        /// Format of the shards: the baseline reads parquet; in plain text a blank line ends a document
        #[arg(long = "as", value_enum, default_value_t = Kind::Jsonl)]
        kind: Kind,
    },
    /// Bits per byte of a smoothed bigram model of the tokens, as a baseline for trained models
    Bigram {
        #[command(flatten)]
        source: Source,
        /// A stored tokenizer; without one, a tokenizer is trained on the training split
        #[arg(long, value_name = "PATH", conflicts_with = "vocab_size")]
        tokenizer: Option<PathBuf>,
        /// Vocabulary size of the tokenizer that is trained, special tokens included
        #[arg(long, default_value_t = 1024)]
        vocab_size: usize,
    },
    /// Show the cache (tokens, trained tokenizers), or clear it
    Cache {
        /// Clear the cache; its contents are computed again when needed
        #[arg(long)]
        clear: bool,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print the SHA-256 that a run records for this data
    Hash {
        #[command(flatten)]
        source: Source,
    },
}

/// Source of documents.
#[derive(Debug, clap::Args)]
pub struct Source {
    /// A folder of `.parquet`, `.jsonl` or `.txt` shards, a `.jsonl` or `.txt` file, `climbmix` (where `data download` puts it),
    /// or `synthetic`
    #[arg(long, default_value = "synthetic")]
    data: String,
    /// Training shards of `climbmix`; by default all that are there
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=CLIMBMIX_VALIDATION))]
    shards: Option<u64>,
    /// Field of JSON lines that holds the document
    #[arg(long, default_value = "text")]
    field: String,
    /// Seed of the synthetic corpus
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Size of the synthetic corpus in bytes
    #[arg(long, default_value_t = 8 << 20)]
    bytes: u64,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    Parquet,
    Jsonl,
    Text,
}

impl Source {
    /// Opens the documents.
    pub fn open(&self) -> Result<Corpus, CliError> {
        let plan = match self.data.as_str() {
            "synthetic" => DataPlan::Synthetic { seed: self.seed, bytes: self.bytes },
            "climbmix" => climbmix(self.shards),
            path => detect(path, &self.field, Path::new("")).map_err(CliError::invalid)?,
        };
        Corpus::open(&plan, Path::new("")).map_err(CliError::invalid)
    }
}

/// The baseline's corpus where it is looked for, with as many shards as are wanted, or are there.
fn climbmix(shards: Option<u64>) -> DataPlan {
    let folder = resolve(CLIMBMIX_FOLDER, Path::new(""));
    let here = (0..CLIMBMIX_VALIDATION).take_while(|number| folder.join(climbmix_shard(*number)).is_file()).count();
    // Where nothing is there, the error names the shards that training a tokenizer takes.
    let shards = shards.unwrap_or(if here == 0 { TOKENIZER_SHARDS } else { here as u64 });
    DataPlan::Climbmix { path: CLIMBMIX_FOLDER.to_owned(), shards }
}

/// Runs the command.
pub fn execute(args: Args) -> CliResult {
    match args.command {
        Command::Download(args) => download::execute(args),
        Command::Inspect { source, show, format } => inspect(&source.open()?, show, format),
        Command::Synthesize { source, out, kind } => synthesize(&source.open()?, &out, kind),
        Command::Bigram { source, tokenizer, vocab_size } => bigram(&source.open()?, tokenizer.as_deref(), vocab_size),
        Command::Cache { clear, format } => cache(clear, format),
        Command::Hash { source } => {
            say!("{}", source.open()?.sha256().map_err(CliError::failed)?);
            Ok(Exit::Done)
        }
    }
}

fn inspect(corpus: &Corpus, show: usize, format: Format) -> CliResult {
    let size = |split| corpus.size(split).map_err(CliError::failed);
    let splits = [(Split::Train, size(Split::Train)?), (Split::Validation, size(Split::Validation)?)];
    let sha256 = corpus.sha256().map_err(CliError::failed)?;
    let documents = corpus.documents(Split::Train).take(show).collect::<Result<Vec<_>, _>>();
    let documents = documents.map_err(CliError::failed)?;
    if format == Format::Json {
        let shards = |split| -> Vec<_> {
            let shards = corpus.shards(split).iter();
            shards.map(|shard| json!({ "name": shard.name(), "documents": shard.document_count() })).collect()
        };
        let splits = splits.map(|(split, size)| (split.to_string(), json!({ "size": size, "shards": shards(split) })));
        let splits: serde_json::Map<_, _> = splits.into_iter().collect();
        super::output::say_json(&format!(
            "{:#}",
            json!({ "data": corpus.description(), "sha256": sha256, "splits": splits, "documents": documents })
        ));
        return Ok(Exit::Done);
    }
    say_lines!("{}\nsha256 {sha256}", corpus.description());
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["split", "shards", "groups", "documents", "bytes"]);
    for (split, size) in splits {
        table.add_row([
            split.to_string(),
            size.shards.to_string(),
            size.groups.to_string(),
            size.documents.to_string(),
            size.bytes.to_string(),
        ]);
    }
    say_lines!("{table}");
    for document in documents {
        say_lines!("\n{document}");
    }
    Ok(Exit::Done)
}

fn cache(clear: bool, format: Format) -> CliResult {
    let project = project();
    let Some(folder) = project.cache() else {
        return Err(CliError::usage(
            "the cache is disabled: NANOCHAT_CACHE is empty",
            Some("unset it, or name a folder"),
        ));
    };
    let cache = Cache::new(folder, DEFAULT_LIMIT, Secret::of_this_user());
    let contents = match clear {
        true => cache.clear().map_err(|error| CliError::failed(ArtifactError::io("clear the cache", folder, error)))?,
        false => cache.contents(),
    };
    if format == Format::Json {
        super::output::say_json(&format!("{:#}", json!({ "kinds": contents, "cleared": clear })));
        return Ok(Exit::Done);
    }
    let mut table = super::output::table(&["kind", "entries", "bytes"]);
    for (kind, usage) in &contents {
        table.add_row([kind.clone(), usage.entries.to_string(), usage.bytes.to_string()]);
    }
    say_lines!("{}{}\n{table}", folder.display(), if clear { ", now empty, held:" } else { ":" });
    Ok(Exit::Done)
}

fn bigram(corpus: &Corpus, stored: Option<&Path>, vocab_size: usize) -> CliResult {
    let tokenizer = match stored {
        Some(path) => Tokenizer::load(path).map_err(CliError::invalid)?,
        None => train_tokenizer(corpus, vocab_size, CHARACTERS_PER_DOCUMENT, u64::MAX).map_err(CliError::failed)?,
    };
    let bits = bigram_bits_per_byte(corpus, &tokenizer).map_err(CliError::failed)?;
    say!("{bits:.4} bits per byte on the validation split, {} tokens in the vocabulary", tokenizer.vocab_size());
    Ok(Exit::Done)
}

fn synthesize(corpus: &Corpus, out: &Path, kind: Kind) -> CliResult {
    let format = match kind {
        Kind::Parquet => ShardFormat::Parquet,
        Kind::Jsonl => ShardFormat::Jsonl,
        Kind::Text => ShardFormat::Text,
    };
    let written = write_shards(corpus, out, format).map_err(CliError::failed)?;
    say!("wrote {} shards to {}, the last one validation", written.len(), out.display());
    Ok(Exit::Done)
}
