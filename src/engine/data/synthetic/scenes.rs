//! Stories: an opening that says who somebody is, a few scenes with the same cast, and questions that the text answers.

use super::adventures::{dreaming, meeting, promising, sailing, sharing};
use super::scribe::{Scribe, capital, counted, listed, number, with_article};
use super::words::{ADVERBS, COLOURS, CONTAINERS, DAYS, MATERIALS, PLACES, THINGS, WEATHER};

/// One story.
pub(super) fn story(scribe: &mut Scribe) {
    opening(scribe);
    const SCENES: [fn(&mut Scribe); 12] = [
        counting, hiding, talking, shopping, walking, comparing, weather, promising, meeting, sailing, sharing,
        dreaming,
    ];
    let mut left = SCENES.to_vec();
    for _ in 0..scribe.random.between(2, 6) {
        scribe.paragraph();
        let scene = left.swap_remove(scribe.random.below(left.len()));
        scene(scribe);
    }
    scribe.paragraph();
    if scribe.random.once_in(3) {
        closing(scribe);
    } else {
        let questions = scribe.random.between(2, 4);
        scribe.ask(questions);
    }
}

fn opening(scribe: &mut Scribe) {
    let hero = scribe.hero;
    let town = scribe.town_of(hero);
    let (job, born) = (with_article(hero.job), hero.born.to_string());
    let (kind, _, pet) = hero.pet;
    let a_kind = with_article(kind);
    let slots = [
        ("S", hero.surname.as_str()),
        ("a kind", &a_kind),
        ("job", &job),
        ("town", &town.name),
        ("river", town.river),
        ("nature", hero.nature),
        ("kind", kind),
        ("pet", pet),
        ("dish", hero.dish),
        ("born", &born),
        ("trade", hero.job),
    ];
    scribe.tell(
        &[
            "{H} {S} was {job} in {town}, on the river {river}.",
            "In {town}, where the {river} turns south, lived {job} named {H} {S}.",
            "{H} {S} lived in {town} and worked as {job}.",
            "Everybody in {town} knew {H} {S}, the {trade}.",
            "There was once {job} in {town} whose name was {H} {S}.",
            "This is the story of {H} {S}, who lived in {town} by the {river} and was {job}.",
            "Long ago the {trade} of {town} was called {H} {S}.",
        ],
        &slots,
    );
    let details: [&[&str]; 4] = [
        &[
            "{He} was {nature}, and {his} neighbours said so.",
            "People called {him} {nature}.",
            "If you had asked in {town}, they would have told you that {he} was {nature}.",
            "Nobody on the {river} was more {nature} than {H}.",
        ],
        &[
            "{He} had {a kind} called {pet}.",
            "{His} {kind}, {pet}, went everywhere with {him}.",
            "{He} lived alone but for {pet}, {his} {kind}.",
            "At {his} door slept {a kind} by the name of {pet}.",
        ],
        &[
            "{He} liked nothing better than {dish}.",
            "{His} favourite dish was {dish}.",
            "Every Sunday {he} ate {dish}.",
            "When {he} was sad, only {dish} could help.",
        ],
        &["{He} was born in {born}.", "Born in {born}, {he} had never left {town} for long."],
    ];
    for detail in scribe.several(&details, 2) {
        scribe.tell(detail, &slots);
    }
    scribe.remember("What was the work of {H} {S}?", "{H} {S} was {job}.", &slots);
    scribe.remember("Where did {H} live?", "In {town}.", &slots);
}

/// Things come and go; the number left is right.
fn counting(scribe: &mut Scribe) {
    let thing = scribe.thing();
    let colour = scribe.random.pick(&COLOURS);
    let start = scribe.random.between(3, 15);
    let given = scribe.random.between(1, start - 1);
    let more = scribe.random.between(1, 9);
    let place = scribe.random.pick(&PLACES);
    let texts = [
        counted(start, thing),
        number(given),
        number(more),
        number(start - given),
        counted(start - given + more, thing),
    ];
    let [start, given, more, left, total] = texts.each_ref().map(String::as_str);
    let slots = [
        ("start", start),
        ("given", given),
        ("more", more),
        ("left", left),
        ("total", total),
        ("many", thing.1),
        ("colour", colour),
        ("place", place),
    ];
    scribe.tell(
        &[
            "{H} had {start}.",
            "At the {place} {H} counted {his} {many}: there were {start}.",
            "One morning {H} found {start} at the {place}.",
            "“I have {start},” said {H}, and it was true.",
        ],
        &slots,
    );
    scribe.tell(
        &[
            "{He} gave {given} of them to {F}.",
            "{F} asked for some, and {he} gave {fhim} {given}.",
            "“Take {given},” {he} said to {F}, and {fhe} did.",
            "Before noon {he} had lost {given} of them to {F} at cards.",
        ],
        &slots,
    );
    scribe.tell(&["That left {left}.", "Now {he} had {left}.", "“So I have {left},” {he} thought."], &slots);
    scribe.tell(
        &[
            "Then {he} bought {more} more at the {place}.",
            "Later {T} brought {him} another {more}, all {colour}.",
            "In the evening {he} won {more} from {T}.",
            "Under the {colour} cloth {he} came upon {more} more.",
        ],
        &slots,
    );
    scribe.tell(
        &["In the end {H} had {total}.", "So {H} went home with {total}.", "{H} counted once more: {total}."],
        &slots,
    );
    scribe.remember("How many {many} did {H} have in the end?", "{H} had {total}.", &slots);
    scribe.remember("Who got {given} of the {many}?", "{F} did.", &slots);
}

