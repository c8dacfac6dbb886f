//! Documents that are no stories: letters, ledgers, recipes, glossaries, reports, sums, poems, notices.

use super::scribe::{Scribe, capital, counted, listed, number, with_article};
use super::words::{
    ADVERBS, COLOURS, CONTAINERS, DAYS, DEEDS, GLOSSARY, JOBS, MATERIALS, MONTHS, PLACES, THINGS, TONGUES, WEATHER,
};

/// One of them.
pub(super) fn paper(scribe: &mut Scribe) {
    const PAPERS: [fn(&mut Scribe); 11] =
        [letter, ledger, recipe, glossary, report, sums, poem, biography, timetable, notice, rule];
    scribe.random.pick(&PAPERS)(scribe);
}

fn letter(scribe: &mut Scribe) {
    let (hero, friend) = (scribe.hero, scribe.friend);
    let (town, away) = (scribe.town_of(hero), scribe.town_of(friend));
    let date = format!("{} {}", scribe.random.between(1, 28), scribe.random.pick(&MONTHS));
    let thing = scribe.thing();
    let count = counted(scribe.random.between(2, 20), thing);
    let container = scribe.random.pick(&CONTAINERS);
    let colour = with_article(scribe.random.pick(&COLOURS));
    let slots = [
        ("town", town.name.as_str()),
        ("away", &away.name),
        ("date", &date),
        ("count", &count),
        ("many", thing.1),
        ("box", container),
        ("a colour", &colour),
        ("pet", friend.pet.2),
        ("kind", friend.pet.0),
        ("dish", town.dish),
        ("S", &hero.surname),
    ];
    scribe.line(&["{town}, {date}\n\nDear {F},\n"], &slots);
    scribe.tell(
        &[
            "I send you {count} in {a colour} {box}.",
            "With this letter you will find {count}, packed in {a colour} {box}.",
        ],
        &slots,
    );
    scribe.tell(
        &["Count the {many} when the {box} arrives, and write to me.", "Please give some of the {many} to {T}."],
        &slots,
    );
    scribe.tell(
        &["How is {pet}?", "Is your {kind} {pet} well?", "I often think of {pet}, best {kind} in {away}."],
        &slots,
    );
    scribe.tell(&["Here in {town} we eat {dish}, as ever.", "{T} was here and asked after you."], &slots);
    scribe.tell(&["If the {count} are not all there, tell the carrier, not me."], &slots);
    scribe.paragraph();
    scribe.line(&["Your friend,\n{H} {S}", "Yours ever,\n{H} {S}"], &slots);
}

/// Lines that add up to the total below them.
fn ledger(scribe: &mut Scribe) {
    let day = scribe.random.pick(&DAYS);
    let place = scribe.random.pick(&PLACES);
    scribe.line(
        &["Stock of the {place}, kept by {H}, {day}", "{day}: goods at the {place}, counted by {H}"],
        &[("place", place), ("day", day)],
    );
    let kinds = scribe.random.between(3, 6);
    let mut total = 0;
    for thing in scribe.several(&THINGS, kinds) {
        let count = scribe.random.between(1, 40);
        total += count;
        let (count, name) = (count.to_string(), if count == 1 { thing.0 } else { thing.1 });
        let colour = scribe.random.pick(&COLOURS);
        let material = scribe.random.pick(&MATERIALS);
        let slots = [("count", count.as_str()), ("name", name), ("colour", colour), ("material", material)];
        scribe.line(&["- {count} {name}", "- {count} {colour} {name}", "- {count} {material} {name}"], &slots);
    }
    let (total, kinds) = (total.to_string(), number(kinds));
    let slots = [("total", total.as_str()), ("kinds", kinds.as_str()), ("place", place)];
    scribe.line(&["Total: {total} pieces of {kinds} kinds.", "In all {total} pieces."], &slots);
    scribe.line(&["Signed at the {place}, {H}"], &slots);
}

