//! Python's `random.Random` for whole-number seeds: the Mersenne Twister and the ways CPython draws from it.
//!
//! The few-shot choice and the subsampling of CORE are defined by this generator, so it is part of the benchmark.
//! Sources: Matsumoto and Nishimura (1998), MT19937 with `init_by_array`; CPython `Lib/random.py`, `_randommodule.c`.

const LENGTH: usize = 624;
const MIDDLE: usize = 397;

/// A generator in the state that `random.Random(seed)` starts in.
pub struct PythonRandom {
    state: [u32; LENGTH],
    next: usize,
}

impl PythonRandom {
    /// `random.Random(seed)`.
    pub fn new(seed: u64) -> Self {
        let key: &[u32] = &[seed as u32, (seed >> 32) as u32];
        let key = if key[1] == 0 { &key[..1] } else { key };
        let mut state = seeded(19_650_218);
        let (mut at, mut from) = (1, 0);
        for _ in 0..LENGTH.max(key.len()) {
            let mixed = (state[at - 1] ^ (state[at - 1] >> 30)).wrapping_mul(1_664_525);
            state[at] = (state[at] ^ mixed).wrapping_add(key[from]).wrapping_add(from as u32);
            at = advance(at, &mut state);
            from = (from + 1) % key.len();
        }
        for _ in 0..LENGTH - 1 {
            let mixed = (state[at - 1] ^ (state[at - 1] >> 30)).wrapping_mul(1_566_083_941);
            state[at] = (state[at] ^ mixed).wrapping_sub(at as u32);
            at = advance(at, &mut state);
        }
        state[0] = 0x8000_0000;
        Self { state, next: LENGTH }
    }

    /// `random.shuffle(items)`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }

    /// `random.sample(population, count)`; none when the population is smaller than `count`.
    pub fn sample<T: Clone>(&mut self, population: &[T], count: usize) -> Option<Vec<T>> {
        let size = population.len();
        if count > size {
            return None;
        }
        // CPython copies a small population, and remembers what it drew from a large one. The draws differ.
        if size <= set_size(count) {
            let mut pool = population.to_vec();
            Some((0..count).map(|drawn| pool.swap_remove(self.below(size - drawn))).collect())
        } else {
            let mut chosen: Vec<usize> = Vec::with_capacity(count);
            while chosen.len() < count {
                let index = self.below(size);
                if !chosen.contains(&index) {
                    chosen.push(index);
                }
            }
            Some(chosen.into_iter().filter_map(|index| population.get(index).cloned()).collect())
        }
    }

    /// A number below `bound`, which is at least 1: as many bits as the bound has, drawn again while too large.
    fn below(&mut self, bound: usize) -> usize {
        let bits = usize::BITS - bound.leading_zeros();
        loop {
            let drawn = self.bits(bits) as usize;
            if drawn < bound {
                return drawn;
            }
        }
    }

    /// `getrandbits` of 1 to 64 bits: 32 a word, the lowest first, the last word's highest bits.
    fn bits(&mut self, bits: u32) -> u64 {
        let low = u64::from(self.word() >> (32 - bits.min(32)));
        if bits > 32 { low | u64::from(self.word() >> (64 - bits)) << 32 } else { low }
    }

