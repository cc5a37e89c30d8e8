//! How many seats each level has, and how levels lend seats to each other.
//!
//! A seat is a place among the requests that are worked on. Each level has its nominal share of all seats; what it may lend
//! of them goes, while it does not need it, to levels that want more than their own.

/// A level's part in the division.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// `nominalConcurrencyShares`.
    pub shares: u32,
    /// `lendablePercent`.
    pub lendable_percent: u32,
    /// `borrowingLimitPercent`; `None` for no limit.
    pub borrowing_percent: Option<u32>,
}

/// The seats of a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Its own.
    pub nominal: u32,
    /// What is left when all that may be lent is lent.
    pub least: u32,
    /// What it can have with all that it may borrow.
    pub most: u32,
}

/// Divides `total` seats by shares. Fractions are rounded up, so that every level with a share has a seat.
pub fn bounds(total: u32, shares: &[Share]) -> Vec<Bounds> {
    let sum: u64 = shares.iter().map(|s| u64::from(s.shares)).sum();
    let part = |share: &Share| {
        let nominal = (u64::from(total) * u64::from(share.shares)).div_ceil(sum.max(1));
        let nominal = u32::try_from(nominal).unwrap_or(u32::MAX);
        let percent = |percent: u32| (u64::from(nominal) * u64::from(percent) + 50) / 100;
        let lendable = u32::try_from(percent(share.lendable_percent)).unwrap_or(u32::MAX).min(nominal);
        let most = share.borrowing_percent.map_or(u64::from(total.max(nominal)), |b| u64::from(nominal) + percent(b));
        Bounds { nominal, least: nominal - lendable, most: u32::try_from(most).unwrap_or(u32::MAX) }
    };
    shares.iter().map(part).collect()
}

/// The seats of each level now, given how many each could use.
///
/// Without need each has its own. What is lent is never more than is needed, and each borrower gets of it in proportion to
/// its own seats, so that of two that want all, neither gets all.
pub fn divide(levels: &[(Bounds, u32)]) -> Vec<u32> {
    let spare = |(bounds, demand): &(Bounds, u32)| bounds.nominal - bounds.least.max((*demand).min(bounds.nominal));
    let want = |(bounds, demand): &(Bounds, u32)| (*demand).min(bounds.most).saturating_sub(bounds.nominal);
    let offered: u64 = levels.iter().map(|l| u64::from(spare(l))).sum();
    let needed: u64 = levels.iter().map(|l| u64::from(want(l))).sum();
    let lent = offered.min(needed);
    if lent == 0 {
        return levels.iter().map(|(bounds, _)| bounds.nominal).collect();
    }
    let borrowed = pour(lent, &levels.iter().map(|l| (want(l), l.0.nominal)).collect::<Vec<_>>());
    let given = pour(lent, &levels.iter().map(|l| (spare(l), spare(l))).collect::<Vec<_>>());
    let parts = levels.iter().zip(borrowed).zip(given);
    parts.map(|(((bounds, _), borrowed), given)| bounds.nominal + borrowed - given).collect()
}

/// Pours `amount` into glasses (size, width) that fill in proportion to their width, none over its size.
/// All of it goes in, for callers never pour more than the sizes hold.
fn pour(amount: u64, glasses: &[(u32, u32)]) -> Vec<u32> {
    let mut filled = vec![0_u32; glasses.len()];
    let mut left = amount;
    while left > 0 {
        let open: Vec<usize> = (0..glasses.len()).filter(|i| filled[*i] < glasses[*i].0).collect();
        let width: u64 = open.iter().map(|i| u64::from(glasses[*i].1.max(1))).sum();
        if width == 0 {
            break;
        }
        let round = left;
        for i in open {
            // At least one, so that each round comes nearer to the end.
            let part = (round * u64::from(glasses[i].1.max(1)) / width).max(1).min(left);
            let part = u32::try_from(part).unwrap_or(u32::MAX).min(glasses[i].0 - filled[i]);
            filled[i] += part;
            left -= u64::from(part);
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_seats() {
        let share = |shares, lendable_percent, borrowing_percent| Share { shares, lendable_percent, borrowing_percent };
        // The levels that Kubernetes starts with, and what 600 seats make of them.
        let defaults = [
            share(0, 0, None),
            share(5, 0, None),
            share(30, 33, None),
            share(40, 25, None),
            share(10, 0, None),
            share(40, 50, None),
            share(100, 90, None),
            share(20, 50, None),
        ];
        let seats: Vec<_> = bounds(600, &defaults).iter().map(|b| (b.nominal, b.least, b.most)).collect();
        let expected = [
            (0, 0, 600),
            (13, 13, 600),
            (74, 50, 600),
            (98, 73, 600),
            (25, 25, 600),
            (98, 49, 600),
            (245, 24, 600),
            (49, 24, 600),
        ];
        assert_eq!(seats, expected);
        assert_eq!(bounds(10, &[share(1, 0, Some(50)), share(1, 100, Some(0))])[0].most, 8);
        assert_eq!(bounds(10, &[share(0, 0, None)]), [Bounds { nominal: 0, least: 0, most: 10 }]);
    }

    #[test]
    fn seats_are_lent_only_where_they_are_needed() {
        let level = |nominal, least, most| Bounds { nominal, least, most };
        let (a, b, c) = (level(10, 5, 30), level(10, 10, 12), level(20, 2, 40));
        for (demand, expected) in [
            ([0, 0, 0], [10, 10, 20]),
            ([10, 10, 20], [10, 10, 20]),
            // a wants four more: c lends them.
            ([14, 0, 0], [14, 10, 16]),
            // All that may be lent, and no more.
            ([99, 0, 0], [28, 10, 2]),
            ([99, 0, 15], [15, 10, 15]),
            // b may have two more at most, the rest is a's.
            ([99, 99, 0], [26, 12, 2]),
            ([99, 99, 99], [10, 10, 20]),
        ] {
            let levels: Vec<_> = [a, b, c].into_iter().zip(demand).collect();
            let got = divide(&levels);
            assert_eq!(got, expected, "{demand:?}");
            assert!(got.iter().sum::<u32>() <= 40);
        }
    }
}