/// What is listed first is used below, in the same order.
fn recipe(scribe: &mut Scribe) {
    const INGREDIENTS: [&str; 26] = [
        "flour",
        "butter",
        "sugar",
        "milk",
        "salt",
        "honey",
        "onions",
        "garlic",
        "rice",
        "beans",
        "lentils",
        "cream",
        "cheese",
        "almonds",
        "raisins",
        "ginger",
        "pepper",
        "vinegar",
        "oil",
        "barley",
        "mustard",
        "parsley",
        "mushrooms",
        "cabbage",
        "leeks",
        "carrots",
    ];
    const STEPS: [&str; 6] = ["Warm", "Chop", "Stir in", "Add", "Fold in", "Sprinkle"];
    let hero = scribe.hero;
    let count = scribe.random.between(3, 5);
    let ingredients = scribe.several(&INGREDIENTS, count);
    let dish = capital(hero.dish);
    scribe.line(&["{dish}, as {H} makes it", "{dish} after {H} {S}"], &[("dish", &dish), ("S", &hero.surname)]);
    for ingredient in &ingredients {
        let grams = (scribe.random.between(1, 20) * 25).to_string();
        scribe.line(&["* {grams} g {ingredient}"], &[("grams", &grams), ("ingredient", ingredient)]);
    }
    scribe.paragraph();
    for (i, ingredient) in ingredients.iter().enumerate() {
        let (place, step) = ((i + 1).to_string(), scribe.random.pick(&STEPS));
        let how = scribe.random.pick(&ADVERBS);
        let slots = [("n", place.as_str()), ("step", step), ("ingredient", ingredient), ("how", how)];
        scribe.line(&["{n}. {step} the {ingredient}.", "{n}. {step} the {ingredient} {how}."], &slots);
    }
    let last = (ingredients.len() + 1).to_string();
    let minutes = (scribe.random.between(2, 12) * 5).to_string();
    let slots = [("n", last.as_str()), ("minutes", minutes.as_str()), ("dish", hero.dish)];
    scribe.line(&["{n}. Wait {minutes} minutes and serve the {dish}."], &slots);
}

/// Words in other tongues, the same in every document, and asked for again.
fn glossary(scribe: &mut Scribe) {
    let tongue = 1 + scribe.random.below(TONGUES.len());
    let slots = [("tongue", TONGUES[tongue - 1])];
    scribe.line(&["English and {tongue}: words that {H} learned", "A short list of words, English – {tongue}"], &slots);
    let count = scribe.random.between(4, 8);
    let words = scribe.several(&GLOSSARY, count);
    for word in &words {
        scribe.line(&["{en} = {other}"], &[("en", word[0]), ("other", word[tongue])]);
    }
    scribe.paragraph();
    let asked = scribe.several(&words, 2);
    for word in asked {
        let slots = [("en", word[0]), ("other", word[tongue]), ("tongue", TONGUES[tongue - 1])];
        scribe.line(
            &[
                "“What is {en} in {tongue}?” asked {F}. “{other},” said {H}.",
                "“What does {other} mean?” asked {F}. “It means {en},” said {H}.",
            ],
            &slots,
        );
    }
}

/// The days in order, each with its weather, and which was the warmest.
fn report(scribe: &mut Scribe) {
    let town = &scribe.world.towns[scribe.random.below(scribe.world.towns.len())].name;
    let start = scribe.random.below(7);
    scribe.line(&["Weather report for {town}", "The week in {town}"], &[("town", town)]);
    let mut warmest = (0, 0);
    let mut degrees = scribe.random.between(4, 24);
    for i in 0..scribe.random.between(3, 7) {
        let (sort, picture, _) = scribe.random.pick_skewed(&WEATHER);
        degrees = (degrees + scribe.random.between(0, 6)).saturating_sub(3).clamp(1, 29);
        // Ties would make the last line ambiguous.
        degrees += usize::from(degrees == warmest.0);
        warmest = warmest.max((degrees, i));
        let warmth = degrees.to_string();
        let slots = [("day", DAYS[(start + i) % 7]), ("sort", sort), ("picture", picture), ("warmth", &warmth)];
        scribe.line(&["{day}: {picture} {sort}, {warmth}°"], &slots);
    }
    let warmth = warmest.0.to_string();
    let slots = [("day", DAYS[(start + warmest.1) % 7]), ("warmth", warmth.as_str()), ("town", town)];
    scribe.line(&["The warmest day in {town} was {day} with {warmth}°."], &slots);
}

/// Sums, differences and products that are right.
fn sums(scribe: &mut Scribe) {
    scribe.line(&["Exercises for {H}", "Sums that {F} set for {H}"], &[]);
    for _ in 0..scribe.random.between(5, 10) {
        let (a, b) = (scribe.random.between(1, 60), scribe.random.between(1, 30));
        let (small, factor) = (scribe.random.between(2, 12), scribe.random.between(2, 9));
        let texts = match scribe.random.below(4) {
            0 | 1 => [a.to_string(), "+".into(), b.to_string(), (a + b).to_string()],
            2 => [(a + b).to_string(), "−".into(), b.to_string(), a.to_string()],
            _ => [small.to_string(), "×".into(), factor.to_string(), (small * factor).to_string()],
        };
        let [left, sign, right, result] = texts.each_ref().map(String::as_str);
        let slots = [("left", left), ("sign", sign), ("right", right), ("result", result)];
        scribe.line(&["{left} {sign} {right} = {result}"], &slots);
    }
    scribe.line(&["“All right,” said {F}. ✅", "{F} read it through and found no mistake."], &[]);
}