/// Something is put away, other things happen, and it is found where it was put.
fn hiding(scribe: &mut Scribe) {
    let things = scribe.several(&THINGS, 2);
    let boxes = scribe.several(&CONTAINERS, 2);
    let colours = scribe.several(&COLOURS, 2);
    let material = scribe.random.pick(&MATERIALS);
    let place = scribe.random.pick(&PLACES);
    let how = scribe.random.pick(&ADVERBS);
    let slots = [
        ("thing", things[0].0),
        ("other", things[1].0),
        ("material", material),
        ("box", boxes[0]),
        ("box2", boxes[1]),
        ("colour", colours[0]),
        ("colour2", colours[1]),
        ("place", place),
        ("how", how),
    ];
    scribe.tell(
        &[
            "{H} put the {material} {thing} into the {colour} {box}, and {F} put the {other} into the {colour2} {box2}.",
            "The {material} {thing} lay in the {colour} {box}; the {other} lay in the {colour2} {box2}.",
            "“Remember,” said {H}, “the {material} {thing} is in the {colour} {box}, and the {other} is in the {colour2} {box2}.”",
            "Before {he} left, {H} locked the {material} {thing} in the {colour} {box} and laid the {other} in the {colour2} {box2}.",
        ],
        &slots,
    );
    scribe.tell(
        &[
            "Then they went to the {place}.",
            "{T} came in and looked around {how}.",
            "Nobody spoke of it for a week.",
            "A year went by, and the {place} was sold.",
            "Someone knocked {how}, but it was only the wind from the {place}.",
        ],
        &slots,
    );
    scribe.tell(
        &[
            "When {F} looked for the {other}, {fhe} opened the {colour2} {box2}, and there it was.",
            "“Where is the {thing}?” asked {T}. “In the {colour} {box},” said {H} {how}.",
            "{T} opened the {colour} {box}, took out the {material} {thing}, and left the {colour2} {box2} alone.",
            "At last {H} went to the {colour2} {box2} for the {other} and to the {colour} {box} for the {thing}.",
        ],
        &slots,
    );
    scribe.remember("Where was the {material} {thing}?", "In the {colour} {box}.", &slots);
    scribe.remember("What was in the {colour2} {box2}?", "The {other}.", &slots);
}

/// Question and answer between the two, about what is true of them.
fn talking(scribe: &mut Scribe) {
    let friend = scribe.friend;
    let town = scribe.town_of(friend);
    let job = with_article(friend.job);
    let (kind, picture, pet) = friend.pet;
    let how = scribe.random.pick(&ADVERBS);
    let slots = [
        ("S", friend.surname.as_str()),
        ("town", &town.name),
        ("job", &job),
        ("kind", kind),
        ("picture", picture),
        ("pet", pet),
        ("dish", friend.dish),
        ("how", how),
    ];
    scribe.tell(&["{H} met {F} {S} on the road.", "That evening {F} {S} came to see {H}."], &slots);
    scribe.tell(&["“Where do you come from?” asked {H}.", "“Are you not from {town}?” asked {H} {how}."], &slots);
    scribe.tell(&["“I live in {town},” said {F}, “and I am {job}.”", "“From {town},” {F} answered {how}."], &slots);
    scribe.tell(&["“And who is this?”", "“What is the name of your {kind}?”"], &slots);
    scribe.tell(
        &[
            "“This is {pet}, my {kind},” said {F}. {picture}",
            "“{pet},” said {F}. “Every {kind} needs a name.” {picture}",
        ],
        &slots,
    );
    scribe.tell(&["So they sat down to {dish}.", "{F} asked for {dish}, as always."], &slots);
    scribe.remember("What was the name of the {kind} that {F} had?", "{pet}.", &slots);
    scribe.remember("Where did {F} live?", "In {town}.", &slots);
}

