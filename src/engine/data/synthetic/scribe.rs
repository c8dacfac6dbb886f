//! Writes a document: fills templates, keeps the cast, and remembers what may be asked at the end.

use std::fmt::Display;

use super::words::{Step, forms, templates, words};
use super::world::{Person, World};
use crate::random::Xoshiro256;

/// The writer of one document.
pub(super) struct Scribe<'w> {
    pub world: &'w World,
    pub random: Xoshiro256,
    text: String,
    /// Who the document is about, and two more; their given names differ.
    pub hero: &'w Person,
    pub friend: &'w Person,
    pub third: &'w Person,
    /// Questions that the text so far answers, with the answers.
    questions: Vec<(String, String)>,
}

/// A thing that can be counted: one, many.
pub(super) type Noun = [&'static str; 2];

/// Values for the places of a template.
pub(super) type Slots<'s> = &'s [(&'s str, &'s dyn Display)];

impl<'w> Scribe<'w> {
    pub fn new(world: &'w World, mut random: Xoshiro256) -> Self {
        let hero = &world.people[random.skewed_below(world.people.len())];
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

    /// Goes through a section of the templates.
    pub fn write(&mut self, section: &str, slots: Slots) {
        for step in templates(section) {
            match step {
                Step::Sentence(templates) => {
                    if !self.text.is_empty() && !self.text.ends_with('\n') {
                        self.text.push(' ');
                    }
                    self.add(templates, slots);
                }
                Step::Line(templates) => {
                    self.add(templates, slots);
                    self.text.push('\n');
                }
                Step::Question(question, answer) => {
                    let entry = (self.fill(question, slots), self.fill(answer, slots));
                    self.questions.push(entry);
                }
                Step::Paragraph => self.paragraph(),
            }
        }
    }

    fn add(&mut self, templates: &[String], slots: Slots) {
        let template = &templates[self.random.below(templates.len())];
        let filled = self.fill(template, slots);
        self.text.push_str(&filled);
    }

    /// Ends a paragraph.
    pub fn paragraph(&mut self) {
        let end = self.text.trim_end().len();
        self.text.truncate(end);
        self.text.push_str("\n\n");
    }

    /// Asks up to `count` of the questions, in random order, and answers them.
    pub fn ask(&mut self, count: usize) {
        for _ in 0..count.min(self.questions.len()) {
            let index = self.random.below(self.questions.len());
            let (question, answer) = self.questions.remove(index);
            self.write("question", &[("q", &question), ("a", &answer)]);
        }
    }

    fn fill(&self, template: &str, slots: Slots) -> String {
        let mut filled = String::with_capacity(2 * template.len());
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            let (key, after) = after.split_once('}').unwrap_or((after, ""));
            filled.push_str(&self.value(key, slots));
            rest = after;
        }
        filled.push_str(rest);
        filled
    }

    /// A value by its key: one of `slots`; `H`, `F` and `T`, the names of the cast; a fact about the hero, or with `F.`
    /// in front about the friend. With `a ` in front it gets an article.
    fn value(&self, key: &str, slots: Slots) -> String {
        if let Some((_, value)) = slots.iter().find(|(name, _)| *name == key) {
            return value.to_string();
        }
        if let Some(key) = key.strip_prefix("a ") {
            return with_article(&self.value(key, slots));
        }
        let fact = match key {
            "H" => &self.hero.name,
            "F" => &self.friend.name,
            "T" => &self.third.name,
            _ => match key.strip_prefix("F.") {
                Some(key) => self.fact(self.friend, key),
                None => self.fact(self.hero, key),
            },
        };
        fact.to_string()
    }

    fn fact(&self, person: &'w Person, key: &str) -> &'w dyn Display {
        let town = &self.world.towns[person.town];
        match (key, person.woman) {
            ("he", true) => &"she",
            ("he", false) => &"he",
            ("He", true) => &"She",
            ("He", false) => &"He",
            ("him" | "his", true) => &"her",
            ("him", false) => &"him",
            ("his", false) => &"his",
            ("His", true) => &"Her",
            ("His", false) => &"His",
            ("surname", _) => &person.surname,
            ("job", _) => &person.job,
            ("dish", _) => &person.dish,
            ("nature", _) => &person.nature,
            ("kind", _) => &person.pet[0],
            ("picture", _) => &person.pet[1],
            ("pet", _) => &person.pet_name,
            ("born", _) => &person.born,
            ("town", _) => &town.name,
            ("river", _) => &town.river,
            ("famous", _) => &town.dish,
            _ => unreachable!("a template names the value `{key}`, which nothing gives"),
        }
    }

    /// One of the words of a section.
    pub fn pick(&mut self, section: &str) -> &'static str {
        self.random.pick(words(section))
    }

    /// A few different words of a section, in random order.
    pub fn several(&mut self, section: &str, count: usize) -> Vec<&'static str> {
        self.random.several(words(section), count)
    }

    /// Some thing, the common ones more often: one, many.
    pub fn thing(&mut self) -> Noun {
        forms(self.random.pick_skewed(words("things")))
    }

    /// A few different things.
    pub fn things<const N: usize>(&mut self) -> [Noun; N] {
        let things = self.several("things", N);
        std::array::from_fn(|i| forms(things[i]))
    }

    /// A name that no list holds: it can be known only from where it came up before.
    pub fn coin(&mut self) -> String {
        format!("{}{}{}", self.pick("coined starts"), self.pick("coined middles"), self.pick("coined ends"))
    }
}

/// A number in words up to twenty, then in digits.
pub(super) fn number(n: usize) -> String {
    words("numbers").get(n).map_or_else(|| n.to_string(), |word| (*word).to_string())
}

/// So many of a thing.
pub(super) fn counted(n: usize, [one, many]: Noun) -> String {
    format!("{} {}", number(n), if n == 1 { one } else { many })
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
