//! Chance that can be repeated (splitmix64), written here so that no update of a library changes what a seed means. Pure.

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The same number, the same chance.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`, which is not zero.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// One of `all`, which is not empty.
    pub(crate) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        let n = self.below(all.len() as u64);
        all[usize::try_from(n).unwrap_or(0)]
    }
}
