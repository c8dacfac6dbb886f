//! Writes a document: fills templates, keeps the cast, and remembers what may be asked at the end.

use super::random::Random;
use super::words::{COINED_ENDS, COINED_MIDDLES, COINED_STARTS, NUMBERS, Noun, THINGS};
use super::world::{Person, Town, World};

/// The writer of one document.
pub(super) struct Scribe<'w> {
    pub world: &'w World,
    pub random: Random,
    text: String,
    /// Who the document is about, and two more; their given names differ.
    pub hero: &'w Person,
    pub friend: &'w Person,
    pub third: &'w Person,
    /// Questions that the text so far answers, with the answers.
    questions: Vec<(String, String)>,
}

/// Values for the places of a template.
pub(super) type Slots<'s> = &'s [(&'s str, &'s str)];

impl<'w> Scribe<'w> {
    pub fn new(world: &'w World, mut random: Random) -> Self {
        let hero = &world.people[random.below(world.people.len()).min(random.below(world.people.len()))];
        let mut another = |taken: &[&Person]| loop {
            let person = &world.people[random.below(world.people.len())];
            if taken.iter().all(|other| other.name != person.name) {
                return person;
            }
        };
        let friend = another(&[hero]);
        let third = another(&[hero, friend]);
        Self { world, random, text: String::new(), hero, friend, third, questions: Vec::new() }
    }

    /// The text without what trails it.
    pub fn finish(self) -> String {
        self.text.trim_end().to_string()
    }

    /// The town where somebody lives.
    pub fn town_of(&self, person: &Person) -> &'w Town {
        &self.world.towns[person.town]
    }

    /// Adds a sentence to the paragraph: one of the templates, filled. `{H}`, `{F}` and `{T}` are the names of the cast;
    /// `{he}`, `{He}`, `{him}`, `{his}`, `{His}` are the hero's pronouns, and with an `f` in front (`{fhe}`) the friend's;
    /// everything else comes from `slots`.
    pub fn tell(&mut self, templates: &[&str], slots: Slots) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push(' ');
        }
        let template = self.random.pick(templates);
        let sentence = self.fill(template, slots);
        self.text.push_str(&sentence);
    }

    /// Adds a line: one of the templates, filled.
    pub fn line(&mut self, templates: &[&str], slots: Slots) {
        let template = self.random.pick(templates);
        let sentence = self.fill(template, slots);
        self.text.push_str(&sentence);
        self.text.push('\n');
    }

    /// Ends a paragraph.
    pub fn paragraph(&mut self) {
        let end = self.text.trim_end().len();
        self.text.truncate(end);
        self.text.push_str("\n\n");
    }

    /// Remembers what may be asked at the end.
    pub fn remember(&mut self, question: &str, answer: &str, slots: Slots) {
        let entry = (self.fill(question, slots), self.fill(answer, slots));
        self.questions.push(entry);
    }

    /// Asks up to `count` of what was remembered, in the order of the telling or not, and answers.
    pub fn ask(&mut self, count: usize) {
        for _ in 0..count.min(self.questions.len()) {
            let index = self.random.below(self.questions.len());
            let (question, answer) = self.questions.remove(index);
            self.line(&["Q: {q}\nA: {a}"], &[("q", &question), ("a", &answer)]);
        }
    }

    fn fill(&self, template: &str, slots: Slots) -> String {
        let mut filled = String::with_capacity(2 * template.len());
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            let (key, after) = after.split_once('}').unwrap_or((after, ""));
            filled.push_str(self.value(key, slots));
            rest = after;
        }
        filled.push_str(rest);
        filled
    }

    fn value<'s>(&'s self, key: &str, slots: Slots<'s>) -> &'s str {
        if let Some((_, value)) = slots.iter().find(|(name, _)| *name == key) {
            return value;
        }
        match key {
            "H" => self.hero.name,
            "F" => self.friend.name,
            "T" => self.third.name,
            _ => match key.strip_prefix('f') {
                Some(key) => pronoun(self.friend, key),
                None => pronoun(self.hero, key),
            },
        }
    }

    /// Some thing, the common ones more often.
    pub fn thing(&mut self) -> Noun {
        self.random.pick_skewed(&THINGS)
    }

    /// A name that no list holds: it can be known only from where it came up before.
    pub fn coin(&mut self) -> String {
        let random = &mut self.random;
        format!("{}{}{}", random.pick(&COINED_STARTS), random.pick(&COINED_MIDDLES), random.pick(&COINED_ENDS))
    }

    /// A few different choices, in random order.
    pub fn several<T: Copy + PartialEq>(&mut self, choices: &[T], count: usize) -> Vec<T> {
        let mut chosen = Vec::with_capacity(count);
        while chosen.len() < count {
            let choice = self.random.pick_skewed(choices);
            if !chosen.contains(&choice) {
                chosen.push(choice);
            }
        }
        chosen
    }
}

fn pronoun(person: &Person, key: &str) -> &'static str {
    match (key, person.woman) {
        ("he", true) => "she",
        ("he", false) => "he",
        ("He", true) => "She",
        ("He", false) => "He",
        ("him", true) | ("his", true) => "her",
        ("him", false) => "him",
        ("his", false) => "his",
        ("His", true) => "Her",
        ("His", false) => "His",
        _ => unreachable!("a template of this module names a place that nobody fills"),
    }
}

/// A number in words up to twenty, then in digits.
pub(super) fn number(n: usize) -> String {
    NUMBERS.get(n).map_or_else(|| n.to_string(), |word| (*word).to_string())
}

/// So many of a thing.
pub(super) fn counted(n: usize, thing: Noun) -> String {
    format!("{} {}", number(n), if n == 1 { thing.0 } else { thing.1 })
}

/// "a" or "an", with the word.
pub(super) fn with_article(word: &str) -> String {
    let article = if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {word}")
}

/// The first letter in upper case.
pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// "a, b and c".
pub(super) fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [init @ .., last] => format!("{} and {last}", init.join(", ")),
    }
}
