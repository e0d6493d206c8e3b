//! The order of a capped collection's documents, which is essential to some programs (queues, logs, tailing cursors).

use lifeboat_core::Fingerprint;

/// An odd number: nothing of what it is multiplied with is lost. Of xxHash (`XXH_PRIME64_1` and `XXH_PRIME64_2`).
const BASE: u128 = 0x9e37_79b1_85eb_ca87_c2b2_ae3d_27d4_eb4f;

/// A fingerprint of documents in their order: the sum of XXH3-128 of each document, times a power of [`BASE`] for each one
/// after it, modulo 2^128. So the one of a whole follows from those of its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order(u128);

impl Order {
    /// Adds the next document, by its own fingerprint.
    pub(crate) fn push(&mut self, document: Fingerprint) {
        self.0 = self.0.wrapping_mul(BASE).wrapping_add(document.0);
    }

    /// Adds the `count` documents that come next.
    pub(crate) fn append(&mut self, next: Self, count: u64) {
        self.0 = self.0.wrapping_mul(power(count)).wrapping_add(next.0);
    }

    /// The order of the last `count` documents, where `beginning` is that of all before them.
    pub(crate) fn last(self, count: u64, beginning: Self) -> Self {
        Self(self.0.wrapping_sub(beginning.0.wrapping_mul(power(count))))
    }

    /// The text form in a proof.
    pub(crate) fn text(self) -> String {
        format!("in the order {}", Fingerprint(self.0))
    }
}

fn power(mut exponent: u64) -> u128 {
    let (mut result, mut base) = (1u128, BASE);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(documents: &[u128]) -> Order {
        let mut order = Order::default();
        documents.iter().for_each(|document| order.push(Fingerprint(*document)));
        order
    }

    #[test]
    fn the_order_of_a_whole_follows_from_its_parts() {
        let all = [7, 1 << 127, 3, 3, u128::MAX, 9];
        for cut in 0..=all.len() {
            let (before, after) = all.split_at(cut);
            let mut joined = of(before);
            joined.append(of(after), after.len() as u64);
            assert_eq!(joined, of(&all));
            assert_eq!(of(&all).last(after.len() as u64, of(before)), of(after));
        }
        assert_ne!(of(&[1, 2, 3]), of(&[1, 3, 2]));
        assert_ne!(of(&[0, 1]), of(&[1, 0]));
    }
}
