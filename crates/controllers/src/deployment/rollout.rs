//! How many pods each ReplicaSet may have next: numbers in, numbers out (api-facts §9.2).

use k8s_openapi::api::apps::v1::DeploymentSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mizzen_api::int_or_string::{Round, scaled};

/// What the spec allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Pods wanted.
    pub replicas: i32,
    /// Pods allowed beyond.
    pub surge: i32,
    /// Pods allowed to be missing.
    pub unavailable: i32,
}

/// The size of one set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Pods asked of it.
    pub replicas: i32,
    /// Of its pods, those available.
    pub available: i32,
    /// Pods it has.
    pub pods: i32,
    /// Most pods of all sets when it was last sized.
    pub max: Option<i32>,
}

impl Limits {
    /// Surge rounds up, unavailability down; if both come to nothing, one pod may be missing, or nothing would ever move.
    pub fn of(spec: &DeploymentSpec) -> Self {
        let replicas = spec.replicas.unwrap_or(1);
        let strategy = spec.strategy.as_ref();
        if strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate") {
            return Self { replicas, surge: 0, unavailable: replicas };
        }
        let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".into());
        let share = |value: Option<&IntOrString>, round| {
            let share = scaled(value.unwrap_or(&quarter), i64::from(replicas), round).unwrap_or(0).max(0);
            i32::try_from(share).unwrap_or(i32::MAX - replicas)
        };
        let surge = share(rolling.and_then(|r| r.max_surge.as_ref()), Round::Up);
        let unavailable = share(rolling.and_then(|r| r.max_unavailable.as_ref()), Round::Down).min(replicas);
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        Self { replicas, surge, unavailable }
    }
}

/// The next size of the new set: as much as surge allows, never beyond what is wanted.
pub fn new_size(new: Option<Size>, old: &[Size], limits: &Limits) -> i32 {
    let have = new.map_or(0, |n| n.replicas);
    if have >= limits.replicas {
        return limits.replicas;
    }
    let total: i32 = have + old.iter().map(|s| s.replicas).sum::<i32>();
    let room = limits.replicas + limits.surge - total;
    if room <= 0 { have } else { have + room.min(limits.replicas - have) }
}

/// The next sizes of the old sets, in their order: unhealthy pods leave first, then as many as may be missing.
pub fn old_sizes(new: Size, old: &[Size], limits: &Limits) -> Vec<i32> {
    let mut sizes: Vec<i32> = old.iter().map(|s| s.replicas).collect();
    let total = new.replicas + sizes.iter().sum::<i32>();
    let min_available = limits.replicas - limits.unavailable;
    let new_unavailable = new.replicas - new.available;
    let mut may_leave = total - min_available - new_unavailable;
    if may_leave <= 0 {
        return sizes;
    }
    for (size, set) in sizes.iter_mut().zip(old) {
        let unhealthy = (set.replicas - set.available).clamp(0, may_leave);
        *size -= unhealthy;
        may_leave -= unhealthy;
    }
    let available = new.available + old.iter().map(|s| s.available).sum::<i32>();
    let mut may_leave = may_leave.min(available - min_available);
    for size in &mut sizes {
        let leaving = (*size).min(may_leave.max(0));
        *size -= leaving;
        may_leave -= leaving;
    }
    sizes
}

/// Sizes of all active sets after `spec.replicas` changed in the middle of a rollout: each keeps its share, the rest goes
/// to the first (the new one) or, when shrinking, is taken from the last.
pub fn proportional(sets: &[Size], limits: &Limits) -> Vec<i32> {
    let allowed = if limits.replicas > 0 { limits.replicas + limits.surge } else { 0 };
    let total: i32 = sets.iter().map(|s| s.replicas).sum();
    let to_add = allowed - total;
    let mut left = to_add;
    let mut sizes = Vec::with_capacity(sets.len());
    for set in sets {
        let share = if allowed == 0 { -set.replicas } else { share(set, allowed, total) };
        let share = if to_add > 0 { share.clamp(0, left.max(0)) } else { share.clamp(left.min(0), 0) };
        left -= share;
        sizes.push(set.replicas + share);
    }
    if let Some(largest) = (0..sizes.len()).max_by_key(|i| (sets[*i].replicas, std::cmp::Reverse(*i))) {
        sizes[largest] = (sizes[largest] + left).max(0);
    }
    sizes
}

fn share(set: &Size, allowed: i32, total: i32) -> i32 {
    let before = f64::from(set.max.filter(|m| *m > 0).unwrap_or(total.max(1)));
    let size = f64::from(set.replicas) * f64::from(allowed) / before;
    // Rounded and between the sizes of two i32 sets.
    size.round() as i32 - set.replicas
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(replicas: i32, available: i32) -> Size {
        Size { replicas, available, pods: replicas, max: None }
    }

    const TEN: Limits = Limits { replicas: 10, surge: 3, unavailable: 2 };

    #[test]
    fn never_more_than_surge_and_never_less_than_available() {
        for (case, new, old, new_next, old_next) in [
            ("start", size(0, 0), size(10, 10), 3, 10),
            ("surge is up, not ready: two may go", size(3, 0), size(10, 10), 3, 8),
            ("three ready", size(3, 3), size(8, 8), 5, 8),
            ("unhealthy old go first", size(3, 0), size(10, 5), 3, 8),
            ("all new ready", size(10, 10), size(2, 2), 10, 0),
        ] {
            assert_eq!(new_size(Some(new), &[old], &TEN), new_next, "{case}");
            if new_next == new.replicas {
                assert_eq!(old_sizes(new, &[old], &TEN), [old_next], "{case}");
            }
        }
        assert_eq!(new_size(Some(size(12, 12)), &[], &TEN), 10, "scaled down");
    }

    #[test]
    fn shares_are_kept() {
        let set = |replicas, max| Size { replicas, available: replicas, pods: replicas, max: Some(max) };
        let limits = Limits { replicas: 20, surge: 5, unavailable: 0 };
        let sizes = proportional(&[set(8, 13), set(5, 13)], &limits);
        assert_eq!(sizes.iter().sum::<i32>(), 25);
        assert!(sizes[0] > sizes[1]);
        let none = Limits { replicas: 0, surge: 0, unavailable: 0 };
        assert_eq!(proportional(&[set(8, 13), set(5, 13)], &none), [0, 0]);
    }
}
