//! Chance that can be repeated: the same seed, the same course (xorshift64*).

/// See the module.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// A course of its own for each seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Any number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, which is not zero. Its low bits are the weaker ones.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.number() >> 16) % end
    }

    /// Bytes that do not repeat soon.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let next = || self.number().to_be_bytes();
        let mut bytes: Vec<u8> = std::iter::repeat_with(next).take(count.div_ceil(8)).flatten().collect();
        bytes.truncate(count);
        bytes
    }
}
