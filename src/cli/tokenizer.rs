//! `nanochat tokenizer`: trains, compares and converts tokenizers.

use std::path::{Path, PathBuf};

use serde_json::json;

use nanochat_engine::data::train_tokenizer;
use nanochat_engine::tokenizer::{Difference, Piece, Published, PublishedName, Tokenizer, TokenizerFormat};

use super::data::Source;
use super::{CliError, CliResult, Exit, Format, input, output};

/// Train, convert and check tokenizers.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Train byte-pair ranks on the training split of some data
    Train {
        #[command(flatten)]
        source: Source,
        /// Number of tokens, the nine special tokens included
        #[arg(long)]
        vocab_size: usize,
        /// Folder for `tokenizer.json`
        #[arg(long)]
        out: PathBuf,
        /// Each document is cut to this many characters
        #[arg(long, default_value_t = 10_000)]
        max_chars_per_document: u64,
        /// Training stops after this many characters
        #[arg(long, default_value_t = 2_000_000_000)]
        max_chars: u64,
    },
    /// Print the ids of a text
    Encode {
        /// Folder or file of the tokenizer
        tokenizer: PathBuf,
        /// The text; without it, standard input is read
        text: Option<String>,
        /// Begin with `<|bos|>`
        #[arg(long)]
        bos: bool,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print the text of ids, byte for byte
    Decode {
        /// Folder or file of the tokenizer
        tokenizer: PathBuf,
        /// The ids; without them, standard input is read
        ids: Vec<u32>,
    },
    /// Show a tokenizer's size, special tokens and hash, and how well it compresses a text
    Inspect {
        /// Folder or file of the tokenizer
        tokenizer: PathBuf,
        /// A text file to compress, `-` for standard input
        #[arg(long)]
        text: Option<PathBuf>,
        /// GPT-2's published ranks (`r50k_base.tiktoken`), to compare the compression with
        #[arg(long, value_name = "FILE", requires = "text")]
        gpt2: Option<PathBuf>,
        /// GPT-4's published ranks (`cl100k_base.tiktoken`), to compare the compression with
        #[arg(long, value_name = "FILE", requires = "text")]
        gpt4: Option<PathBuf>,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Compare two tokenizers, on a text or by their ranks, and show the first difference; exit code 1 if there is one
    Check {
        /// Folder or file of a tokenizer
        tokenizer: PathBuf,
        /// Folder or file of the other
        other: PathBuf,
        /// A text file that both encode, `-` for standard input; without it the ranks are compared
        #[arg(long)]
        text: Option<PathBuf>,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Write a tokenizer in another format, by the extension `.json`, `.tiktoken` or `.pkl`
    Convert {
        /// Folder or file of the tokenizer
        tokenizer: PathBuf,
        /// The file to write
        out: PathBuf,
    },
}

/// Runs the command.
pub fn execute(args: Args) -> CliResult {
    match args.command {
        Command::Train { source, vocab_size, out, max_chars_per_document, max_chars } => {
            let corpus = source.open()?;
            let trained =
                train_tokenizer(&corpus, vocab_size, max_chars_per_document, max_chars).map_err(CliError::failed)?;
            trained.save(&out).map_err(CliError::failed)?;
            say!("trained {} tokens on {}", trained.vocab_size(), corpus.description());
            say!("wrote {}, sha256 {}", out.join("tokenizer.json").display(), trained.sha256());
            Ok(Exit::Done)
        }
        Command::Encode { tokenizer, text, bos, format } => encode(&load(&tokenizer)?, text, bos, format),
        Command::Decode { tokenizer, ids } => decode(&load(&tokenizer)?, ids),
        Command::Inspect { tokenizer, text, gpt2, gpt4, format } => {
            let published = [(PublishedName::Gpt2, gpt2), (PublishedName::Gpt4, gpt4)];
            inspect(&load(&tokenizer)?, text.as_deref(), published, format)
        }
        Command::Check { tokenizer, other, text, format } => {
            check([&load(&tokenizer)?, &load(&other)?], text.as_deref(), format)
        }
        Command::Convert { tokenizer, out } => convert(&load(&tokenizer)?, &out),
    }
}

fn load(path: &Path) -> Result<Tokenizer, CliError> {
    Tokenizer::load(path).map_err(CliError::invalid)
}

/// All of standard input, which must be UTF-8.
fn standard_input() -> Result<String, CliError> {
    input::text(Path::new("-"))
}

fn encode(tokenizer: &Tokenizer, text: Option<String>, bos: bool, format: Format) -> CliResult {
    let text = text.map_or_else(standard_input, Ok)?;
    let ids = if bos { tokenizer.encode_document(&text) } else { tokenizer.encode(&text) };
    match format {
        Format::Text => say!("{}", ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")),
        Format::Json => {
            let tokens: Vec<String> = ids.iter().map(|&id| tokenizer.decode(&[id])).collect();
            super::output::say_json(&format!("{:#}", json!({ "ids": ids, "tokens": tokens })));
        }
    }
    Ok(Exit::Done)
}

fn decode(tokenizer: &Tokenizer, mut ids: Vec<u32>) -> CliResult {
    if ids.is_empty() {
        let words = standard_input()?;
        let words = words.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']'));
        for word in words.filter(|word| !word.is_empty()) {
            ids.push(word.parse().map_err(|_| CliError::usage(format!("{word:?} is not a token id"), None))?);
        }
    }
    if let Some(id) = ids.iter().find(|&&id| id as usize >= tokenizer.vocab_size()) {
        let help = format!("this tokenizer has the ids 0 to {}", tokenizer.vocab_size() - 1);
        return Err(CliError::usage(format!("there is no token {id}"), Some(&help)));
    }
    output::bytes(&tokenizer.decode_bytes(&ids));
    Ok(Exit::Done)
}

/// Compression of a text.
struct Compression {
    name: &'static str,
    ranks: usize,
    bytes: usize,
    tokens: usize,
}

impl Compression {
    fn bytes_per_token(&self) -> f64 {
        self.bytes as f64 / self.tokens.max(1) as f64
    }

    fn json(&self) -> serde_json::Value {
        let (name, ranks, bytes, tokens) = (self.name, self.ranks, self.bytes, self.tokens);
        json!({ "name": name, "ranks": ranks, "bytes": bytes, "tokens": tokens, "bytes_per_token": self.bytes_per_token() })
    }
}

/// Compression of a text by this tokenizer and by the published ones with a file.
fn compressions(
    tokenizer: &Tokenizer,
    text: &str,
    published: [(PublishedName, Option<PathBuf>); 2],
) -> Result<Vec<Compression>, CliError> {
    let (ranks, tokens) = (tokenizer.ranks().len(), tokenizer.encode(text).len());
    let mut found = vec![Compression { name: "this tokenizer", ranks, bytes: text.len(), tokens }];
    for (which, file) in published {
        let Some(file) = file else { continue };
        let name = match which {
            PublishedName::Gpt2 => "GPT-2",
            PublishedName::Gpt4 => "GPT-4",
        };
        let other = Published::load(which, &file).map_err(CliError::invalid)?;
        let tokens = other.count(text).map_err(CliError::failed)?;
        found.push(Compression { name, ranks: other.ranks(), bytes: text.len(), tokens });
    }
    Ok(found)
}

fn inspect(
    tokenizer: &Tokenizer,
    text: Option<&Path>,
    published: [(PublishedName, Option<PathBuf>); 2],
    format: Format,
) -> CliResult {
    let text = text.map(input::text).transpose()?;
    let compressions = text.map_or(Ok(Vec::new()), |text| compressions(tokenizer, &text, published))?;
    let longest = tokenizer.ranks().iter().map(Vec::len).max().unwrap_or(0);
    if format == Format::Json {
        let special: serde_json::Map<_, _> =
            tokenizer.special_tokens().map(|(name, id)| (name.to_string(), json!(id))).collect();
        super::output::say_json(&format!(
            "{:#}",
            json!({
                "vocab_size": tokenizer.vocab_size(), "ranks": tokenizer.ranks().len(), "longest_token_bytes": longest,
                "special_tokens": special, "sha256": tokenizer.sha256(), "text": compressions.first().map(Compression::json),
                "published": compressions.iter().skip(1).map(Compression::json).collect::<Vec<_>>(),
            })
        ));
        return Ok(Exit::Done);
    }
    say!("{} tokens: {} by rank, then", tokenizer.vocab_size(), tokenizer.ranks().len());
    for (name, id) in tokenizer.special_tokens() {
        say!("  {id} {name}");
    }
    say_lines!("longest token: {longest} bytes\nsha256 {}", tokenizer.sha256());
    let own = compressions.first().map_or(f64::NAN, Compression::bytes_per_token);
    for (number, one) in compressions.iter().enumerate() {
        let (ratio, bytes, tokens) = (one.bytes_per_token(), one.bytes, one.tokens);
        match number {
            0 => say!("{bytes} bytes in {tokens} tokens: {ratio:.3} bytes a token"),
            _ => say!(
                "{} ({} ranks): {tokens} tokens, {ratio:.3} bytes a token; this tokenizer {:+.1}%",
                one.name,
                one.ranks,
                100.0 * (own / ratio - 1.0)
            ),
        }
    }
    Ok(Exit::Done)
}

fn check([one, other]: [&Tokenizer; 2], text: Option<&Path>, format: Format) -> CliResult {
    let rank = one.first_differing_rank(other);
    let text = text.map(input::text).transpose()?;
    let difference = text.as_ref().and_then(|text| one.first_difference(other, text));
    let differs = if text.is_some() { difference.is_some() } else { rank.is_some() };
    let exit = if differs { Exit::Failed } else { Exit::Done };
    if format == Format::Json {
        let piece = |piece: &Piece| json!({ "id": piece.id, "text": String::from_utf8_lossy(&piece.bytes) });
        let pieces = |pieces: &[Piece]| pieces.iter().map(piece).collect::<Vec<_>>();
        let place = difference.as_ref().map(|at| {
            json!({
                "tokens_before": at.tokens_before, "byte": at.byte, "line": at.line, "column": at.column,
                "next": at.next.each_ref().map(|next| pieces(next)),
            })
        });
        super::output::say_json(&format!(
            "{:#}",
            json!({
                "equal": !differs, "sha256": [one.sha256(), other.sha256()], "vocab_size": [one.vocab_size(), other.vocab_size()],
                "first_differing_rank": rank, "text_bytes": text.map(|text| text.len()), "first_difference": place,
            })
        ));
        return Ok(exit);
    }
    match rank {
        None => say!("ranks: all {} equal", one.ranks().len()),
        Some(rank) => {
            say!("ranks: the first {rank} equal, of {} and {}", one.ranks().len(), other.ranks().len());
            for tokenizer in [one, other] {
                let bytes = tokenizer.ranks().get(rank).map(|bytes| format!("{:?}", String::from_utf8_lossy(bytes)));
                say!("  {rank}: {}", bytes.as_deref().unwrap_or("no such rank"));
            }
        }
    }
    match (&text, &difference) {
        (None, _) => {}
        (Some(text), None) => {
            say!("text: {} bytes give both the same {} tokens", text.len(), one.encode(text).len())
        }
        (Some(_), Some(difference)) => print_difference(difference),
    }
    Ok(exit)
}

fn print_difference(difference: &Difference) {
    let Difference { tokens_before, byte, line, column, next } = difference;
    say!("text: {tokens_before} tokens equal, then at byte {byte} (line {line}, character {column}):");
    for pieces in next {
        let shown = pieces.iter().map(|piece| format!("{} {:?}", piece.id, String::from_utf8_lossy(&piece.bytes)));
        say!("  {}", shown.collect::<Vec<_>>().join(", "));
    }
}

fn convert(tokenizer: &Tokenizer, out: &Path) -> CliResult {
    let format = TokenizerFormat::of(out).ok_or_else(|| {
        CliError::usage(
            format!("{}: the file's extension doesn't name a format", out.display()),
            Some("end the file's name in .json, .tiktoken or .pkl"),
        )
    })?;
    tokenizer.save_as(out, format).map_err(CliError::failed)?;
    say!("wrote {}, sha256 {}", out.display(), tokenizer.sha256());
    Ok(Exit::Done)
}
