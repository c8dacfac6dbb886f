//! The people and towns of one synthetic corpus. They are the same in all its documents, so that there is something to
//! know besides grammar: who lives where, does what, and likes what.

use super::random::Random;
use super::words::{
    DISHES, JOBS, MEN, PET_NAMES, PETS, RIVERS, SURNAME_ENDS, SURNAME_STARTS, TOWN_ENDS, TOWN_STARTS, TRAITS, WOMEN,
};

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
    /// Kind, picture, name.
    pub pet: (&'static str, &'static str, &'static str),
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
        let mut random = Random::new(seed, u64::MAX);
        let towns = (0..TOWNS).map(|_| town(&mut random)).collect();
        let people = (0..PEOPLE).map(|_| person(&mut random)).collect();
        Self { people, towns }
    }
}

fn town(random: &mut Random) -> Town {
    let name = format!("{}{}", random.pick(&TOWN_STARTS), random.pick(&TOWN_ENDS));
    Town { name, river: random.pick(&RIVERS), dish: random.pick(&DISHES) }
}

fn person(random: &mut Random) -> Person {
    let woman = random.once_in(2);
    let (kind, picture) = random.pick_skewed(&PETS);
    Person {
        name: if woman { random.pick(&WOMEN) } else { random.pick(&MEN) },
        surname: format!("{}{}", random.pick(&SURNAME_STARTS), random.pick(&SURNAME_ENDS)),
        woman,
        town: random.below(TOWNS),
        job: random.pick(&JOBS),
        dish: random.pick(&DISHES),
        nature: random.pick(&TRAITS),
        pet: (kind, picture, random.pick(&PET_NAMES)),
        born: random.between(1840, 1899),
    }
}
