//! Shuffle sharding: each flow gets a hand of a few queues out of many, so that two flows seldom share all of theirs.

/// The queues of a flow: `size` different numbers below `deck`, always the same for the same hash.
///
/// The hash is taken as a number of mixed base, one digit a card: `deck` choices for the first card, one fewer for each
/// that follows. A digit names a card among those that are left.
pub fn deal(hash: u64, deck: usize, size: usize) -> impl Iterator<Item = usize> {
    let mut rest = hash;
    let mut dealt: Vec<usize> = Vec::with_capacity(size.min(deck));
    (0..size.min(deck)).map(move |at| {
        let left = (deck - at) as u64;
        let mut card = (rest % left) as usize;
        rest /= left;
        // `dealt` is in rising order: each card before this one moves it one on.
        let mut place = 0;
        while place < dealt.len() && dealt[place] <= card {
            card += 1;
            place += 1;
        }
        dealt.insert(place, card);
        card
    })
}

/// A hash that is the same in every process: FNV-1a over the parts, each ended so that their borders count, with its bits
/// mixed at the end, since cards are dealt from the low ones.
pub fn hash(parts: [&str; 2]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_hand_holds_different_cards_and_all_are_dealt() {
        for (deck, size) in [(1, 1), (6, 6), (64, 6), (128, 6), (16, 4), (3, 9)] {
            let mut counts = vec![0_usize; deck];
            for flow in 0..20_000 {
                let hand: Vec<usize> = deal(hash(["schema", &flow.to_string()]), deck, size).collect();
                let distinct: HashSet<_> = hand.iter().collect();
                assert_eq!((hand.len(), distinct.len()), (size.min(deck), size.min(deck)));
                hand.iter().for_each(|card| counts[*card] += 1);
            }
            let even = 20_000 * size.min(deck) / deck;
            assert!(counts.iter().all(|n| *n * 10 > even * 8 && *n * 10 < even * 12), "{deck} {counts:?}");
        }
    }

    #[test]
    fn borders_between_parts_count() {
        assert_ne!(hash(["ab", "c"]), hash(["a", "bc"]));
    }
}
