//! Requests onto the instances of one deployment in rounds: as many of almost one length as an instance has slots.
//!
//! Each slot takes one request of every round, so that an instance is busy for the sum of its rounds, and all its slots end
//! together. Where time is scarce, which rounds go together is bin packing: with some ten to an instance hardly a second
//! need be lost, where requests dealt one by one leave half of one unused in every slot.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use ordered_float::OrderedFloat;

/// Rounds of an instance that are chosen to fill what the others leave.
const FITTED: usize = 2;
/// Seconds of an instance that may stay unused.
const WELL: f64 = 1.0;

/// The instance of each round, that with most room; `None` where none has enough. `seconds` of each round, longest first;
/// `room`: seconds of each instance, from which those of its rounds are taken.
pub(super) fn level(seconds: &[f64], room: &mut [f64]) -> Vec<Option<usize>> {
    let mut roomiest: BinaryHeap<(OrderedFloat<f64>, Reverse<usize>)> =
        room.iter().enumerate().map(|(j, &room)| (OrderedFloat(room), Reverse(j))).collect();
    let place = |&seconds: &f64| {
        let mut top = roomiest.peek_mut().filter(|top| top.0.0 >= seconds)?;
        top.0.0 -= seconds;
        let j = top.1.0;
        room[j] -= seconds;
        Some(j)
    };
    seconds.iter().map(place).collect()
}

/// As `level`, but one instance after another as full as can be; then longer rounds that are left change places with shorter
/// ones.
pub(super) fn fill(seconds: &[f64], room: &mut [f64]) -> Vec<Option<usize>> {
    let mut places = vec![None; seconds.len()];
    let mut left: Vec<usize> = (0..seconds.len()).collect();
    let mut dealt: Vec<Vec<usize>> = Vec::with_capacity(room.len());
    for room in room.iter_mut() {
        let taken = taken(&mut left, seconds, *room);
        *room -= taken.iter().map(|&round| seconds[round]).sum::<f64>();
        dealt.push(taken);
    }
    for (own, room) in dealt.iter_mut().zip(room) {
        while let Some((place, out)) = best_exchange(&left, own, seconds, *room) {
            *room -= seconds[left[place]] - seconds[own[out]];
            let round = std::mem::replace(&mut own[out], left.remove(place));
            left.insert(left.partition_point(|&other| other < round), round);
        }
    }
    for (j, own) in dealt.iter().enumerate() {
        own.iter().for_each(|&round| places[round] = Some(j));
    }
    places
}

/// The instance of each request, each to the slot that is free for longest; `None` where none is for long enough. `seconds`
/// of each request, longest first; `loads`: seconds taken of each instance's slots; `open`: seconds there are of each.
pub(super) fn one_by_one(seconds: &[f64], loads: &mut [Vec<f64>], open: &[f64]) -> Vec<Option<usize>> {
    let slots = loads.iter().zip(open).enumerate().flat_map(|(j, (loads, open))| {
        loads.iter().enumerate().map(move |(slot, load)| (OrderedFloat(open - load), Reverse((j, slot))))
    });
    let mut free: BinaryHeap<_> = slots.collect();
    let place = |&seconds: &f64| {
        let mut top = free.peek_mut().filter(|top| top.0.0 >= seconds)?;
        top.0.0 -= seconds;
        let Reverse((j, slot)) = top.1;
        loads[j][slot] += seconds;
        Some(j)
    };
    seconds.iter().map(place).collect()
}

/// Places, in `left` and in `own`, of the two rounds that fill `room` best if they change places; `None` if none gains
/// much.
fn best_exchange(left: &[usize], own: &[usize], seconds: &[f64], room: f64) -> Option<(usize, usize)> {
    let mut best = None;
    let mut most = WELL;
    for (out, &round) in own.iter().enumerate() {
        let longest = seconds[round] + room;
        let place = left.partition_point(|&other| seconds[other] > longest);
        let gain = left.get(place).map_or(0.0, |&other| seconds[other] - seconds[round]);
        if gain > most {
            (best, most) = (Some((place, out)), gain);
        }
    }
    best
}

/// Takes the rounds that fill `room` seconds: the longest and others of all lengths, but for the last, which are those that
/// fit best.
fn taken(left: &mut Vec<usize>, seconds: &[f64], room: f64) -> Vec<usize> {
    let mut taken = Vec::new();
    let mut rest = room;
    let total: f64 = left.iter().map(|&round| seconds[round]).sum();
    let wanted = (room * left.len() as f64 / total.max(f64::MIN_POSITIVE)).round() as usize;
    let alike = wanted.min(left.len()).saturating_sub(FITTED);
    for pick in (0..alike).rev() {
        let rank = pick * left.len() / alike;
        if seconds[left[rank]] <= rest {
            let round = left.remove(rank);
            rest -= seconds[round];
            taken.push(round);
        }
    }
    while let Some(fitting) = best_fit(left, seconds, rest) {
        // The later place first, so that the earlier one stays where it is.
        for place in fitting.into_iter().flatten() {
            let round = left.remove(place);
            rest -= seconds[round];
            taken.push(round);
        }
    }
    taken
}

/// Places of the one or two rounds that fill `rest` best, the later first.
fn best_fit(left: &[usize], seconds: &[f64], rest: f64) -> Option<[Option<usize>; 2]> {
    let of = |place: usize| seconds[left[place]];
    let one = left.partition_point(|&round| seconds[round] > rest);
    let mut best = (one < left.len()).then(|| (of(one), [None, Some(one)]))?;
    let (mut longer, mut shorter) = (0, left.len() - 1);
    while longer < shorter {
        let sum = of(longer) + of(shorter);
        if sum > rest {
            longer += 1;
            continue;
        }
        if sum > best.0 {
            best = (sum, [Some(shorter), Some(longer)]);
        }
        // Of those that fit well, the one with the longest round: short ones fit later too.
        if rest - sum < WELL {
            break;
        }
        shorter -= 1;
    }
    Some(best.1)
}

