//! More scenes for the stories: promises, strangers, ships, shares, dreams. Coined names occur here, which can be known
//! only from where they came up before.

use super::scribe::{Scribe, counted, number, with_article};
use super::words::{COLOURS, DAYS, DEEDS, FEELINGS, PLACES, STRANGERS, THINGS};

/// Something is promised for a day, and done on it.
pub(super) fn promising(scribe: &mut Scribe) {
    let (todo, done) = scribe.random.pick(&DEEDS);
    let days = scribe.several(&DAYS, 2);
    let feeling = scribe.random.pick(&FEELINGS);
    let slots = [("todo", todo), ("done", done), ("day", days[0]), ("now", days[1]), ("feeling", feeling)];
    scribe.tell(
        &[
            "On {now} {H} promised {F} to {todo} by {day}.",
            "“Will you {todo}?” asked {F} on {now}. “By {day},” said {H}.",
            "It was {now}, and somebody had to {todo} before {day}. {H} said that {he} would.",
        ],
        &slots,
    );
    scribe.tell(
        &[
            "{F} was {feeling}.",
            "Until then {F} was {feeling}.",
            "{T} did not believe it.",
            "“We shall see,” said {T}.",
        ],
        &slots,
    );
    scribe.tell(
        &[
            "When {day} came, {H} {done}.",
            "{day} came, and {H} {done} as {he} had promised on {now}.",
            "And indeed, on {day} {he} {done}.",
        ],
        &slots,
    );
    scribe.remember("What did {H} do on {day}?", "{He} {done}.", &slots);
    scribe.remember("Who {done}?", "{H} did.", &slots);
}

/// Somebody with a name that nobody has heard before, told over.
pub(super) fn meeting(scribe: &mut Scribe) {
    let name = scribe.coin();
    let trade = scribe.random.pick(&STRANGERS);
    let home = scribe.coin();
    let place = scribe.random.pick(&PLACES);
    let things = scribe.several(&THINGS, 2);
    let a_trade = with_article(trade);
    let slots = [
        ("name", name.as_str()),
        ("home", &home),
        ("trade", trade),
        ("a trade", &a_trade),
        ("place", place),
        ("many", things[0].1),
        ("more", things[1].1),
    ];
    scribe.tell(
        &[
            "At the {place} stood {a trade} named {name}, who came from {home}.",
            "One day {a trade} came to the {place}. “I am {name} of {home},” said the {trade}.",
            "{F} told {H} of {a trade} from {home}, whose name was {name}.",
        ],
        &slots,
    );
    scribe.tell(
        &[
            "In {home}, said {name}, they have neither {many} nor {more}.",
            "{name} sold {many} and {more} that were made in {home}.",
            "“In {home} they trade {many} for {more},” said {name}.",
        ],
        &slots,
    );
    scribe.tell(
        &[
            "“Is {home} far?” asked {H}. “As far as you like,” said {name}.",
            "{H} bought some {many} from {name} and forgot the {more}.",
            "The {trade} stayed for a night, and in the morning {name} was gone.",
        ],
        &slots,
    );
    scribe.remember("What was the {trade} called?", "{name}.", &slots);
    scribe.remember("Where did the {trade} come from?", "From {home}.", &slots);
}