/// A poem that comes back to its first line.
fn poem(scribe: &mut Scribe) {
    let places = scribe.several(&PLACES, 2);
    let things = scribe.several(&THINGS, 3);
    let colours = scribe.several(&COLOURS, 2);
    let (a, b) = (with_article(things[1].0), with_article(things[2].0));
    let refrain = format!("O {} {} of the {}", colours[0], things[0].0, places[0]);
    let slots = [
        ("refrain", refrain.as_str()),
        ("one a", &a),
        ("one b", &b),
        ("a", things[1].0),
        ("b", things[2].0),
        ("as", things[1].1),
        ("bs", things[2].1),
        ("colour", colours[1]),
        ("place", places[1]),
    ];
    for i in 0..scribe.random.between(2, 3) {
        if i > 0 {
            scribe.paragraph();
        }
        scribe.line(&["{refrain},"], &slots);
        scribe.line(&["I had {one a}, I had {one b},", "{colour} were the {as}, and {colour} the {bs},"], &slots);
        scribe.line(&["I left the {a} at the {place},", "And {H} sang at the {place},"], &slots);
        scribe.line(&["And nobody thought of the {b}.", "And {F} held the {b}."], &slots);
    }
    scribe.line(&["{refrain}."], &slots);
}

/// What is true of somebody, all of it.
fn biography(scribe: &mut Scribe) {
    let hero = scribe.hero;
    let town = scribe.town_of(hero);
    let job = with_article(hero.job);
    let mut apprenticed = scribe.random.pick(&JOBS);
    if apprenticed == hero.job {
        apprenticed = "servant";
    }
    let (first, a_kind) = (with_article(apprenticed), with_article(hero.pet.0));
    let move_age = scribe.random.between(14, 30);
    let texts = [hero.born.to_string(), (hero.born + move_age).to_string(), number(move_age)];
    let [born, moved, age] = texts.each_ref().map(String::as_str);
    let friends = listed(&[scribe.friend.name.to_string(), scribe.third.name.to_string()]);
    let slots = [
        ("S", hero.surname.as_str()),
        ("job", &job),
        ("first", &first),
        ("town", &town.name),
        ("river", town.river),
        ("born", born),
        ("moved", moved),
        ("age", age),
        ("nature", hero.nature),
        ("kind", hero.pet.0),
        ("a kind", &a_kind),
        ("pet", hero.pet.2),
        ("picture", hero.pet.1),
        ("dish", hero.dish),
        ("friends", &friends),
        ("famous", town.dish),
    ];
    scribe.line(&["{H} {S}\n", "{S}, {H}\n"], &slots);
    scribe.tell(
        &["{H} {S} (born {born}) is {job} in {town}.", "Born in {born}, {H} {S} became {job} in {town}."],
        &slots,
    );
    scribe.tell(
        &[
            "{He} began as {first} and came to {town} in {moved}, {age} years old.",
            "In {moved}, at the age of {age}, {he} came to {town}, where {he} was first {first}.",
        ],
        &slots,
    );
    scribe.tell(
        &[
            "The town lies on the {river} and is known for its {famous}.",
            "{town}, on the {river}, is famous for {famous}.",
        ],
        &slots,
    );
    scribe.tell(&["{He} is said to be {nature}.", "Those who know {him} find {him} {nature}."], &slots);
    scribe.tell(
        &[
            "{He} keeps {a kind} called {pet} {picture} and is fond of {dish}.",
            "{His} {kind} is called {pet}. {picture} On Sundays {he} eats {dish}.",
        ],
        &slots,
    );
    scribe.tell(&["{His} friends are {friends}.", "With {friends} {he} often goes down to the {river}."], &slots);
}

