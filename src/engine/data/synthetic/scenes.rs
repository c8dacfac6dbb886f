//! Stories: an opening that says who somebody is, a few scenes with the same cast, and questions that the text answers.
//! Coined names occur in some scenes, which can be known only from where they came up before.

use super::scribe::{Scribe, capital, counted, number};
use super::words::{forms, words};

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
        scribe.write("closing", &[]);
    } else {
        let questions = scribe.random.between(2, 4);
        scribe.ask(questions);
    }
}

fn opening(scribe: &mut Scribe) {
    scribe.write("opening", &[]);
    for detail in scribe.random.several(&["opening: nature", "opening: pet", "opening: dish", "opening: born"], 2) {
        scribe.write(detail, &[]);
    }
}

/// Things come and go; the number left is right.
fn counting(scribe: &mut Scribe) {
    let thing = scribe.thing();
    let colour = scribe.pick("colours");
    let start = scribe.random.between(3, 15);
    let given = scribe.random.between(1, start - 1);
    let more = scribe.random.between(1, 9);
    let place = scribe.pick("places");
    scribe.write(
        "counting",
        &[
            ("start", &counted(start, thing)),
            ("given", &number(given)),
            ("more", &number(more)),
            ("left", &number(start - given)),
            ("total", &counted(start - given + more, thing)),
            ("many", &thing[1]),
            ("colour", &colour),
            ("place", &place),
        ],
    );
}

/// Something is put away, other things happen, and it is found where it was put.
fn hiding(scribe: &mut Scribe) {
    let [[thing, _], [other, _]] = scribe.things();
    let boxes = scribe.several("containers", 2);
    let colours = scribe.several("colours", 2);
    let material = scribe.pick("materials");
    let place = scribe.pick("places");
    let how = scribe.pick("adverbs");
    scribe.write(
        "hiding",
        &[
            ("thing", &thing),
            ("other", &other),
            ("material", &material),
            ("box", &boxes[0]),
            ("box2", &boxes[1]),
            ("colour", &colours[0]),
            ("colour2", &colours[1]),
            ("place", &place),
            ("how", &how),
        ],
    );
}

/// Question and answer between the two, about what is true of them.
fn talking(scribe: &mut Scribe) {
    let how = scribe.pick("adverbs");
    scribe.write("talking", &[("how", &how)]);
}

/// Prices that add up.
fn shopping(scribe: &mut Scribe) {
    let [one, two] = scribe.things();
    let counts = [scribe.random.between(2, 9), scribe.random.between(2, 9)];
    let prices = [scribe.random.between(2, 9), scribe.random.between(2, 9)];
    let costs = [counts[0] * prices[0], counts[1] * prices[1]];
    let day = scribe.pick("days");
    scribe.write(
        "shopping",
        &[
            ("first", &counted(counts[0], one)),
            ("second", &counted(counts[1], two)),
            ("price", &prices[0]),
            ("price2", &prices[1]),
            ("cost", &costs[0]),
            ("cost2", &costs[1]),
            ("total", &(costs[0] + costs[1])),
            ("day", &day),
            ("one", &one[0]),
            ("two", &two[0]),
        ],
    );
}

/// A walk, and the same backward pass.
fn walking(scribe: &mut Scribe) {
    let places = scribe.several("places", 3);
    scribe.write("walking", &[("a", &places[0]), ("b", &places[1]), ("c", &places[2])]);
}

/// Three in an order; the ends of it follow.
fn comparing(scribe: &mut Scribe) {
    let [more, most, least] = forms(scribe.pick("scales"));
    let mut order = [scribe.hero.name, scribe.friend.name, scribe.third.name];
    for i in [2, 1] {
        order.swap(i, scribe.random.between(0, i));
    }
    let [a, b, c] = order;
    scribe.write("comparing", &[("a", &a), ("b", &b), ("c", &c), ("more", &more), ("most", &most), ("least", &least)]);
}

/// Weather, and what always goes with it.
fn weather(scribe: &mut Scribe) {
    let [sort, picture, effect] = forms(scribe.random.pick_skewed(words("weather")));
    let day = scribe.pick("days");
    let place = scribe.pick("places");
    scribe.write(
        "weather",
        &[
            ("sort", &sort),
            ("picture", &picture),
            ("effect", &effect),
            ("Effect", &capital(effect)),
            ("day", &day),
            ("place", &place),
        ],
    );
}

/// Something is promised for a day, and done on it.
fn promising(scribe: &mut Scribe) {
    let [todo, done] = forms(scribe.pick("deeds"));
    let days = scribe.several("days", 2);
    let feeling = scribe.pick("feelings");
    scribe.write(
        "promising",
        &[("todo", &todo), ("done", &done), ("day", &days[0]), ("now", &days[1]), ("feeling", &feeling)],
    );
}

/// Somebody with a name that nobody has heard before.
fn meeting(scribe: &mut Scribe) {
    let name = scribe.coin();
    let trade = scribe.pick("strangers");
    let home = scribe.coin();
    let place = scribe.pick("places");
    let [[_, many], [_, more]] = scribe.things();
    scribe.write(
        "meeting",
        &[("name", &name), ("home", &home), ("trade", &trade), ("place", &place), ("many", &many), ("more", &more)],
    );
}

/// A ship with a name, out and back.
fn sailing(scribe: &mut Scribe) {
    let ship = scribe.coin();
    let captain = scribe.coin();
    let thing = scribe.thing();
    let days = scribe.random.between(2, 20);
    let loaded = scribe.random.between(5, 20);
    let lost = scribe.random.between(1, 4);
    let colour = scribe.pick("colours");
    scribe.write(
        "sailing",
        &[
            ("ship", &ship),
            ("captain", &captain),
            ("days", &number(days)),
            ("loaded", &counted(loaded, thing)),
            ("lost", &number(lost)),
            ("landed", &counted(loaded - lost, thing)),
            ("colour", &colour),
            ("many", &thing[1]),
        ],
    );
}

/// Something is shared out evenly among the three.
fn sharing(scribe: &mut Scribe) {
    let thing = scribe.thing();
    let each = scribe.random.between(1, 9);
    let rest = scribe.random.below(3);
    let all = counted(3 * each + rest, thing);
    let rest = if rest == 0 { "none".to_string() } else { number(rest) };
    let place = scribe.pick("places");
    scribe.write(
        "sharing",
        &[("all", &all), ("each", &number(each)), ("rest", &rest), ("many", &thing[1]), ("place", &place)],
    );
}

/// A dream in which things are what they are not, and the same things by day.
fn dreaming(scribe: &mut Scribe) {
    let [[thing, _], [_, many]] = scribe.things();
    let colours = scribe.several("colours", 2);
    let feeling = scribe.pick("feelings");
    let place = scribe.pick("places");
    scribe.write(
        "dreaming",
        &[
            ("thing", &thing),
            ("many", &many),
            ("colour", &colours[0]),
            ("colour2", &colours[1]),
            ("feeling", &feeling),
            ("place", &place),
        ],
    );
}
