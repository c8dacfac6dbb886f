//! The words of the synthetic corpus. Their order and number decide its bytes: add nothing without a new hash.

/// A thing that can be counted: one, many.
pub(super) type Noun = (&'static str, &'static str);

/// Given names of women.
pub(super) const WOMEN: [&str; 36] = [
    "Ada", "Mira", "Nora", "Ines", "Tilda", "Rosa", "Greta", "Hanna", "Lucia", "Petra", "Selma", "Vera", "Wilma",
    "Yara", "Zora", "Clara", "Dunya", "Edith", "Freya", "Ilse", "Juno", "Katya", "Leila", "Maud", "Noor", "Olga",
    "Paloma", "Rhea", "Sanna", "Thea", "Una", "Viola", "Wanda", "Xenia", "Amina", "Beatriz",
];

/// Given names of men.
pub(super) const MEN: [&str; 36] = [
    "Tom", "Otto", "Ravi", "Hugo", "Emil", "Jonas", "Karim", "Luka", "Milo", "Nils", "Oskar", "Pavel", "Quentin",
    "Rufus", "Sven", "Tariq", "Ugo", "Viktor", "Walter", "Yusuf", "Zeno", "Abel", "Bruno", "Cyril", "Dario", "Elias",
    "Felix", "Goran", "Henrik", "Igor", "Jasper", "Kofi", "Leon", "Marek", "Niko", "Anton",
];

/// Beginnings of surnames.
pub(super) const SURNAME_STARTS: [&str; 20] = [
    "Al", "Ber", "Cor", "Dal", "Ever", "Fin", "Gar", "Hol", "Iver", "Jan", "Kel", "Lind", "Mor", "Nor", "Oster", "Pel",
    "Quil", "Ros", "Stam", "Tor",
];

/// Ends of surnames.
pub(super) const SURNAME_ENDS: [&str; 14] =
    ["berg", "den", "feld", "gren", "holm", "ley", "man", "ner", "ova", "quist", "sen", "ton", "well", "wick"];

/// Beginnings of the names of towns and rivers.
pub(super) const TOWN_STARTS: [&str; 20] = [
    "Ash", "Bram", "Cold", "Dun", "Elm", "Fair", "Gold", "Hazel", "Iron", "Kings", "Long", "Marsh", "North", "Oak",
    "Penn", "Raven", "Stone", "Thorn", "Under", "West",
];

/// Ends of the names of towns.
pub(super) const TOWN_ENDS: [&str; 14] =
    ["bridge", "brook", "bury", "by", "dale", "field", "ford", "gate", "ham", "haven", "mere", "mouth", "port", "wood"];

/// Rivers.
pub(super) const RIVERS: [&str; 12] =
    ["Arl", "Bresk", "Corrin", "Dove", "Esk", "Fenn", "Gale", "Isen", "Lune", "Mose", "Tarn", "Yarrow"];

/// What people do for a living.
pub(super) const JOBS: [&str; 40] = [
    "baker",
    "carpenter",
    "teacher",
    "tailor",
    "gardener",
    "fisher",
    "doctor",
    "miller",
    "painter",
    "printer",
    "shepherd",
    "weaver",
    "mason",
    "clerk",
    "cook",
    "farmer",
    "glazier",
    "hunter",
    "innkeeper",
    "joiner",
    "ferryman",
    "librarian",
    "musician",
    "nurse",
    "optician",
    "potter",
    "roofer",
    "sailor",
    "smith",
    "surveyor",
    "tanner",
    "undertaker",
    "vintner",
    "watchmaker",
    "beekeeper",
    "chandler",
    "draper",
    "engraver",
    "florist",
    "grocer",
];

/// Dishes that people like.
pub(super) const DISHES: [&str; 28] = [
    "onion soup",
    "plum cake",
    "baked fish",
    "lentil stew",
    "rye bread",
    "apple pie",
    "roast duck",
    "barley broth",
    "pea soup",
    "ginger biscuits",
    "pickled herring",
    "potato dumplings",
    "rice pudding",
    "mushroom pie",
    "cheese toast",
    "bean salad",
    "pancakes",
    "poached pears",
    "cabbage rolls",
    "honey cake",
    "leek tart",
    "fried eggs",
    "beetroot soup",
    "almond bread",
    "turnip mash",
    "cherry jam",
    "smoked trout",
    "oat porridge",
];

/// Animals that live with people, each with its picture.
pub(super) const PETS: [(&str, &str); 14] = [
    ("cat", "🐈"),
    ("dog", "🐕"),
    ("parrot", "🦜"),
    ("rabbit", "🐇"),
    ("tortoise", "🐢"),
    ("goat", "🐐"),
    ("hen", "🐔"),
    ("pony", "🐴"),
    ("hedgehog", "🦔"),
    ("mouse", "🐁"),
    ("duck", "🦆"),
    ("owl", "🦉"),
    ("snail", "🐌"),
    ("frog", "🐸"),
];

