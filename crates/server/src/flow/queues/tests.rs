//! Cases, and a simulation of users who share a level.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const SHAPE: Shape = Shape { queues: 4, hand: 2, length: 3 };

fn any(_: u32) -> bool {
    true
}

#[test]
fn a_full_hand_refuses_and_cancelled_requests_make_room() {
    let mut queues = Queues::new(SHAPE);
    let tickets: Vec<_> = (0..6).map(|_| queues.push(11, 1).unwrap().0).collect();
    assert_eq!(queues.push(11, 1), None, "two queues of three are full");
    assert!(queues.cancel(tickets[3]) && !queues.cancel(tickets[3]));
    assert!(queues.push(11, 1).is_some());
    assert_eq!(queues.waiting(), 6);
}

#[test]
fn a_wide_request_is_not_passed_by() {
    let mut queues = Queues::new(Shape { hand: 1, ..SHAPE });
    let (wide, _) = queues.push(1, 5).unwrap();
    assert_eq!(queues.next(|width| width <= 2), None);
    let (narrow, _) = queues.push(1, 1).unwrap();
    assert_eq!(queues.next(|width| width <= 2), None, "the narrow one came later");
    assert_eq!(queues.next(any).map(|n| n.ticket), Some(wide));
    assert_eq!(queues.next(any).map(|n| n.ticket), Some(narrow));
}

#[test]
fn what_waits_survives_other_queues() {
    let mut queues = Queues::new(SHAPE);
    let mut tickets: Vec<_> = (0..4).map(|flow| queues.push(flow * 97, 1).unwrap().0).collect();
    let running = queues.next(any).unwrap();
    queues.reshape(Shape { queues: 1, hand: 1, length: 9 });
    let mut rest: Vec<_> = std::iter::from_fn(|| queues.next(any)).map(|n| n.ticket).collect();
    queues.done(running, Duration::from_millis(3));
    rest.push(running.ticket);
    rest.sort_unstable();
    tickets.sort_unstable();
    assert_eq!((rest, queues.waiting()), (tickets, 0));
}

/// A user of the simulated level.
struct User {
    /// Requests kept outstanding.
    at_once: usize,
    width: u32,
    millis: std::ops::Range<u64>,
}

/// What a user got.
#[derive(Debug, Default, Clone)]
struct Got {
    done: usize,
    refused: usize,
    waited: Vec<Duration>,
    seat_seconds: f64,
}

/// Runs a level of `seats` for `long`; every user at once sends another request when one of his is done or refused
/// (a refused one after 10 ms). Checks all the while that no seat is idle while a request waits that would fit.
fn simulate(seed: u64, shape: Shape, seats: u32, users: &[User], long: Duration) -> Vec<Got> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut queues = Queues::new(shape);
    let mut got = vec![Got::default(); users.len()];
    // Time → what happens: a user sends, or a request ends.
    let mut future: BTreeMap<(Duration, u64), Happens> = BTreeMap::new();
    let mut waiting: BTreeMap<u64, (usize, Duration)> = BTreeMap::new();
    let (mut used, mut number) = (0_u32, 0_u64);
    let mut later = |future: &mut BTreeMap<(Duration, u64), Happens>, at, what| {
        number += 1;
        future.insert((at, number), what);
    };
    for (user, is) in users.iter().enumerate() {
        for _ in 0..is.at_once {
            later(&mut future, Duration::from_micros(random.random_range(0..1000)), Happens::Sends(user));
        }
    }
    while let Some(((now, _), what)) = future.pop_first() {
        if now > long {
            break;
        }
        match what {
            Happens::Sends(user) => match queues.push(hand::hash(["s", &user.to_string()]), users[user].width) {
                Some((ticket, _)) => {
                    waiting.insert(ticket, (user, now));
                }
                None => {
                    got[user].refused += 1;
                    later(&mut future, now + Duration::from_millis(10), Happens::Sends(user));
                }
            },
            Happens::Ends(next, user, began) => {
                used -= next.width;
                queues.done(next, now - began);
                got[user].done += 1;
                got[user].seat_seconds += f64::from(next.width) * (now - began).as_secs_f64();
                later(&mut future, now, Happens::Sends(user));
            }
        }
        let mut refused = None;
        while let Some(next) = queues.next(|width| {
            let fits = used + width <= seats;
            refused = (!fits).then_some(width);
            fits
        }) {
            used += next.width;
            let (user, since) = waiting.remove(&next.ticket).unwrap();
            got[user].waited.push(now - since);
            let takes = Duration::from_millis(random.random_range(users[user].millis.clone()));
            later(&mut future, now + takes, Happens::Ends(next, user, now));
        }
        assert!(queues.waiting() == 0 || refused.is_some_and(|width| used + width > seats), "an idle seat");
        assert!(used <= seats);
    }
    got
}

#[derive(Debug, Clone, Copy)]
enum Happens {
    Sends(usize),
    Ends(Next, usize, Duration),
}

fn share(got: &[Got], user: usize) -> f64 {
    got[user].seat_seconds / got.iter().map(|g| g.seat_seconds).sum::<f64>()
}

const DEFAULT: Shape = Shape { queues: 128, hand: 6, length: 50 };

#[test]
fn a_flood_does_not_starve_another() {
    for seed in 0..4 {
        let flood = User { at_once: 400, width: 1, millis: 2..8 };
        let quiet = || User { at_once: 1, width: 1, millis: 2..8 };
        let got = simulate(seed, DEFAULT, 10, &[flood, quiet(), quiet()], Duration::from_secs(1));
        assert!(got[0].refused > 0, "seed {seed}: the flood's hand is 300 places");
        for user in [1, 2] {
            assert_eq!(got[user].refused, 0, "seed {seed}");
            let longest = got[user].waited.iter().max().unwrap();
            // The next seat that gets free is theirs; ten seats of at most 8 ms free one long before 20.
            assert!(*longest < Duration::from_millis(20), "seed {seed}: {longest:?}");
        }
        // In one queue for all they would have had one place in 300, and waited some 150 ms each time.
        assert!(got[1].done > 80, "seed {seed}: {}", got[1].done);
    }
}

#[test]
fn users_who_want_all_get_the_same_work_done() {
    for seed in 0..3 {
        let got = simulate(
            seed,
            DEFAULT,
            20,
            &[
                User { at_once: 100, width: 1, millis: 1..3 },
                // Long ones count for what they really take, wide ones for all their seats.
                User { at_once: 100, width: 1, millis: 20..40 },
                User { at_once: 100, width: 5, millis: 2..6 },
            ],
            Duration::from_secs(3),
        );
        for user in 0..3 {
            let share = share(&got, user);
            assert!((0.2..0.5).contains(&share), "seed {seed}: user {user} has {share:.2} of the work");
        }
    }
}
