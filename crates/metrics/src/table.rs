//! Series that are made when they are first needed, and found again without a lock.

use std::sync::OnceLock;

/// Series by key. Nothing is ever removed; when there is no place left for a new key, one series stands for all the rest,
/// so that names from outside cannot fill the memory.
#[derive(Debug)]
pub struct Table<K, V> {
    slots: Box<[Slot<K, V>]>,
    rest: V,
}

/// A place that is filled at most once.
type Slot<K, V> = OnceLock<Box<Series<K, V>>>;

#[derive(Debug)]
struct Series<K, V> {
    hash: u64,
    key: K,
    value: V,
}

/// Places looked at for one key.
const PROBES: usize = 16;

impl<K, V> Table<K, V> {
    /// A table with room for about `size` series.
    pub fn new(size: usize, rest: V) -> Self {
        Self { slots: (0..size.next_power_of_two().max(PROBES)).map(|_| OnceLock::new()).collect(), rest }
    }

    /// The series whose key is the `same`; `make` makes it the first time.
    pub fn find(&self, hash: u64, same: impl Fn(&K) -> bool, make: impl FnOnce() -> (K, V)) -> &V {
        let mut make = Some(make);
        for probe in 0..PROBES {
            let slot = &self.slots[(hash as usize).wrapping_add(probe) & (self.slots.len() - 1)];
            let series = match slot.get() {
                Some(series) => series,
                None => slot.get_or_init(|| {
                    // The place is filled at most once, and the loop ends with the place it filled.
                    let Some(make) = make.take() else { unreachable!("made twice") };
                    let (key, value) = make();
                    Box::new(Series { hash, key, value })
                }),
            };
            if series.hash == hash && same(&series.key) {
                return &series.value;
            }
        }
        &self.rest
    }

    /// The series whose key is the `same`, if there is one.
    pub fn get(&self, hash: u64, same: impl Fn(&K) -> bool) -> Option<&V> {
        let places = (0..PROBES).map(|probe| (hash as usize).wrapping_add(probe) & (self.slots.len() - 1));
        // Places are filled in order, so an empty one ends the search.
        let filled = places.map_while(|place| self.slots[place].get());
        filled.into_iter().find(|series| series.hash == hash && same(&series.key)).map(|series| &series.value)
    }

    /// All series there are, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.slots.iter().filter_map(OnceLock::get).map(|series| (&series.key, &series.value))
    }

    /// What stands for all keys that found no place.
    pub fn rest(&self) -> &V {
        &self.rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Count;

    #[test]
    fn keys_keep_their_series_and_the_rest_share_one() {
        let table: Table<u64, Count> = Table::new(16, Count::default());
        for round in 1..=3 {
            for key in 0..40_u64 {
                // All fall on the same place, so that sixteen find room.
                table.find(7, |k| *k == key, || (key, Count::default())).one();
            }
            assert!(table.iter().all(|(_, count)| count.get() == round));
        }
        assert_eq!(table.get(7, |k| *k == 3).map(Count::get), Some(3));
        assert!(table.get(7, |k| *k == 30).is_none() && table.get(8, |k| *k == 3).is_none());
        assert_eq!(table.iter().count(), 16);
        assert_eq!(table.rest().get(), 3 * 24);
    }
}
