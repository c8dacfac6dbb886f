//! `nanochat tokenizer`: trains, tries out, and converts tokenizers.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::data::{Source, failed, invalid};
use super::{CliError, CliResult, Exit, Format};
use crate::data::train_tokenizer;
use crate::tokenizer::{Tokenizer, TokenizerFormat};

/// Train, convert and check tokenizers.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Train byte-pair ranks on the training split of some data.
    Train {
        #[command(flatten)]
        source: Source,
        /// Number of tokens, the nine special tokens included.
        #[arg(long)]
        vocab_size: usize,
        /// Folder for `tokenizer.json`.
        #[arg(long)]
        out: PathBuf,
        /// Each document is cut to this many characters.
        #[arg(long, default_value_t = 10_000)]
        max_chars_per_document: u64,
        /// Training stops after this many characters.
        #[arg(long, default_value_t = 2_000_000_000)]
        max_chars: u64,
    },
    /// Print the ids of a text.
    Encode {
        /// Folder or file of the tokenizer.
        tokenizer: PathBuf,
        /// The text; without it, standard input is read.
        text: Option<String>,
        /// Begin with `<|bos|>`.
        #[arg(long)]
        bos: bool,
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print the text of ids, byte for byte.
    Decode {
        /// Folder or file of the tokenizer.
        tokenizer: PathBuf,
        /// The ids; without them, standard input is read.
        ids: Vec<u32>,
    },
    /// Show a tokenizer's size, special tokens and hash, and how well it compresses a text.
    Inspect {
        /// Folder or file of the tokenizer.
        tokenizer: PathBuf,
        /// A text file to compress.
        #[arg(long)]
        text: Option<PathBuf>,
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Write a tokenizer in another format; `.json`, `.tiktoken` and `.pkl` say which.
    Convert {
        /// Folder or file of the tokenizer.
        tokenizer: PathBuf,
        /// The file to write.
        out: PathBuf,
    },
}

/// Carries the command out.
pub fn execute(args: Args) -> CliResult {
    match args.command {
        Command::Train { source, vocab_size, out, max_chars_per_document, max_chars } => {
            let corpus = source.open()?;
            let trained = train_tokenizer(&corpus, vocab_size, max_chars_per_document, max_chars).map_err(failed)?;
            trained.save(&out).map_err(failed)?;
            println!("trained {} tokens on {}", trained.vocab_size(), corpus.description());
            println!("wrote {}, sha256 {}", out.join("tokenizer.json").display(), trained.sha256());
            Ok(Exit::Done)
        }
        Command::Encode { tokenizer, text, bos, format } => encode(&load(&tokenizer)?, text, bos, format),
        Command::Decode { tokenizer, ids } => decode(&load(&tokenizer)?, ids),
        Command::Inspect { tokenizer, text, format } => inspect(&load(&tokenizer)?, text.as_deref(), format),
        Command::Convert { tokenizer, out } => convert(&load(&tokenizer)?, &out),
    }
}

fn load(path: &Path) -> Result<Tokenizer, CliError> {
    Tokenizer::load(path).map_err(invalid)
}

/// All of standard input, which must be UTF-8.
fn standard_input() -> Result<String, CliError> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| invalid(format!("standard input: {error}")))?;
    Ok(text)
}

fn encode(tokenizer: &Tokenizer, text: Option<String>, bos: bool, format: Format) -> CliResult {
    let text = text.map_or_else(standard_input, Ok)?;
    let ids = if bos { tokenizer.encode_document(&text) } else { tokenizer.encode(&text) };
    match format {
        Format::Text => println!("{}", ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")),
        Format::Json => {
            let tokens: Vec<String> = ids.iter().map(|&id| tokenizer.decode(&[id])).collect();
            println!("{:#}", json!({ "ids": ids, "tokens": tokens }));
        }
    }
    Ok(Exit::Done)
}

fn decode(tokenizer: &Tokenizer, mut ids: Vec<u32>) -> CliResult {
    if ids.is_empty() {
        let words = standard_input()?;
        let words = words.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']'));
        for word in words.filter(|word| !word.is_empty()) {
            ids.push(word.parse().map_err(|_| CliError::usage(format!("{word:?} is no token id"), None))?);
        }
    }
    if let Some(id) = ids.iter().find(|&&id| id as usize >= tokenizer.vocab_size()) {
        let help = format!("this tokenizer has the ids 0 to {}", tokenizer.vocab_size() - 1);
        return Err(CliError::usage(format!("there is no token {id}"), Some(&help)));
    }
    std::io::stdout().write_all(&tokenizer.decode_bytes(&ids)).map_err(failed)?;
    Ok(Exit::Done)
}

fn inspect(tokenizer: &Tokenizer, text: Option<&Path>, format: Format) -> CliResult {
    let compression = text.map(|path| {
        let text = std::fs::read_to_string(path).map_err(|error| invalid(format!("{}: {error}", path.display())))?;
        Ok::<_, CliError>((text.len(), tokenizer.encode(&text).len()))
    });
    let compression = compression.transpose()?;
    let longest = tokenizer.ranks().iter().map(Vec::len).max().unwrap_or(0);
    if format == Format::Json {
        let special: serde_json::Map<_, _> =
            tokenizer.special_tokens().map(|(name, id)| (name.to_string(), json!(id))).collect();
        let compression = compression.map(|(bytes, tokens)| {
            json!({ "bytes": bytes, "tokens": tokens, "bytes_per_token": bytes as f64 / tokens.max(1) as f64 })
        });
        println!(
            "{:#}",
            json!({
                "vocab_size": tokenizer.vocab_size(), "ranks": tokenizer.ranks().len(), "longest_token_bytes": longest,
                "special_tokens": special, "sha256": tokenizer.sha256(), "text": compression,
            })
        );
        return Ok(Exit::Done);
    }
    println!("{} tokens: {} by rank, then", tokenizer.vocab_size(), tokenizer.ranks().len());
    for (name, id) in tokenizer.special_tokens() {
        println!("  {id} {name}");
    }
    println!("longest token: {longest} bytes\nsha256 {}", tokenizer.sha256());
    if let Some((bytes, tokens)) = compression {
        println!("{bytes} bytes in {tokens} tokens: {:.3} bytes a token", bytes as f64 / tokens.max(1) as f64);
    }
    Ok(Exit::Done)
}

fn convert(tokenizer: &Tokenizer, out: &Path) -> CliResult {
    let format = TokenizerFormat::of(out).ok_or_else(|| {
        CliError::usage(
            format!("{}: can't tell the format to write", out.display()),
            Some("end the file's name in .json, .tiktoken or .pkl"),
        )
    })?;
    tokenizer.save_as(out, format).map_err(failed)?;
    println!("wrote {}, sha256 {}", out.display(), tokenizer.sha256());
    Ok(Exit::Done)
}
