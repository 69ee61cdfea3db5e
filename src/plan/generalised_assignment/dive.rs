//! Relax and fix: the request prices say which requests each option would serve whatever the last prices were; those are
//! settled, and the prices are improved for the rest of the requests and of the capacities, until nothing is left. What
//! finds no room is placed where it is cheapest, for the neighbourhoods to sort out.

use std::time::Instant;

use rand::Rng;

use super::Guide;
use super::local_search::State;
use super::request_prices::RequestPrices;
use crate::domain::{OptionClass, OptionTable};

/// Share of the requests left that is settled at a time, ...
const SETTLED: f64 = 0.05;
/// ... and up to how many times more where the share of a choice is above `CERTAIN`.
const MORE: u64 = 4;
const CERTAIN: f64 = 0.97;
/// Steps of the prices between.
const STEPS: usize = 20;
/// Share of its bound above it that the steps aim at.
const AIM: f64 = 0.005;
/// By how much of itself a share is raised at random, so that no two dives are the same.
const NOISE: f64 = 0.05;

/// An assignment, perhaps with overload, along request prices that have taken some steps.
pub fn dive<'a>(guide: &Guide<'a, '_>, start: &RequestPrices<'_>, until: Instant, random: &mut impl Rng) -> State<'a> {
    let table = guide.table;
    let mut counts: Vec<Vec<u64>> = table.classes.iter().map(|class| vec![0; class.choices.len()]).collect();
    let mut prices = start.prices().to_vec();
    let mut shares = start.shares().to_vec();
    while Instant::now() < until && settle(table, &shares, &mut counts, random) {
        let (rest, origin) = rest(table, &counts);
        if rest.classes.is_empty() {
            break;
        }
        let mut of_rest = RequestPrices::new(&rest, origin.iter().map(|(class, _)| prices[*class]).collect());
        of_rest.ascend(AIM, STEPS, until);
        shares.iter_mut().flatten().for_each(|share| *share = 0.0);
        for (((class, kept), price), of_class) in origin.iter().zip(of_rest.prices()).zip(of_rest.shares()) {
            prices[*class] = *price;
            kept.iter().zip(of_class).for_each(|(at, share)| shares[*class][*at] = *share);
        }
    }
    let floats = |counts: &Vec<u64>| counts.iter().map(|count| *count as f64).collect();
    State::rounded(table, &counts.iter().map(floats).collect::<Vec<_>>(), guide.prices)
}

/// Settles the largest shares as far as there is room; whether any.
fn settle(table: &OptionTable, shares: &[Vec<f64>], counts: &mut [Vec<u64>], random: &mut impl Rng) -> bool {
    let mut left: Vec<u64> = table.classes.iter().zip(&*counts).map(|(class, counts)| missing(class, counts)).collect();
    let mut room = room(table, counts);
    let mut order: Vec<(f64, usize, usize)> = Vec::new();
    for (class, shares) in shares.iter().enumerate() {
        let positive = shares.iter().enumerate().filter(|(_, share)| **share > 0.0);
        order.extend(positive.map(|(at, share)| (share * (1.0 + NOISE * random.random::<f64>()), class, at)));
    }
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let most = (SETTLED * left.iter().sum::<u64>() as f64).ceil() as u64;
    let mut settled = 0;
    for (_, class, at) in order {
        let certain = shares[class][at] > CERTAIN && settled < MORE * most;
        if settled >= most && !certain {
            break;
        }
        let choice = table.classes[class].choices[at];
        let fit = if choice.seconds > 0.0 { (room[choice.option] / choice.seconds).max(0.0) as u64 } else { u64::MAX };
        let many = (shares[class][at].floor() as u64).max(1).min(left[class]).min(fit);
        counts[class][at] += many;
        left[class] -= many;
        room[choice.option] -= many as f64 * choice.seconds;
        settled += many;
    }
    settled > 0
}

fn missing(class: &OptionClass, counts: &[u64]) -> u64 {
    class.requests - counts.iter().sum::<u64>()
}

/// Seconds left of each option.
fn room(table: &OptionTable, counts: &[Vec<u64>]) -> Vec<f64> {
    let mut room: Vec<f64> = table.options.iter().map(|option| option.capacity.unwrap_or(f64::INFINITY)).collect();
    for (class, counts) in table.classes.iter().zip(counts) {
        for (choice, count) in class.choices.iter().zip(counts) {
            room[choice.option] -= *count as f64 * choice.seconds;
        }
    }
    room
}

/// What is left of requests and capacities; and for each of its classes, class and choices of the whole table.
fn rest(table: &OptionTable, counts: &[Vec<u64>]) -> (OptionTable, Vec<(usize, Vec<usize>)>) {
    let room = room(table, counts);
    let (mut rest, mut origin) = (OptionTable { options: table.options.clone(), classes: Vec::new() }, Vec::new());
    for (option, room) in rest.options.iter_mut().zip(&room) {
        option.capacity = option.capacity.map(|_| room.max(0.0));
    }
    for (index, (class, counts)) in table.classes.iter().zip(counts).enumerate() {
        let requests = missing(class, counts);
        let fits = |at: &usize| class.choices[*at].seconds <= room[class.choices[*at].option];
        let kept: Vec<usize> = (0..class.choices.len()).filter(fits).collect();
        if requests > 0 && !kept.is_empty() {
            let choices = kept.iter().map(|at| class.choices[*at]).collect();
            rest.classes.push(OptionClass { name: String::new(), requests, choices });
            origin.push((index, kept));
        }
    }
    (rest, origin)
}
