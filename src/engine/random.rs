//! Seeded generators whose streams never change: initial weights, the synthetic corpus and sampling rest on their bits.
//! Python's generator for CORE is beside that benchmark.

use sha2::{Digest, Sha256};

/// SplitMix64 (Steele, Lea and Flood, 2014): one 64-bit state, every seed as good as any.
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// The generator of a sample. Two rounds separate the streams of neighbouring seeds and samples.
    pub fn of_sample(seed: u64, sample: u64) -> Self {
        let base = Self(seed).next();
        Self(Self(base ^ sample.wrapping_mul(0xd1b5_4a32_d192_ed03)).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        unit(self.next())
    }
}

/// The upper 53 bits as a number in [0, 1).
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (-53f64).exp2()
}

/// xoshiro256 (Blackman and Vigna, 2018): its state, from which the variants `++` and `**` take different outputs.
#[derive(Debug, Clone)]
pub struct Xoshiro256([u64; 4]);

impl Xoshiro256 {
    /// The stream of this seed and name, whose SHA-256 is the state.
    pub fn named(seed: u64, name: &str) -> Self {
        let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name.as_bytes()).finalize();
        let word =
            |at: usize| digest.iter().skip(8 * at).take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        Self(std::array::from_fn(word))
    }

    /// Stream number `stream` of `seed`, by SplitMix64.
    pub fn numbered(seed: u64, stream: u64) -> Self {
        let mut mixed = SplitMix64(SplitMix64(seed).next() ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        Self(std::array::from_fn(|_| mixed.next()))
    }

    /// Advances the state, which it returns as it was.
    fn step(&mut self) -> [u64; 4] {
        let before @ [a, b, c, d] = self.0;
        let (c, d) = (c ^ a, d ^ b);
        self.0 = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        before
    }

    /// The next 64 bits of xoshiro256++.
    pub fn plus_plus(&mut self) -> u64 {
        let [a, _, _, d] = self.step();
        a.wrapping_add(d).rotate_left(23).wrapping_add(a)
    }

    /// The next 64 bits of xoshiro256**.
    fn star_star(&mut self) -> u64 {
        let [_, b, _, _] = self.step();
        b.wrapping_mul(5).rotate_left(7).wrapping_mul(9)
    }

    /// A number in [0, 1), by `++`.
    pub fn uniform(&mut self) -> f64 {
        unit(self.plus_plus())
    }

    /// Two independent elements of the standard normal distribution, by `++` and the Box–Muller transform.
    pub fn normal_pair(&mut self) -> [f64; 2] {
        // 1 − u lies in (0, 1], so that its logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        [radius * cosine, radius * sine]
    }

    /// A number below `bound`, which is at least 1, by `**`; even to within 2^-64.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.star_star()) * bound as u128) >> 64) as usize
    }

    /// A number below `bound`, the low ones more often, as with the words of a language.
    pub fn skewed_below(&mut self, bound: usize) -> usize {
        self.below(bound).min(self.below(bound))
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of the choices, all with the same probability.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// One of the choices, the first ones more often.
    pub fn pick_skewed<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.skewed_below(choices.len())]
    }

    /// A few different choices, in random order.
    pub fn several<T: Copy + PartialEq>(&mut self, choices: &[T], count: usize) -> Vec<T> {
        let mut chosen = Vec::with_capacity(count);
        while chosen.len() < count {
            let choice = self.pick_skewed(choices);
            if !chosen.contains(&choice) {
                chosen.push(choice);
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generators_are_the_published_ones() {
        let mut split_mix = SplitMix64(0);
        assert_eq!([split_mix.next(), split_mix.next()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
        let mut random = Xoshiro256([1, 2, 3, 4]);
        let outputs = [(); 4].map(|()| random.plus_plus());
        assert_eq!(outputs, [41943041, 58720359, 3588806011781223, 3591011842654386]);
        let mut random = Xoshiro256([1, 2, 3, 4]);
        assert_eq!([(); 3].map(|()| random.star_star()), [11520, 0, 1_509_978_240]);
    }

    #[test]
    fn named_streams_depend_on_seed_and_name() {
        let first = |seed, name: &str| Xoshiro256::named(seed, name).plus_plus();
        assert_eq!(first(1, "a"), first(1, "a"));
        assert_ne!(first(1, "a"), first(2, "a"));
        assert_ne!(first(1, "a"), first(1, "b"));
    }
}
