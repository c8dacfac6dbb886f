//! Documents that are no stories: letters, ledgers, recipes, glossaries, reports, sums, poems, notices.

use super::scribe::{Scribe, Slots, capital, counted, number, with_article};
use super::words::{forms, words};

/// One of them.
pub(super) fn paper(scribe: &mut Scribe) {
    const PAPERS: [fn(&mut Scribe); 11] =
        [letter, ledger, recipe, glossary, report, sums, poem, biography, timetable, notice, rule];
    scribe.random.pick(&PAPERS)(scribe);
}

fn letter(scribe: &mut Scribe) {
    let date = format!("{} {}", scribe.random.between(1, 28), scribe.pick("months"));
    let thing = scribe.thing();
    let count = counted(scribe.random.between(2, 20), thing);
    let container = scribe.pick("containers");
    let colour = scribe.pick("colours");
    scribe.write(
        "letter",
        &[("date", &date), ("count", &count), ("many", &thing[1]), ("box", &container), ("colour", &colour)],
    );
}

/// Lines that add up to the total below them.
fn ledger(scribe: &mut Scribe) {
    let day = scribe.pick("days");
    let place = scribe.pick("places");
    scribe.write("ledger", &[("place", &place), ("day", &day)]);
    let kinds = scribe.random.between(3, 6);
    let mut total = 0;
    for thing in scribe.several("things", kinds) {
        let count = scribe.random.between(1, 40);
        total += count;
        let [one, many] = forms(thing);
        let name = if count == 1 { one } else { many };
        let colour = scribe.pick("colours");
        let material = scribe.pick("materials");
        scribe.write(
            "ledger: goods",
            &[("count", &count), ("name", &name), ("colour", &colour), ("material", &material)],
        );
    }
    scribe.write("ledger: total", &[("total", &total), ("kinds", &number(kinds)), ("place", &place)]);
}

/// What is listed first is used below, in the same order.
fn recipe(scribe: &mut Scribe) {
    let count = scribe.random.between(3, 5);
    let ingredients = scribe.several("ingredients", count);
    scribe.write("recipe", &[("Dish", &capital(scribe.hero.dish))]);
    for ingredient in &ingredients {
        let grams = scribe.random.between(1, 20) * 25;
        scribe.write("recipe: ingredient", &[("grams", &grams), ("ingredient", ingredient)]);
    }
    scribe.paragraph();
    for (i, ingredient) in ingredients.iter().enumerate() {
        let step = scribe.pick("steps");
        let how = scribe.pick("adverbs");
        scribe.write("recipe: step", &[("n", &(i + 1)), ("step", &step), ("ingredient", ingredient), ("how", &how)]);
    }
    let minutes = scribe.random.between(2, 12) * 5;
    scribe.write("recipe: end", &[("n", &(count + 1)), ("minutes", &minutes)]);
}

/// Words in other tongues, the same in every document, and asked for again.
fn glossary(scribe: &mut Scribe) {
    let tongues = words("tongues");
    let at = scribe.random.below(tongues.len());
    let tongue = tongues[at];
    scribe.write("glossary", &[("tongue", &tongue)]);
    let count = scribe.random.between(4, 8);
    let entries = scribe.several("glossary", count);
    for entry in &entries {
        let words = forms::<8>(entry);
        scribe.write("glossary: word", &[("en", &words[0]), ("other", &words[1 + at])]);
    }
    scribe.paragraph();
    for entry in scribe.random.several(&entries, 2) {
        let words = forms::<8>(entry);
        scribe.write("glossary: question", &[("en", &words[0]), ("other", &words[1 + at]), ("tongue", &tongue)]);
    }
}

/// The days in order, each with its weather, and which was the warmest.
fn report(scribe: &mut Scribe) {
    let town = &scribe.world.towns[scribe.random.below(scribe.world.towns.len())].name;
    let start = scribe.random.below(7);
    scribe.write("report", &[("where", town)]);
    let day = |i: usize| words("days")[(start + i) % 7];
    let mut warmest = (0, 0);
    let mut degrees = scribe.random.between(4, 24);
    for i in 0..scribe.random.between(3, 7) {
        let [sort, picture, _] = forms(scribe.random.pick_skewed(words("weather")));
        degrees = (degrees + scribe.random.between(0, 6)).saturating_sub(3).clamp(1, 29);
        // Ties would make the last line ambiguous.
        degrees += usize::from(degrees == warmest.0);
        warmest = warmest.max((degrees, i));
        scribe.write("report: day", &[("day", &day(i)), ("sort", &sort), ("picture", &picture), ("warmth", &degrees)]);
    }
    scribe.write("report: warmest", &[("day", &day(warmest.1)), ("warmth", &warmest.0), ("where", town)]);
}