/// Slots that rounds of one instance leave empty, by how long.
#[derive(Clone, Debug, Default)]
pub(super) struct EmptySlots(BTreeMap<OrderedFloat<f64>, usize>);

impl EmptySlots {
    pub fn add(&mut self, seconds: f64, slots: usize) {
        if slots > 0 {
            *self.0.entry(OrderedFloat(seconds)).or_insert(0) += slots;
        }
    }

    /// The slot that a request of so many seconds goes to: the shortest that holds it, or else the longest.
    fn slot(&self, seconds: f64) -> Option<f64> {
        let holding = self.0.range(OrderedFloat(seconds)..).next();
        holding.or_else(|| self.0.last_key_value()).map(|(length, _)| length.0)
    }

    /// Seconds by which such a request makes the rounds longer: its own if a new one begins with it.
    pub fn lengthened(&self, seconds: f64) -> f64 {
        (seconds - self.slot(seconds).unwrap_or(0.0)).max(0.0)
    }

    /// Puts such a request there; a round has `slots`. Returns by how much the rounds are longer.
    pub fn fill(&mut self, seconds: f64, slots: usize) -> f64 {
        let longer = self.lengthened(seconds);
        match self.slot(seconds) {
            None => self.add(seconds, slots.saturating_sub(1)),
            Some(length) => {
                // The whole round is longer then.
                let empty = self.0.remove(&OrderedFloat(length)).unwrap_or(1);
                self.add(length.max(seconds), empty - 1);
            }
        }
        longer
    }
}

#[cfg(test)]
mod tests {
    use rand::prelude::*;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn random(rng: &mut ChaCha8Rng, instances: usize, share: f64) -> (Vec<f64>, Vec<f64>) {
        let room: Vec<f64> = (0..instances).map(|_| rng.random_range(900.0..1200.0)).collect();
        let supply: f64 = room.iter().sum();
        let mut seconds = Vec::new();
        let mut demand = 0.0;
        while demand < share * supply {
            seconds.push(rng.random_range(50.0..150.0));
            demand += seconds[seconds.len() - 1];
        }
        seconds.sort_by(|a, b| f64::total_cmp(b, a));
        (seconds, room)
    }

    fn used(seconds: &[f64], places: &[Option<usize>], instances: usize) -> Vec<f64> {
        let mut used = vec![0.0; instances];
        places.iter().zip(seconds).filter_map(|(place, s)| Some(((*place)?, s))).for_each(|(j, s)| used[j] += s);
        used
    }

    #[test]
    fn scarce_time_is_used_to_a_few_thousandths() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for case in 0..20 {
            let (seconds, room) = random(&mut rng, 40, 1.0);
            let mut rest = room.clone();
            let places = fill(&seconds, &mut rest);
            let used = used(&seconds, &places, room.len());
            for (j, (used, room)) in used.iter().zip(&room).enumerate() {
                assert!(*used <= room + 1e-6, "case {case}: {used} of {room} on {j}");
                assert!((room - used - rest[j]).abs() < 1e-6, "case {case}");
            }
            let lost: f64 = rest.iter().sum::<f64>() / room.iter().sum::<f64>();
            assert!(lost < 5e-3, "case {case}: {lost}");
        }
    }

    #[test]
    fn plenty_of_time_is_shared_evenly() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let (seconds, mut room) = random(&mut rng, 10, 0.5);
        assert!(level(&seconds, &mut room).iter().all(Option::is_some));
        let (least, most) = room.iter().fold((f64::INFINITY, 0.0f64), |(low, high), &r| (low.min(r), high.max(r)));
        assert!(most - least < 200.0, "{least} to {most}");
    }

    #[test]
    fn what_fits_nowhere_is_left() {
        for deal in [level, fill] {
            assert_eq!(deal(&[20.0, 5.0], &mut []), [None, None]);
            assert_eq!(deal(&[], &mut [10.0]), []);
            assert_eq!(deal(&[1.0], &mut [-3.0]), [None]);
        }
        assert_eq!(fill(&[20.0, 5.0], &mut [10.0]), [None, Some(0)]);
    }
    #[test]
    fn one_by_one_fills_slots_from_where_they_are() {
        let mut loads = vec![vec![0.0, 6.0], vec![3.0, 3.0]];
        let places = one_by_one(&[7.0, 5.0, 5.0, 4.0, 1.0], &mut loads, &[10.0, 8.0]);
        assert_eq!(places, [Some(0), Some(1), Some(1), Some(0), Some(0)]);
        assert_eq!(loads, [vec![8.0, 10.0], vec![8.0, 8.0]]);
        assert_eq!(one_by_one(&[3.0], &mut loads, &[10.0, 8.0]), [None]);
    }

    #[test]
    fn a_round_is_as_long_as_its_longest_request() {
        let mut empty = EmptySlots::default();
        assert_eq!(empty.fill(5.0, 3), 5.0);
        assert_eq!((empty.lengthened(4.0), empty.lengthened(7.0)), (0.0, 2.0));
        assert_eq!((empty.fill(7.0, 3), empty.fill(6.0, 3)), (2.0, 0.0));
        // The round is full.
        assert_eq!(empty.lengthened(1.0), 1.0);
        empty.add(2.0, 1);
        assert_eq!((empty.fill(1.0, 3), empty.fill(1.0, 3)), (0.0, 1.0));
    }
}
