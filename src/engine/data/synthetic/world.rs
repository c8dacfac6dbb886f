//! The people and towns of one synthetic corpus. They are the same in all its documents, so that there is something to
//! know besides grammar: who lives where, does what, and likes what.

use super::words::{forms, words};
use crate::random::Xoshiro256;

/// People of a world.
const PEOPLE: usize = 320;
/// Towns of a world.
const TOWNS: usize = 60;

/// Someone, with all that is true of them.
#[derive(Debug)]
pub(super) struct Person {
    pub name: &'static str,
    pub surname: String,
    pub woman: bool,
    /// Index of the town they live in.
    pub town: usize,
    pub job: &'static str,
    pub dish: &'static str,
    pub nature: &'static str,
    /// Kind and picture.
    pub pet: [&'static str; 2],
    pub pet_name: &'static str,
    pub born: usize,
}

/// A town.
#[derive(Debug)]
pub(super) struct Town {
    pub name: String,
    pub river: &'static str,
    /// The dish it is known for.
    pub dish: &'static str,
}

/// Everybody and everywhere.
#[derive(Debug)]
pub(super) struct World {
    pub people: Vec<Person>,
    pub towns: Vec<Town>,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Xoshiro256::numbered(seed, u64::MAX);
        let towns = (0..TOWNS).map(|_| town(&mut random)).collect();
        let people = (0..PEOPLE).map(|_| person(&mut random)).collect();
        Self { people, towns }
    }
}

fn town(random: &mut Xoshiro256) -> Town {
    let mut pick = |section| random.pick(words(section));
    Town { name: format!("{}{}", pick("town starts"), pick("town ends")), river: pick("rivers"), dish: pick("dishes") }
}

fn person(random: &mut Xoshiro256) -> Person {
    let woman = random.once_in(2);
    let pet = forms(random.pick_skewed(words("pets")));
    let mut pick = |section| random.pick(words(section));
    let name = pick(if woman { "women" } else { "men" });
    let surname = format!("{}{}", pick("surname starts"), pick("surname ends"));
    let town = random.below(TOWNS);
    let mut pick = |section| random.pick(words(section));
    let (job, dish, nature, pet_name) = (pick("jobs"), pick("dishes"), pick("traits"), pick("pet names"));
    Person { name, surname, woman, town, job, dish, nature, pet, pet_name, born: random.between(1840, 1899) }
}
