//! Which thresholds are crossed, since when, and whether pods have to end for it. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::settings::{Eviction, Signal, Threshold};
use super::signals::{Reading, Readings};
use crate::node::object::Pressure;

/// What is remembered between two looks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// Since when each threshold, by its place in the settings, is crossed.
    crossed: Vec<(usize, Timestamp)>,
    /// When each pressure was last seen: memory, disk, process ids.
    seen: [Option<Timestamp>; 3],
}

/// What a look came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What the node shows.
    pub pressure: Pressure,
    /// Something must be freed: the most urgent threshold, with what is left.
    pub act: Option<(Threshold, Reading)>,
}

/// Looks at what is left.
pub fn look(memory: &mut Memory, settings: &Eviction, readings: &Readings, now: Timestamp) -> Verdict {
    let mut crossed = Vec::new();
    for (place, threshold) in settings.thresholds.iter().enumerate() {
        let since = memory.crossed.iter().find(|(p, _)| *p == place).map(|(_, at)| *at);
        let Some(reading) = readings.get(&threshold.signal) else { continue };
        // Once crossed, more must be freed than would do to stay clear of it.
        let more = if since.is_some() { threshold.min_reclaim.of(reading.capacity) } else { 0 };
        if reading.available < threshold.amount.of(reading.capacity).saturating_add(more) {
            // A clock that was set back must not make it wait again.
            crossed.push((place, since.map_or(now, |at| at.min(now))));
        }
    }
    memory.crossed = crossed;
    let mut act: Vec<(Threshold, Reading)> = Vec::new();
    for (place, since) in &memory.crossed {
        let threshold = &settings.thresholds[*place];
        memory.seen[kind(threshold.signal)] = Some(now);
        let waited = Duration::try_from(now.duration_since(*since)).unwrap_or_default();
        if threshold.grace.is_none_or(|grace| waited >= grace) {
            act.push((threshold.clone(), readings[&threshold.signal]));
        }
    }
    // The most urgent signal, and hard before soft: a soft one gives time that there is not.
    act.sort_by_key(|(t, _)| (t.signal, t.grace.is_some()));
    let shown = |seen: Option<Timestamp>| {
        let age = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
        seen.is_some_and(|at| at == now || age(at) < settings.transition)
    };
    let [memory_seen, disk, pid] = memory.seen;
    let pressure = Pressure { memory: shown(memory_seen), disk: shown(disk), pid: shown(pid) };
    Verdict { pressure, act: act.into_iter().next() }
}

fn kind(signal: Signal) -> usize {
    match signal {
        Signal::MemoryAvailable => 0,
        Signal::PidAvailable => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eviction::settings::Amount;

    #[test]
    fn thresholds_over_time() {
        let units = |n| Amount { units: Some(n), percent: None };
        let threshold = |signal, amount, grace: Option<u64>| Threshold {
            signal,
            amount: units(amount),
            grace: grace.map(Duration::from_secs),
            min_reclaim: if signal == Signal::NodefsAvailable { units(20) } else { Amount::default() },
        };
        let settings = Eviction {
            thresholds: vec![
                threshold(Signal::NodefsAvailable, 10, None),
                threshold(Signal::MemoryAvailable, 100, Some(30)),
                threshold(Signal::MemoryAvailable, 10, None),
            ],
            transition: Duration::from_secs(60),
            max_grace_seconds: 0,
        };
        let mut state = Memory::default();
        // Second, memory left, disk left; pressures shown, and what is acted on.
        for (second, memory, disk, shown, acted) in [
            (0, 500, 500, "", ""),
            (10, 50, 500, "memory", ""), // soft: not yet
            (39, 50, 500, "memory", ""),
            (40, 50, 500, "memory", "memory.available"), // its grace is over
            (41, 500, 500, "memory", ""),                // better, but the condition stays a while
            (50, 500, 5, "memory disk", "nodefs.available"),
            (51, 500, 29, "memory disk", "nodefs.available"), // at least 20 more than the threshold
            (52, 500, 30, "memory disk", ""),
            (60, 5, 5, "memory disk", "memory.available"), // memory first
            (100, 500, 500, "memory disk", ""),
            (120, 500, 500, "", ""),
            (130, 50, 500, "memory", ""), // begins anew
        ] {
            let readings = [(Signal::MemoryAvailable, memory), (Signal::NodefsAvailable, disk)]
                .map(|(s, available)| (s, Reading { available, capacity: 1000 }))
                .into();
            let got = look(&mut state, &settings, &readings, Timestamp::from_second(second).unwrap());
            let named = [(got.pressure.memory, "memory"), (got.pressure.disk, "disk"), (got.pressure.pid, "pid")];
            let named: Vec<&str> = named.into_iter().filter(|(on, _)| *on).map(|(_, n)| n).collect();
            let act = got.act.map(|(t, _)| t.signal.name()).unwrap_or_default();
            assert_eq!((named.join(" ").as_str(), act), (shown, acted), "at {second}");
        }
    }
}