/// Names of those animals.
pub(super) const PET_NAMES: [&str; 28] = [
    "Biscuit", "Pepper", "Smoke", "Button", "Thimble", "Captain", "Duchess", "Mustard", "Nutmeg", "Pebble", "Rocket",
    "Shadow", "Tansy", "Velvet", "Whisper", "Ziggy", "Acorn", "Bramble", "Clover", "Domino", "Ember", "Fidget",
    "Gravy", "Hopper", "Inky", "Jigsaw", "Kettle", "Luna",
];

/// Things that are counted, bought, lost and found; the first ones more often.
pub(super) const THINGS: [Noun; 84] = [
    ("apple", "apples"),
    ("key", "keys"),
    ("book", "books"),
    ("candle", "candles"),
    ("coin", "coins"),
    ("letter", "letters"),
    ("egg", "eggs"),
    ("button", "buttons"),
    ("map", "maps"),
    ("cup", "cups"),
    ("lamp", "lamps"),
    ("stone", "stones"),
    ("pear", "pears"),
    ("bell", "bells"),
    ("ribbon", "ribbons"),
    ("box", "boxes"),
    ("hat", "hats"),
    ("spoon", "spoons"),
    ("loaf", "loaves"),
    ("knife", "knives"),
    ("feather", "feathers"),
    ("plum", "plums"),
    ("bottle", "bottles"),
    ("rope", "ropes"),
    ("shell", "shells"),
    ("marble", "marbles"),
    ("pencil", "pencils"),
    ("brush", "brushes"),
    ("bowl", "bowls"),
    ("plate", "plates"),
    ("jar", "jars"),
    ("nail", "nails"),
    ("hammer", "hammers"),
    ("clock", "clocks"),
    ("mirror", "mirrors"),
    ("kite", "kites"),
    ("drum", "drums"),
    ("whistle", "whistles"),
    ("blanket", "blankets"),
    ("scarf", "scarves"),
    ("glove", "gloves"),
    ("boot", "boots"),
    ("coat", "coats"),
    ("stamp", "stamps"),
    ("ticket", "tickets"),
    ("brick", "bricks"),
    ("tile", "tiles"),
    ("seed", "seeds"),
    ("bulb", "bulbs"),
    ("rose", "roses"),
    ("leaf", "leaves"),
    ("lemon", "lemons"),
    ("onion", "onions"),
    ("turnip", "turnips"),
    ("goose", "geese"),
    ("sack", "sacks"),
    ("barrel", "barrels"),
    ("ladder", "ladders"),
    ("wheel", "wheels"),
    ("saddle", "saddles"),
    ("violin", "violins"),
    ("flute", "flutes"),
    ("needle", "needles"),
    ("thimble", "thimbles"),
    ("umbrella", "umbrellas"),
    ("lantern", "lanterns"),
    ("compass", "compasses"),
    ("anchor", "anchors"),
    ("net", "nets"),
    ("oar", "oars"),
    ("chisel", "chisels"),
    ("saw", "saws"),
    ("inkwell", "inkwells"),
    ("quill", "quills"),
    ("globe", "globes"),
    ("puppet", "puppets"),
    ("medal", "medals"),
    ("chain", "chains"),
    ("ring", "rings"),
    ("locket", "lockets"),
    ("fan", "fans"),
    ("teapot", "teapots"),
    ("kettle", "kettles"),
    ("sieve", "sieves"),
];

/// Colours.
pub(super) const COLOURS: [&str; 16] = [
    "red", "blue", "green", "yellow", "white", "black", "brown", "grey", "purple", "orange", "pink", "golden",
    "silver", "scarlet", "pale", "dark",
];

/// What things are made of.
pub(super) const MATERIALS: [&str; 14] = [
    "brass", "wooden", "iron", "glass", "leather", "copper", "paper", "woollen", "clay", "ivory", "marble", "tin",
    "silk", "straw",
];

/// Where things are put.
pub(super) const CONTAINERS: [&str; 22] = [
    "box", "drawer", "basket", "chest", "cupboard", "sack", "trunk", "bucket", "jar", "satchel", "crate", "pocket",
    "barrel", "suitcase", "tin", "wardrobe", "desk", "hamper", "purse", "cabinet", "bag", "bin",
];

/// Where people are.
pub(super) const PLACES: [&str; 32] = [
    "market",
    "kitchen",
    "harbour",
    "garden",
    "library",
    "school",
    "mill",
    "station",
    "church",
    "workshop",
    "orchard",
    "bakery",
    "bridge",
    "stable",
    "theatre",
    "town hall",
    "post office",
    "meadow",
    "cellar",
    "attic",
    "inn",
    "forge",
    "museum",
    "lighthouse",
    "square",
    "hospital",
    "bathhouse",
    "tower",
    "vineyard",
    "quarry",
    "ferry",
    "observatory",
];

