//! Reads and tokenises documents in order, over and over, on a thread of its own that keeps a little ahead.
//!
//! What comes out is the same as without the thread: reads arrive in order, each with the position after it, so a
//! loader's state never knows how far ahead the thread is.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use crate::tokenizer::Tokenizer;

use super::tokens::{TokenStore, Tokens};
use super::{Corpus, DataError, LoaderState, Split};

/// Most documents a read: the baseline's size, which decides how far its buffer is filled.
const READ: usize = 128;
/// Reads that wait to be taken.
const AHEAD: usize = 4;
/// How long is waited for a read before it is asked whether to stop.
const PATIENCE: Duration = Duration::from_millis(50);

/// The next document to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub epoch: u64,
    pub shard: usize,
    pub group: usize,
    pub document: usize,
}

impl Default for Position {
    fn default() -> Self {
        Self { epoch: 1, shard: 0, group: 0, document: 0 }
    }
}

/// Up to 128 documents of one group, each beginning with `<|bos|>`, and the position after them.
#[derive(Debug)]
pub(super) struct Read {
    pub documents: Arc<Vec<Tokens>>,
    pub position: Position,
}

/// Documents of one split from a position on, without end.
#[derive(Debug)]
pub(super) struct Source {
    pub corpus: Arc<Corpus>,
    pub tokenizer: Arc<Tokenizer>,
    pub split: Split,
    /// Tokens of a row: more of a document are never needed.
    row: usize,
    /// The thread, once there is one.
    ahead: Option<Receiver<Result<Read, DataError>>>,
}

impl Source {
    pub fn new(corpus: Arc<Corpus>, tokenizer: Arc<Tokenizer>, split: Split, row: usize) -> Self {
        Self { corpus, tokenizer, split, row, ahead: None }
    }

    /// Forgets what was read ahead: the next read starts where it is told to.
    pub fn reset(&mut self) {
        self.ahead = None;
    }

    /// The read after `position`, which is where the last one ended unless there was a [`Self::reset`]; [`DataError::Stopped`] as
    /// soon as `stop` says so.
    pub fn next(&mut self, position: Position, stop: &dyn Fn() -> bool) -> Result<Read, DataError> {
        if stop() {
            return Err(DataError::Stopped);
        }
        let receiver = match self.ahead.take() {
            Some(receiver) => receiver,
            None => self.start(position)?,
        };
        let read = loop {
            match receiver.recv_timeout(PATIENCE) {
                Ok(read) => break read?,
                Err(RecvTimeoutError::Timeout) if stop() => return Err(DataError::Stopped),
                Err(RecvTimeoutError::Timeout) => {}
                // A thread that is gone without a word has panicked: its panic is printed, and this is what is left to say.
                Err(RecvTimeoutError::Disconnected) => return Err(DataError::ThreadStopped),
            }
        };
        self.ahead = Some(receiver);
        Ok(read)
    }

    fn start(&self, position: Position) -> Result<Receiver<Result<Read, DataError>>, DataError> {
        let (sender, receiver) = sync_channel(AHEAD);
        let (corpus, split) = (self.corpus.clone(), self.split);
        let tokens = TokenStore::new(self.tokenizer.clone(), corpus.cache().cloned(), self.row);
        std::thread::Builder::new()
            .name("data".to_string())
            .spawn(move || Reader { corpus, tokens, split, position, group: None }.run(&sender))
            .map_err(DataError::Thread)?;
        Ok(receiver)
    }

    /// Whether a state may belong here.
    pub fn check(&self, state: &LoaderState) -> Result<(), DataError> {
        let wrong = |problem: String| Err(DataError::State(problem));
        if state.split != self.split {
            return wrong(format!("it is of the {} split, not {}", state.split, self.split));
        }
        let shards = self.corpus.shards(self.split);
        let size = shards.get(state.shard).and_then(|shard| shard.group_sizes().get(state.group));
        if state.epoch == 0 || size.is_none_or(|&size| state.document > size) {
            return wrong(format!(
                "there is no document {} in group {} of shard {}",
                state.document, state.group, state.shard
            ));
        }
        let vocab_size = self.tokenizer.vocab_size();
        match state.tokens.iter().find(|&&token| token as usize >= vocab_size) {
            Some(token) => wrong(format!("token {token} is past the vocabulary of {vocab_size}")),
            None => Ok(()),
        }
    }
}

/// What the thread does.
struct Reader {
    corpus: Arc<Corpus>,
    tokens: TokenStore,
    split: Split,
    position: Position,
    /// The documents of the group at the position, once read.
    group: Option<Vec<String>>,
}

impl Reader {
    /// Reads until nobody listens or a shard can't be read.
    fn run(mut self, sender: &SyncSender<Result<Read, DataError>>) {
        loop {
            let read = self.read();
            let failed = read.is_err();
            if sender.send(read).is_err() || failed {
                return;
            }
        }
    }

    /// One read. The position may come to rest at the end of a group; the next read moves on.
    fn read(&mut self) -> Result<Read, DataError> {
        self.settle();
        let at = self.position;
        let place = (self.tokens.tokenizer(), self.tokens.row(), self.split, at.shard, at.group, at.document);
        if let Some(documents) = self.corpus.remembered().get(&place) {
            self.position.document += documents.len();
            self.group = None;
            return Ok(Read { documents, position: self.position });
        }
        if self.group.is_none() {
            self.group = Some(self.corpus.shards(self.split)[at.shard].read_group(at.group)?);
        }
        let documents = self.group.as_deref().unwrap_or_default();
        let end = documents.len().min(at.document + READ);
        let texts = &documents[at.document..end];
        let documents = self.tokens.encode(texts);
        self.corpus.remembered().keep(place, texts.iter().map(String::len).sum(), &documents);
        if end == self.group.as_ref().map_or(0, Vec::len) {
            self.group = None;
        }
        self.position.document = end;
        Ok(Read { documents: Arc::new(documents), position: self.position })
    }

    /// Moves the position past the ends of groups, shards and the split, to a document. There is one: a corpus has no
    /// empty split.
    fn settle(&mut self) {
        let shards = self.corpus.shards(self.split);
        loop {
            let at = &mut self.position;
            if at.shard >= shards.len() {
                *at = Position { epoch: at.epoch + 1, ..Position::default() };
            }
            let sizes = shards[at.shard].group_sizes();
            match sizes.get(at.group) {
                Some(&size) if at.document < size => return,
                Some(_) => (at.group, at.document) = (at.group + 1, 0),
                None => (at.shard, at.group, at.document) = (at.shard + 1, 0, 0),
            }
            self.group = None;
        }
    }
}