/// What is planned for each day, and afterwards told in the same order.
fn timetable(scribe: &mut Scribe) {
    let count = scribe.random.between(3, 6);
    let deeds = scribe.several(&DEEDS, count);
    let start = scribe.random.below(7);
    scribe.line(&["To do, {H}", "{H}'s week", "A plan for {H}, made by {F}"], &[]);
    for (i, (todo, _)) in deeds.iter().enumerate() {
        scribe.line(&["{day}: {todo}"], &[("day", DAYS[(start + i) % 7]), ("todo", todo)]);
    }
    scribe.paragraph();
    for (i, (_, done)) in deeds.iter().enumerate() {
        let slots = [("day", DAYS[(start + i) % 7]), ("done", *done)];
        scribe.tell(&["On {day} {H} {done}.", "{day} came, and {H} {done}.", "{He} {done} on {day}."], &slots);
    }
    let total = number(count);
    scribe.tell(
        &["That was {total} days' work.", "{F} asked what was done, and {H} said: all of it."],
        &[("total", &total)],
    );
}

/// Something lost, described twice.
fn notice(scribe: &mut Scribe) {
    let thing = scribe.thing();
    let (colour, material) = (scribe.random.pick(&COLOURS), scribe.random.pick(&MATERIALS));
    let (place, container) = (scribe.random.pick(&PLACES), scribe.random.pick(&CONTAINERS));
    let day = scribe.random.pick(&DAYS);
    let mark = scribe.coin();
    let hero = scribe.hero;
    let town = scribe.town_of(hero);
    let reward = scribe.random.between(2, 40).to_string();
    let a_colour = with_article(colour);
    let capital_colour = capital(&a_colour);
    let slots = [
        ("thing", thing.0),
        ("colour", colour),
        ("a colour", &a_colour),
        ("A colour", &capital_colour),
        ("material", material),
        ("place", place),
        ("box", container),
        ("day", day),
        ("mark", &mark),
        ("reward", &reward),
        ("town", &town.name),
        ("S", &hero.surname),
    ];
    scribe.line(&["LOST\n", "Notice\n", "🔍 Lost on {day}\n"], &slots);
    scribe.tell(
        &[
            "On {day}, near the {place} of {town}, I lost {a colour} {material} {thing}.",
            "{A colour} {material} {thing} was lost near the {place} on {day}.",
        ],
        &slots,
    );
    scribe.tell(
        &["The word {mark} is written on it.", "It is marked {mark}.", "You will know it by the name {mark}."],
        &slots,
    );
    scribe.tell(&["It was in the {box} of {H} {S}.", "The {box} in which it lay is lost as well."], &slots);
    scribe.tell(
        &[
            "Who finds the {thing} marked {mark} gets {reward} pence.",
            "I give {reward} pence for the {thing} and ask no questions.",
        ],
        &slots,
    );
    scribe.paragraph();
    scribe.line(&["{H} {S}, {town}"], &slots);
    if scribe.random.once_in(2) {
        scribe.line(&["\nFound by {F}: one {colour} {thing}, marked {mark}. {reward} pence paid."], &slots);
    }
}

/// A made-up word is explained, then used as explained.
fn rule(scribe: &mut Scribe) {
    let word = scribe.coin().to_lowercase();
    let a_word = with_article(&word);
    let game = scribe.coin();
    let thing = scribe.thing();
    let points = scribe.random.between(2, 9);
    let throws = [scribe.random.between(1, 6), scribe.random.between(1, 6)];
    let texts = [number(points), number(throws[0]), number(throws[1])];
    let scores = [(throws[0] * points).to_string(), (throws[1] * points).to_string()];
    let winner = match throws[0].cmp(&throws[1]) {
        std::cmp::Ordering::Greater => "{H} won",
        std::cmp::Ordering::Less => "{F} won",
        std::cmp::Ordering::Equal => "Nobody won",
    };
    let [points, first, second] = texts.each_ref().map(String::as_str);
    let slots = [
        ("word", word.as_str()),
        ("game", &game),
        ("points", points),
        ("first", first),
        ("second", second),
        ("score", &scores[0]),
        ("score2", &scores[1]),
        ("many", thing.1),
        ("a word", &a_word),
    ];
    scribe.line(&["The game of {game}", "How to play {game}"], &slots);
    scribe.tell(&["{game} is played with {many}.", "To play {game} you need some {many} and a friend."], &slots);
    scribe.tell(
        &[
            "A good throw is called {a word} and gives {points} points.",
            "Each {word} counts {points} points; {a word} is a good throw.",
        ],
        &slots,
    );
    scribe.tell(&["{H} had {first} and {F} had {second}.", "{H} scored {first}, {F} {second}."], &slots);
    scribe.tell(&["So {H} had {score} points and {F} {score2}."], &slots);
    scribe.tell(&[&format!("{winner} the game of {{game}}."), &format!("{winner}.")], &slots);
}