/// Sums, differences and products that are right.
fn sums(scribe: &mut Scribe) {
    scribe.write("sums", &[]);
    for _ in 0..scribe.random.between(5, 10) {
        let (a, b) = (scribe.random.between(1, 60), scribe.random.between(1, 30));
        let (small, factor) = (scribe.random.between(2, 12), scribe.random.between(2, 9));
        let (left, sign, right, result) = match scribe.random.below(4) {
            0 | 1 => (a, "+", b, a + b),
            2 => (a + b, "−", b, a),
            _ => (small, "×", factor, small * factor),
        };
        scribe.write("sums: one", &[("left", &left), ("sign", &sign), ("right", &right), ("result", &result)]);
    }
    scribe.write("sums: end", &[]);
}

/// A poem that comes back to its first line.
fn poem(scribe: &mut Scribe) {
    let places = scribe.several("places", 2);
    let [[thing, _], one, two] = scribe.things();
    let colours = scribe.several("colours", 2);
    let refrain = format!("O {} {thing} of the {}", colours[0], places[0]);
    for i in 0..scribe.random.between(2, 3) {
        if i > 0 {
            scribe.paragraph();
        }
        scribe.write(
            "poem: verse",
            &[
                ("refrain", &refrain),
                ("one", &one[0]),
                ("two", &two[0]),
                ("ones", &one[1]),
                ("twos", &two[1]),
                ("colour", &colours[1]),
                ("place", &places[1]),
            ],
        );
    }
    scribe.write("poem: end", &[("refrain", &refrain)]);
}

/// What is true of somebody, all of it.
fn biography(scribe: &mut Scribe) {
    let hero = scribe.hero;
    let mut first = scribe.pick("jobs");
    if first == hero.job {
        first = "servant";
    }
    let age = scribe.random.between(14, 30);
    scribe.write("biography", &[("first", &first), ("moved", &(hero.born + age)), ("age", &number(age))]);
}

/// What is planned for each day, and afterwards told in the same order.
fn timetable(scribe: &mut Scribe) {
    let count = scribe.random.between(3, 6);
    let deeds: Vec<[&str; 2]> = scribe.several("deeds", count).into_iter().map(forms).collect();
    let start = scribe.random.below(7);
    scribe.write("timetable", &[]);
    let day = |i: usize| words("days")[(start + i) % 7];
    for (i, [todo, _]) in deeds.iter().enumerate() {
        scribe.write("timetable: plan", &[("day", &day(i)), ("todo", todo)]);
    }
    scribe.paragraph();
    for (i, [_, done]) in deeds.iter().enumerate() {
        scribe.write("timetable: done", &[("day", &day(i)), ("done", done)]);
    }
    scribe.write("timetable: end", &[("total", &number(count))]);
}

/// Something lost, described twice.
fn notice(scribe: &mut Scribe) {
    let [thing, _] = scribe.thing();
    let (colour, material) = (scribe.pick("colours"), scribe.pick("materials"));
    let (place, container) = (scribe.pick("places"), scribe.pick("containers"));
    let day = scribe.pick("days");
    let mark = scribe.coin();
    let reward = scribe.random.between(2, 40);
    let a_colour = capital(&with_article(colour));
    let slots: Slots = &[
        ("thing", &thing),
        ("colour", &colour),
        ("A colour", &a_colour),
        ("material", &material),
        ("place", &place),
        ("box", &container),
        ("day", &day),
        ("mark", &mark),
        ("reward", &reward),
    ];
    scribe.write("notice", slots);
    if scribe.random.once_in(2) {
        scribe.write("notice: found", slots);
    }
}

/// A made-up word is explained, then used as explained.
fn rule(scribe: &mut Scribe) {
    let word = scribe.coin().to_lowercase();
    let game = scribe.coin();
    let [_, many] = scribe.thing();
    let points = scribe.random.between(2, 9);
    let [first, second] = [scribe.random.between(1, 6), scribe.random.between(1, 6)];
    let winner = match first.cmp(&second) {
        std::cmp::Ordering::Greater => scribe.hero.name,
        std::cmp::Ordering::Less => scribe.friend.name,
        std::cmp::Ordering::Equal => "Nobody",
    };
    scribe.write(
        "rule",
        &[
            ("word", &word),
            ("game", &game),
            ("points", &number(points)),
            ("first", &number(first)),
            ("second", &number(second)),
            ("score", &(first * points)),
            ("score2", &(second * points)),
            ("many", &many),
            ("winner", &winner),
        ],
    );
}