    /// The next tempered word.
    fn word(&mut self) -> u32 {
        if self.next == LENGTH {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn twist(&mut self) {
        for at in 0..LENGTH {
            let joined = (self.state[at] & 0x8000_0000) | (self.state[(at + 1) % LENGTH] & 0x7fff_ffff);
            let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[at] = self.state[(at + MIDDLE) % LENGTH] ^ (joined >> 1) ^ odd;
        }
        self.next = 0;
    }
}

/// `init_genrand`.
fn seeded(seed: u32) -> [u32; LENGTH] {
    let mut state = [seed; LENGTH];
    for at in 1..LENGTH {
        let before = state[at - 1];
        state[at] = 1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(at as u32);
    }
    state
}

/// The next place of the seeding rounds, which skip place 0 and carry the last word over.
fn advance(at: usize, state: &mut [u32; LENGTH]) -> usize {
    if at + 1 < LENGTH {
        return at + 1;
    }
    state[0] = state[LENGTH - 1];
    1
}

/// Up to this size CPython's `sample` copies the population: 21, and for more than five draws 4 to the power of
/// log4(3 · count), rounded up.
fn set_size(count: usize) -> usize {
    let mut power = 1usize;
    while count > 5 && power < count.saturating_mul(3) {
        power = power.saturating_mul(4);
    }
    if count > 5 { power.saturating_add(21) } else { 21 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drawn with CPython 3.11: `[r.getrandbits(32) for _ in range(2)]`, then on the same generator `r.getrandbits(40)`.
    #[test]
    fn words_are_those_of_cpython() {
        let cases: [(u64, [u64; 3]); 4] = WORDS;
        for (seed, expected) in cases {
            let mut random = PythonRandom::new(seed);
            let drawn = [random.bits(32), random.bits(32), random.bits(40)];
            assert_eq!(drawn, expected, "seed {seed}");
        }
    }

    #[test]
    fn shuffles_are_those_of_cpython() {
        let mut items: Vec<u32> = (0..24).collect();
        PythonRandom::new(1337).shuffle(&mut items);
        assert_eq!(items, SHUFFLED);
    }

    /// Samples from both sides of the rule that decides how CPython draws them.
    #[test]
    fn samples_are_those_of_cpython() {
        for (seed, size, count, expected) in SAMPLES {
            let population: Vec<usize> = (0..*size).collect();
            let drawn = PythonRandom::new(*seed).sample(&population, *count).unwrap();
            assert_eq!(drawn, *expected, "seed {seed}, {count} of {size}");
        }
        assert!(PythonRandom::new(1).sample(&[1, 2], 3).is_none());
    }

    /// More words than one twist makes.
    #[test]
    fn the_thousandth_word_is_that_of_cpython() {
        let mut random = PythonRandom::new(1234);
        let last = (0..1000).map(|_| random.word()).last();
        assert_eq!(last, Some(THOUSANDTH));
    }

    const WORDS: [(u64, [u64; 3]); 4] = [
        (0, [3626764237, 1654615998, 978212965548]),
        (1234, [4150886329, 3342196574, 126446983711]),
        (4294967295, [2728839433, 2661025012, 237095938369]),
        (1099511627783, [2635837658, 3209733218, 1034292189877]),
    ];
    const SHUFFLED: [u32; 24] = [13, 8, 2, 0, 22, 9, 7, 16, 1, 23, 3, 15, 6, 4, 14, 21, 12, 10, 5, 20, 18, 11, 17, 19];
    const THOUSANDTH: u32 = 3677914080;
    const SAMPLES: &[(u64, usize, usize, &[usize])] = &[
        (1234, 23, 5, &[14, 3, 0, 2, 18]),
        (1235, 23, 10, &[22, 13, 17, 18, 15, 12, 4, 11, 19, 10]),
        (1240, 21, 5, &[20, 14, 11, 16, 17]),
        (1241, 22, 5, &[19, 15, 6, 9, 8]),
        (1250, 84, 10, &[18, 50, 80, 20, 35, 41, 38, 33, 60, 3]),
        (1250, 85, 10, &[18, 50, 80, 20, 35, 41, 38, 33, 60, 3]),
        (1251, 86, 10, &[74, 1, 40, 47, 30, 53, 58, 42, 17, 48]),
        (1260, 499, 10, &[46, 76, 167, 222, 253, 215, 57, 372, 85, 71]),
        (1261, 5, 5, &[0, 2, 4, 3, 1]),
        (1262, 10000, 3, &[3144, 5418, 3551]),
        (7, 23, 0, &[]),
        (9, 25, 6, &[14, 19, 11, 8, 4, 5]),
        (9, 85, 6, &[59, 78, 47, 34, 17, 23]),
        (9, 86, 6, &[59, 78, 47, 34, 17, 23]),
    ];
}