/// How people are.
pub(super) const TRAITS: [&str; 30] = [
    "patient",
    "curious",
    "stubborn",
    "cheerful",
    "careful",
    "quiet",
    "proud",
    "generous",
    "absent-minded",
    "brave",
    "gentle",
    "honest",
    "impatient",
    "jealous",
    "kind",
    "lazy",
    "merry",
    "nervous",
    "orderly",
    "polite",
    "quick",
    "restless",
    "shy",
    "thrifty",
    "untidy",
    "vain",
    "wise",
    "bold",
    "clumsy",
    "diligent",
];

/// How things are done.
pub(super) const ADVERBS: [&str; 26] = [
    "slowly",
    "quickly",
    "carefully",
    "quietly",
    "happily",
    "sadly",
    "at once",
    "without a word",
    "with a smile",
    "in silence",
    "gladly",
    "politely",
    "angrily",
    "gently",
    "proudly",
    "nervously",
    "as usual",
    "in a hurry",
    "after a while",
    "twice",
    "again",
    "calmly",
    "eagerly",
    "reluctantly",
    "softly",
    "firmly",
];

/// The weather, each with its picture and what it makes of the day.
pub(super) const WEATHER: [(&str, &str, &str); 9] = [
    ("sunny", "☀️", "the streets were dry"),
    ("rainy", "🌧️", "the gutters ran over"),
    ("snowy", "❄️", "the roofs were white"),
    ("foggy", "🌫️", "nobody could see the bridge"),
    ("windy", "💨", "hats flew across the square"),
    ("stormy", "⛈️", "the boats stayed in the harbour"),
    ("cloudy", "☁️", "the light was grey"),
    ("frosty", "🥶", "the well was frozen"),
    ("mild", "🌤️", "the windows stood open"),
];

/// The days of the week.
pub(super) const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Months.
pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Numbers in words.
pub(super) const NUMBERS: [&str; 21] = [
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];

/// Tongues of the glossaries, as [`GLOSSARY`] has them after English.
pub(super) const TONGUES: [&str; 7] = ["Russian", "Greek", "Chinese", "Hindi", "Korean", "Arabic", "Spanish"];

/// Words in those tongues.
pub(super) const GLOSSARY: [[&str; 8]; 26] = [
    ["water", "вода", "νερό", "水", "पानी", "물", "ماء", "agua"],
    ["bread", "хлеб", "ψωμί", "面包", "रोटी", "빵", "خبز", "pan"],
    ["house", "дом", "σπίτι", "房子", "घर", "집", "بيت", "casa"],
    ["book", "книга", "βιβλίο", "书", "किताब", "책", "كتاب", "libro"],
    ["sun", "солнце", "ήλιος", "太阳", "सूरज", "해", "شمس", "sol"],
    ["moon", "луна", "φεγγάρι", "月亮", "चाँद", "달", "قمر", "luna"],
    ["fire", "огонь", "φωτιά", "火", "आग", "불", "نار", "fuego"],
    ["tree", "дерево", "δέντρο", "树", "पेड़", "나무", "شجرة", "árbol"],
    ["fish", "рыба", "ψάρι", "鱼", "मछली", "물고기", "سمكة", "pez"],
    ["bird", "птица", "πουλί", "鸟", "चिड़िया", "새", "طائر", "pájaro"],
    ["cat", "кошка", "γάτα", "猫", "बिल्ली", "고양이", "قطة", "gato"],
    ["dog", "собака", "σκύλος", "狗", "कुत्ता", "개", "كلب", "perro"],
    ["hand", "рука", "χέρι", "手", "हाथ", "손", "يد", "mano"],
    ["eye", "глаз", "μάτι", "眼睛", "आँख", "눈", "عين", "ojo"],
    ["door", "дверь", "πόρτα", "门", "दरवाज़ा", "문", "باب", "puerta"],
    ["river", "река", "ποτάμι", "河", "नदी", "강", "نهر", "río"],
    ["mountain", "гора", "βουνό", "山", "पहाड़", "산", "جبل", "montaña"],
    ["night", "ночь", "νύχτα", "夜", "रात", "밤", "ليل", "noche"],
    ["friend", "друг", "φίλος", "朋友", "दोस्त", "친구", "صديق", "amigo"],
    ["king", "король", "βασιλιάς", "国王", "राजा", "왕", "ملك", "rey"],
    ["salt", "соль", "αλάτι", "盐", "नमक", "소금", "ملح", "sal"],
    ["milk", "молоко", "γάλα", "牛奶", "दूध", "우유", "حليب", "leche"],
    ["snow", "снег", "χιόνι", "雪", "बर्फ़", "눈송이", "ثلج", "nieve"],
    ["apple", "яблоко", "μήλο", "苹果", "सेब", "사과", "تفاحة", "manzana"],
    ["key", "ключ", "κλειδί", "钥匙", "चाबी", "열쇠", "مفتاح", "llave"],
    ["city", "город", "πόλη", "城市", "शहर", "도시", "مدينة", "ciudad"],
];

