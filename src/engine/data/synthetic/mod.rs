//! The built-in corpus: English-like documents by a seeded grammar, as many as asked for, the same on every machine.
//!
//! There is more in them to learn than which word follows which: sums come out right, what was put away is asked for
//! later, people keep their names and habits within a document and across all of them, lists are taken up again in their
//! order, poems come back to their first line. A model of neighbouring tokens alone can't know any of this.
//!
//! Every document has a stream of random numbers of its own, so that it can be made again by its number alone, and
//! nothing needs to be stored. The bytes for a seed are part of the results that rest on them: they never change.

mod papers;
mod scenes;
mod scribe;
mod words;
mod world;

use scribe::Scribe;
use world::World;

use crate::random::Xoshiro256;

/// Makes the documents of one seed.
#[derive(Debug)]
pub(super) struct Generator {
    seed: u64,
    world: World,
}

impl Generator {
    /// The corpus of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, world: World::new(seed) }
    }

    /// The text of a document by its number.
    pub fn document(&self, number: u64) -> String {
        let mut scribe = Scribe::new(&self.world, Xoshiro256::numbered(self.seed, number));
        if scribe.random.below(100) < 60 {
            scenes::story(&mut scribe);
        } else {
            papers::paper(&mut scribe);
        }
        scribe.finish()
    }

    /// How many documents it takes to hold at least `bytes` bytes; at least two, one for each split.
    pub fn documents_for(&self, bytes: u64) -> usize {
        let (mut documents, mut total) = (0, 0);
        while total < bytes || documents < 2 {
            total += self.document(documents as u64).len() as u64;
            documents += 1;
        }
        documents
    }
}
