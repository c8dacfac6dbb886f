//! `nanochat chat`: a conversation with a checkpoint.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustyline::error::ReadlineError;

use nanochat_engine::generate::{Chat, End, Sampling, TextStream, Token};

use super::generate::{ModelArgs, Stream};
use super::{CliError, CliResult, Exit, input, signals};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// System message before the first message
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Maximum number of tokens of a reply
    #[arg(long, default_value_t = 256)]
    max_tokens: usize,
    /// Sampling temperature; 0 takes the most likely token each time
    #[arg(long, default_value_t = 0.6)]
    temperature: f64,
    /// Sample from this many most likely tokens; 0 for all
    #[arg(long, default_value_t = 50)]
    top_k: usize,
    /// Seed of the sampling
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

/// State shared by the signal handler and the conversation.
#[derive(Default)]
struct Flags {
    /// A reply is being generated: an interrupt ends the reply and not the program.
    replying: AtomicBool,
    interrupted: AtomicBool,
}

pub fn execute(args: Args) -> CliResult {
    let trained = args.model.open()?;
    let sampling = Sampling {
        max_tokens: args.max_tokens,
        temperature: args.temperature,
        top_k: (args.top_k > 0).then_some(args.top_k),
        seed: args.seed,
        max_cache_bytes: None,
    };
    let chat = Chat::new(&trained.model, &trained.tokenizer, sampling, args.system).map_err(CliError::failed)?;
    let flags = catch_interrupts();
    let talk = Talk { chat, tokenizer: &trained.tokenizer, flags, raw: args.model.raw };
    if std::io::stdin().is_terminal() { talk.at_a_terminal() } else { talk.line_by_line() }
}

/// An interrupt ends a reply; without a reply, and without an editor that handles it, it ends the program.
fn catch_interrupts() -> Arc<Flags> {
    let flags = Arc::new(Flags::default());
    let seen = flags.clone();
    signals::catch(move || {
        if !seen.replying.load(Ordering::SeqCst) {
            return ControlFlow::Break(());
        }
        seen.interrupted.store(true, Ordering::SeqCst);
        ControlFlow::Continue(())
    });
    flags
}

/// The meaning of a line.
#[derive(Debug, PartialEq, Eq)]
enum Line<'l> {
    Nothing,
    Quit,
    Clear,
    Words(&'l str),
}

impl<'l> Line<'l> {
    fn of(line: &'l str) -> Self {
        let words = line.trim();
        match words.to_lowercase().as_str() {
            "" => Self::Nothing,
            "quit" | "exit" => Self::Quit,
            "clear" => Self::Clear,
            _ => Self::Words(words),
        }
    }
}

/// A conversation.
struct Talk<'m> {
    chat: Chat<'m>,
    tokenizer: &'m nanochat_engine::tokenizer::Tokenizer,
    flags: Arc<Flags>,
    raw: bool,
}

impl Talk<'_> {
    fn at_a_terminal(mut self) -> CliResult {
        let failed = |error: ReadlineError| CliError::failed(miette::miette!("can't read from the terminal: {error}"));
        let mut editor = rustyline::DefaultEditor::new().map_err(failed)?;
        say!("Ctrl-C stops a reply; `clear` starts over, `quit` or Ctrl-D ends");
        loop {
            let line = match editor.readline("\nUser: ") {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => return Ok(Exit::Done),
                Err(error) => return Err(failed(error)),
            };
            match Line::of(&line) {
                Line::Nothing => {}
                Line::Quit => return Ok(Exit::Done),
                Line::Clear => {
                    self.chat.clear();
                    say!("(cleared)");
                }
                Line::Words(words) => {
                    let _ = editor.add_history_entry(words);
                    super::output::text("\nAssistant: ");
                    let _ = std::io::stdout().flush();
                    self.reply(words)?;
                }
            }
        }
    }

    /// Takes each line of standard input as a message; each reply ends a line of standard output.
    fn line_by_line(mut self) -> CliResult {
        let mut lines = std::io::stdin().lock();
        for number in 1.. {
            let mut line = Vec::new();
            let read = lines.read_until(b'\n', &mut line);
            if read.map_err(|error| CliError::usage(format!("can't read standard input: {error}"), None))? == 0 {
                break;
            }
            let line = input::utf8(line, &format!("line {number} of standard input"))?;
            match Line::of(&line) {
                Line::Nothing => {}
                Line::Quit => break,
                Line::Clear => self.chat.clear(),
                Line::Words(words) => self.reply(words)?,
            }
        }
        Ok(Exit::Done)
    }

    fn reply(&mut self, words: &str) -> Result<(), CliError> {
        let Self { chat, tokenizer, flags, raw } = self;
        flags.interrupted.store(false, Ordering::SeqCst);
        flags.replying.store(true, Ordering::SeqCst);
        let mut out = Stream { tokenizer, text: TextStream::default(), is_shown: true, raw: *raw };
        let mut observe = |token: Token| {
            if flags.interrupted.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { out.take(token.id) }
        };
        let reply = chat.say(words, &mut observe);
        flags.replying.store(false, Ordering::SeqCst);
        let reply = reply.map_err(CliError::failed)?;
        out.end();
        if reply.end == End::Stopped {
            tell!("(stopped)");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_words_or_commands() {
        let lines = [("  ", Line::Nothing), (" Quit\n", Line::Quit), ("exit", Line::Quit), ("CLEAR", Line::Clear)];
        for (line, expected) in lines {
            assert_eq!(Line::of(line), expected);
        }
        assert_eq!(Line::of(" clear the table\r\n"), Line::Words("clear the table"));
    }
}