/// What people do: to be done, and done.
pub(super) const DEEDS: [(&str, &str); 48] = [
    ("mend the roof", "mended the roof"),
    ("paint the fence", "painted the fence"),
    ("sweep the yard", "swept the yard"),
    ("feed the horses", "fed the horses"),
    ("wind the clock", "wound the clock"),
    ("post the letters", "posted the letters"),
    ("chop the wood", "chopped the wood"),
    ("bake the bread", "baked the bread"),
    ("wash the windows", "washed the windows"),
    ("count the sheep", "counted the sheep"),
    ("light the lamps", "lit the lamps"),
    ("draw the water", "drew the water"),
    ("sharpen the knives", "sharpened the knives"),
    ("repair the pump", "repaired the pump"),
    ("plant the beans", "planted the beans"),
    ("pick the pears", "picked the pears"),
    ("pay the rent", "paid the rent"),
    ("tune the violin", "tuned the violin"),
    ("polish the silver", "polished the silver"),
    ("read the will", "read the will"),
    ("open the cellar", "opened the cellar"),
    ("close the shutters", "closed the shutters"),
    ("fetch the doctor", "fetched the doctor"),
    ("sell the cow", "sold the cow"),
    ("buy the ribbon", "bought the ribbon"),
    ("dig the well", "dug the well"),
    ("clean the chimney", "cleaned the chimney"),
    ("dry the nets", "dried the nets"),
    ("load the cart", "loaded the cart"),
    ("ring the bell", "rang the bell"),
    ("copy the map", "copied the map"),
    ("sign the papers", "signed the papers"),
    ("teach the children", "taught the children"),
    ("visit the mill", "visited the mill"),
    ("measure the field", "measured the field"),
    ("carry the sacks", "carried the sacks"),
    ("salt the fish", "salted the fish"),
    ("weigh the wool", "weighed the wool"),
    ("bury the bones", "buried the bones"),
    ("burn the leaves", "burned the leaves"),
    ("cut the grass", "cut the grass"),
    ("hang the pictures", "hung the pictures"),
    ("iron the shirts", "ironed the shirts"),
    ("learn the song", "learned the song"),
    ("milk the goats", "milked the goats"),
    ("oil the hinges", "oiled the hinges"),
    ("tie the boat", "tied the boat"),
    ("write the report", "wrote the report"),
];

/// Beginnings of coined names.
pub(super) const COINED_STARTS: [&str; 28] = [
    "Ba", "Bre", "Ca", "Cho", "Da", "Dri", "El", "Fa", "Fli", "Ga", "Gro", "Ha", "Il", "Ka", "Kre", "La", "Mo", "Na",
    "O", "Pa", "Qua", "Ri", "Sha", "Ta", "Thra", "Ul", "Va", "Zi",
];

/// Middles of coined names.
pub(super) const COINED_MIDDLES: [&str; 20] = [
    "", "ba", "du", "fe", "go", "li", "ma", "ni", "po", "ra", "ro", "sa", "shi", "ta", "ti", "ve", "vo", "wi", "yo",
    "zu",
];

/// Ends of coined names.
pub(super) const COINED_ENDS: [&str; 26] = [
    "b", "bel", "dor", "fin", "g", "gan", "k", "kin", "l", "lim", "m", "mir", "n", "nak", "p", "r", "rak", "rin", "s",
    "sk", "t", "tal", "th", "vik", "x", "zan",
];

/// What people feel.
pub(super) const FEELINGS: [&str; 20] = [
    "afraid",
    "angry",
    "ashamed",
    "bored",
    "calm",
    "content",
    "delighted",
    "disappointed",
    "grateful",
    "hopeful",
    "lonely",
    "lost",
    "puzzled",
    "relieved",
    "sleepy",
    "sorry",
    "surprised",
    "thirsty",
    "tired",
    "worried",
];

/// What somebody on a road carries, does, or is.
pub(super) const STRANGERS: [&str; 24] = [
    "pedlar",
    "soldier",
    "monk",
    "singer",
    "beggar",
    "duke",
    "widow",
    "student",
    "juggler",
    "spy",
    "pilgrim",
    "merchant",
    "pirate",
    "clown",
    "professor",
    "messenger",
    "giant",
    "thief",
    "prince",
    "nun",
    "gambler",
    "blacksmith",
    "wizard",
    "judge",
];