/// Prices that add up.
fn shopping(scribe: &mut Scribe) {
    let things = scribe.several(&THINGS, 2);
    let counts = [scribe.random.between(2, 9), scribe.random.between(2, 9)];
    let prices = [scribe.random.between(2, 9), scribe.random.between(2, 9)];
    let costs = [counts[0] * prices[0], counts[1] * prices[1]];
    let texts = [
        counted(counts[0], things[0]),
        counted(counts[1], things[1]),
        prices[0].to_string(),
        prices[1].to_string(),
        costs[0].to_string(),
        costs[1].to_string(),
        (costs[0] + costs[1]).to_string(),
    ];
    let day = scribe.random.pick(&DAYS);
    let [first, second, price, price2, cost, cost2, total] = texts.each_ref().map(String::as_str);
    let slots = [
        ("first", first),
        ("second", second),
        ("price", price),
        ("price2", price2),
        ("cost", cost),
        ("cost2", cost2),
        ("total", total),
        ("day", day),
        ("one", things[0].0),
        ("two", things[1].0),
    ];
    scribe.tell(
        &["On {day} {H} bought {first} and {second}.", "{H} needed {first} and {second}, and went out on {day}."],
        &slots,
    );
    scribe.tell(
        &["One {one} cost {price} pence and one {two} {price2}.", "Each {one} was {price} pence, each {two} {price2}."],
        &slots,
    );
    scribe.tell(&["So {he} paid {cost} for the first and {cost2} for the second, {total} pence in all."], &slots);
    scribe.remember("How much did {H} pay on {day}?", "{total} pence.", &slots);
}

/// A way out, and the same backward pass.
fn walking(scribe: &mut Scribe) {
    let places = scribe.several(&PLACES, 3);
    let slots = [("a", places[0]), ("b", places[1]), ("c", places[2]), ("dish", scribe.hero.dish)];
    scribe.tell(
        &[
            "{H} walked from the {a} to the {b}, and from the {b} to the {c}.",
            "First {H} went to the {a}, then to the {b}, and last to the {c}.",
            "{H} left the {a} at dawn, was at the {b} by noon, and reached the {c} at dusk.",
        ],
        &slots,
    );
    scribe.tell(
        &[
            "On the way {he} met {T}.",
            "{F} went with {him} as far as the {b}.",
            "It took {him} the whole morning.",
            "{He} carried nothing and saw nobody.",
            "At the {b} {he} stopped to eat {dish}.",
        ],
        &slots,
    );
    scribe.tell(&["{He} came back the same way: from the {c} to the {b}, and from the {b} to the {a}."], &slots);
    scribe.remember("Where did {H} go after the {a}?", "To the {b}.", &slots);
}

/// Three in an order; the ends of it follow.
fn comparing(scribe: &mut Scribe) {
    const SCALES: [(&str, &str, &str); 6] = [
        ("taller", "tallest", "shortest"),
        ("older", "oldest", "youngest"),
        ("richer", "richest", "poorest"),
        ("faster", "fastest", "slowest"),
        ("stronger", "strongest", "weakest"),
        ("louder", "loudest", "quietest"),
    ];
    let (more, most, least) = scribe.random.pick(&SCALES);
    let mut order = ["{H}", "{F}", "{T}"];
    for i in [2, 1] {
        order.swap(i, scribe.random.between(0, i));
    }
    let [a, b, c] = order.map(|name| match name {
        "{H}" => scribe.hero.name,
        "{F}" => scribe.friend.name,
        _ => scribe.third.name,
    });
    let slots = [("a", a), ("b", b), ("c", c), ("more", more), ("most", most), ("least", least)];
    scribe.tell(
        &[
            "{a} was {more} than {b}, and {b} was {more} than {c}.",
            "{b} was {more} than {c}, but {a} was {more} than {b}.",
        ],
        &slots,
    );
    scribe.tell(&["So {a} was the {most} of the three, and {c} the {least}."], &slots);
    scribe.remember("Who was the {least}?", "{c}.", &slots);
    scribe.remember("Who was the {most}?", "{a}.", &slots);
}

/// Weather, and what always goes with it.
fn weather(scribe: &mut Scribe) {
    let (sort, picture, effect) = scribe.random.pick_skewed(&WEATHER);
    let day = scribe.random.pick(&DAYS);
    let place = scribe.random.pick(&PLACES);
    let effect_first = capital(effect);
    let slots = [
        ("sort", sort),
        ("picture", picture),
        ("effect", effect),
        ("Effect", &effect_first),
        ("day", day),
        ("place", place),
    ];
    scribe.tell(&["{day} was {sort}, and {effect}.", "It was a {sort} {day}. {picture} {Effect}."], &slots);
    scribe.tell(
        &[
            "{H} stayed in the {place}.",
            "{H} and {F} met at the {place} all the same.",
            "“What a day,” said {F} at the {place}.",
            "Only {H} was to be seen at the {place}.",
        ],
        &slots,
    );
    scribe.remember("What was the weather on {day}?", "It was {sort}.", &slots);
}

fn closing(scribe: &mut Scribe) {
    let hero = scribe.hero;
    let town = scribe.town_of(hero);
    let (kind, _, pet) = hero.pet;
    let friends = listed(&[scribe.friend.name.to_string(), scribe.third.name.to_string()]);
    let slots =
        [("town", town.name.as_str()), ("friends", &friends), ("dish", hero.dish), ("kind", kind), ("pet", pet)];
    scribe.tell(
        &[
            "When it was dark, {H} went home to {town}, fed {pet}, and ate {dish}.",
            "{H} said goodbye to {friends} and went back to {town}.",
            "At night {H} told it all to {pet} the {kind}, who said nothing.",
        ],
        &slots,
    );
}
