//! Random numbers from a seed: what is drawn depends on the seed and on how often it was drawn before, on nothing else.

/// A stream of random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// One of several streams of a seed, unlike the others.
    pub(crate) fn new(seed: u64, stream: u64) -> Dice {
        Dice(mix(seed ^ mix(stream.wrapping_add(0x51_7C_C1_B7))))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// From 0 to below `end`; 0 when that is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }

    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// Never for 0.
    pub(crate) fn one_in(&mut self, many: u64) -> bool {
        many > 0 && self.below(many) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap_or(0)]
    }

    /// A time in milliseconds: most are short, some are long.
    pub(crate) fn moment(&mut self) -> u64 {
        let scale = self.pick(&[1, 10, 100, 100, 1000, 1000, 10_000, 60_000]);
        self.below(scale)
    }

    /// How long a verb takes in milliseconds: mostly nothing or little.
    pub(crate) fn latency(&mut self) -> u64 {
        let scale = self.pick(&[1, 1, 3, 3, 30, 300]);
        self.below(scale)
    }
}

/// Bits that have nothing to do with those of the number, always the same for the same number.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}