/// A ship with a name, out and back.
pub(super) fn sailing(scribe: &mut Scribe) {
    let ship = scribe.coin();
    let captain = scribe.coin();
    let thing = scribe.thing();
    let days = scribe.random.between(2, 20);
    let loaded = scribe.random.between(5, 20);
    let lost = scribe.random.between(1, 4);
    let texts = [number(days), counted(loaded, thing), number(lost), counted(loaded - lost, thing)];
    let [days, loaded, lost, landed] = texts.each_ref().map(String::as_str);
    let colour = scribe.random.pick(&COLOURS);
    let slots = [
        ("ship", ship.as_str()),
        ("captain", &captain),
        ("days", days),
        ("loaded", loaded),
        ("lost", lost),
        ("landed", landed),
        ("colour", colour),
        ("many", thing.1),
    ];
    scribe.tell(
        &[
            "The {ship} was a ship with {colour} sails, and {captain} was her captain.",
            "{H} went aboard the {ship}, whose captain was called {captain}. Her sails were {colour}.",
        ],
        &slots,
    );
    scribe.tell(
        &[
            "She carried {loaded}, and the voyage took {days} days.",
            "With {loaded} in the hold she was at sea for {days} days.",
        ],
        &slots,
    );
    scribe.tell(
        &[
            "In a storm {lost} of the {many} went overboard, so {captain} landed with {landed}.",
            "The sea took {lost} of the {many}; {landed} came ashore.",
        ],
        &slots,
    );
    scribe.tell(
        &[
            "“Never again,” said {captain}, and sold the {ship}.",
            "When the {ship} came home, her sails were no longer {colour}.",
        ],
        &slots,
    );
    scribe.remember("Who was the captain of the {ship}?", "{captain}.", &slots);
    scribe.remember("How many {many} came ashore?", "{landed}.", &slots);
}

/// Something is shared out evenly among the three.
pub(super) fn sharing(scribe: &mut Scribe) {
    let thing = scribe.thing();
    let each = scribe.random.between(1, 9);
    let rest = scribe.random.below(3);
    let texts =
        [counted(3 * each + rest, thing), number(each), if rest == 0 { "none".to_string() } else { number(rest) }];
    let [all, each, rest] = texts.each_ref().map(String::as_str);
    let place = scribe.random.pick(&PLACES);
    let slots = [("all", all), ("each", each), ("rest", rest), ("many", thing.1), ("place", place)];
    scribe.tell(
        &[
            "{H}, {F} and {T} shared {all} at the {place}.",
            "There were {all} at the {place} for {H}, {F} and {T}.",
            "“Here are {all} for the three of us,” said {T} to {H} and {F}.",
        ],
        &slots,
    );
    scribe.tell(
        &[
            "Each of them got {each}, with {rest} left over.",
            "{H} took {each}, {F} took {each}, {T} took {each}; {rest} remained.",
        ],
        &slots,
    );
    scribe.remember("How many {many} did {F} get?", "{F} got {each}.", &slots);
}

/// A dream in which things are what they are not, and the same things by day.
pub(super) fn dreaming(scribe: &mut Scribe) {
    let things = scribe.several(&THINGS, 2);
    let colours = scribe.several(&COLOURS, 2);
    let feeling = scribe.random.pick(&FEELINGS);
    let place = scribe.random.pick(&PLACES);
    let slots = [
        ("thing", things[0].0),
        ("many", things[1].1),
        ("colour", colours[0]),
        ("colour2", colours[1]),
        ("feeling", feeling),
        ("place", place),
    ];
    scribe.tell(
        &[
            "That night {H} dreamt that the {place} was full of {colour} {many} and that every {thing} was {colour2}.",
            "In a dream {F} saw {colour} {many} in the {place} and one {colour2} {thing}.",
            "“I dreamt of {colour} {many},” said {F}, “and of the {place}, where the {thing} spoke to me. It was {colour2}.”",
        ],
        &slots,
    );
    scribe.tell(
        &[
            "{H} woke up {feeling}.",
            "It made {H} {feeling} to think of it.",
            "“Were you not {feeling}?” asked {H}. “Only when I saw the {thing},” said {F}.",
        ],
        &slots,
    );
    scribe.tell(
        &[
            "But in the morning the {many} were not {colour}, and no {thing} was {colour2}.",
            "For a week {he} looked at every {thing} to see whether it was {colour2}.",
        ],
        &slots,
    );
    scribe.remember("Of what colour was the {thing} in the dream?", "It was {colour2}.", &slots);
}
