//! Whole requests moved one at a time or exchanged two at a time, first until the capacities hold, then for fewer joules,
//! with random kicks out of local optima.

use std::time::Instant;

use rand::Rng;
use rand::seq::SliceRandom;

use crate::domain::OptionTable;

/// Requests exchanged pair by pair only up to so many (class, choice) in use.
const MOST_PAIRED: usize = 2_000;
/// Requests moved at random between two descents.
const KICK: usize = 4;
/// Rounding of sums of seconds that is no overload.
pub const SLACK: f64 = 1e-9;

#[derive(Clone)]
pub struct State<'a> {
    table: &'a OptionTable,
    counts: Vec<Vec<u64>>,
    /// Seconds on each option.
    load: Vec<f64>,
    energy: f64,
    /// Joules that rounding can feign.
    noise: f64,
}

/// One request of a class from one of its choices to another.
#[derive(Clone, Copy)]
struct Move {
    class: usize,
    from: usize,
    to: usize,
}

impl<'a> State<'a> {
    pub fn new(table: &'a OptionTable, counts: Vec<Vec<u64>>) -> Self {
        let dearest =
            table.classes.iter().flat_map(|class| &class.choices).map(|choice| choice.energy).fold(0.0, f64::max);
        let mut state = Self { table, counts, load: Vec::new(), energy: 0.0, noise: 1e-9 * dearest };
        state.recount();
        state
    }

    /// Every request where it is cheapest at these prices.
    pub fn cheapest(table: &'a OptionTable, prices: &[f64]) -> Self {
        let none = table.classes.iter().map(|class| vec![0; class.choices.len()]).collect();
        let mut state = Self::new(table, none);
        state.place_rest(prices);
        state
    }

    /// The whole requests of `shares`; those in parts where they are cheapest at these prices and fit.
    pub fn rounded(table: &'a OptionTable, shares: &[Vec<f64>], prices: &[f64]) -> Self {
        let whole = |share: &f64| (share + 1e-6).floor().max(0.0) as u64;
        let mut counts: Vec<Vec<u64>> = shares.iter().map(|class| class.iter().map(whole).collect()).collect();
        for (class, counts) in table.classes.iter().zip(&mut counts) {
            if counts.iter().sum::<u64>() > class.requests {
                counts.fill(0); // no solution of the programme, then
            }
        }
        let mut state = Self::new(table, counts);
        state.place_rest(prices);
        state
    }

    fn place_rest(&mut self, prices: &[f64]) {
        for (index, class) in self.table.classes.iter().enumerate() {
            let missing = class.requests - self.counts[index].iter().sum::<u64>();
            let mut order: Vec<usize> = (0..class.choices.len()).collect();
            let priced =
                |at: &usize| class.choices[*at].energy + prices[class.choices[*at].option] * class.choices[*at].seconds;
            order.sort_by(|a, b| priced(a).total_cmp(&priced(b)));
            let mut missing = missing;
            for &at in &order {
                let choice = &class.choices[at];
                let room =
                    self.table.options[choice.option].capacity.map_or(f64::INFINITY, |c| c - self.load[choice.option]);
                let fit = if choice.seconds > 0.0 { (room / choice.seconds).floor().max(0.0) } else { f64::INFINITY };
                let taken = if fit >= missing as f64 { missing } else { fit as u64 };
                self.add(index, at, taken);
                missing -= taken;
            }
            if let Some(&first) = order.first() {
                self.add(index, first, missing);
            }
        }
    }

    fn add(&mut self, class: usize, at: usize, requests: u64) {
        let choice = self.table.classes[class].choices[at];
        self.counts[class][at] += requests;
        self.load[choice.option] += requests as f64 * choice.seconds;
        self.energy += requests as f64 * choice.energy;
    }

    /// Sums afresh, so that rounding does not gather over many moves.
    fn recount(&mut self) {
        self.load = vec![0.0; self.table.options.len()];
        self.energy = 0.0;
        for (class, counts) in self.table.classes.iter().zip(&self.counts) {
            for (choice, &requests) in class.choices.iter().zip(counts) {
                self.load[choice.option] += requests as f64 * choice.seconds;
                self.energy += requests as f64 * choice.energy;
            }
        }
    }

    pub fn energy(&self) -> f64 {
        self.energy
    }

    /// The joules, infinite where a capacity is exceeded.
    pub fn feasible_energy(&self) -> f64 {
        if self.is_feasible() { self.energy } else { f64::INFINITY }
    }

    pub fn is_feasible(&self) -> bool {
        (0..self.load.len()).all(|option| self.excess(option, 0.0) <= 0.0)
    }

    pub fn counts(&self) -> Vec<Vec<u64>> {
        self.counts.clone()
    }

    pub fn counts_of(&self, class: usize) -> &[u64] {
        &self.counts[class]
    }

    /// Seconds that an option may still work; 0 without a limit, which is worth nothing.
    pub fn slack(&self, option: usize) -> f64 {
        self.room(option).max(0.0)
    }

    /// Seconds of an option's capacity that are left, or missing where below 0; 0 without a limit.
    pub fn room(&self, option: usize) -> f64 {
        self.table.options[option].capacity.map_or(0.0, |capacity| capacity - self.load[option])
    }

    pub fn better_of(self, other: Self) -> Self {
        if (other.overload(), other.energy) < (self.overload(), self.energy) { other } else { self }
    }

    /// By how much of its capacity an option would be overloaded with `more` seconds.
    pub fn excess(&self, option: usize, more: f64) -> f64 {
        let Some(capacity) = self.table.options[option].capacity else { return 0.0 };
        let over = self.load[option] + more - capacity;
        let scale = if capacity > 0.0 { capacity } else { 1.0 };
        if over <= SLACK * scale { 0.0 } else { over / scale }
    }

    pub fn overload(&self) -> f64 {
        (0..self.load.len()).map(|option| self.excess(option, 0.0)).sum()
    }

    /// Descends, then kicks and descends `rounds` times, keeping the best; ends early at `target` joules.
    pub fn improve(mut self, rounds: usize, until: Instant, target: f64, random: &mut impl Rng) -> Self {
        self.descend(random);
        let mut best = self.clone();
        for _ in 0..rounds {
            if Instant::now() >= until || (best.is_feasible() && best.energy <= target) {
                break;
            }
            let mut next = best.clone();
            next.kick(random);
            next.descend(random);
            next.recount();
            best = best.better_of(next);
        }
        best
    }

    fn kick(&mut self, random: &mut impl Rng) {
        let used = self.used();
        for _ in 0..KICK {
            let (class, from) = used[random.random_range(0..used.len())];
            let to = random.random_range(0..self.counts[class].len());
            if self.counts[class][from] > 0 {
                self.apply(Move { class, from, to });
            }
        }
    }

    /// (class, choice) with requests.
    fn used(&self) -> Vec<(usize, usize)> {
        let of_class = |(class, counts): (usize, &Vec<u64>)| {
            let used: Vec<(usize, usize)> =
                counts.iter().enumerate().filter(|(_, requests)| **requests > 0).map(|(at, _)| (class, at)).collect();
            used
        };
        self.counts.iter().enumerate().flat_map(of_class).collect()
    }

    fn descend(&mut self, random: &mut impl Rng) {
        while self.shift(random) || self.exchange(random) {}
    }

    /// One pass of moves of single requests; whether any helped.
    fn shift(&mut self, random: &mut impl Rng) -> bool {
        let mut used = self.used();
        used.shuffle(random);
        let mut any = false;
        for (class, from) in used {
            let mut best: Option<(f64, f64, Move)> = None;
            for to in 0..self.counts[class].len() {
                let step = Move { class, from, to };
                let (overload, energy) = self.effect(&[step]);
                if self.helps(overload, energy) && best.is_none_or(|(o, e, _)| (overload, energy) < (o, e)) {
                    best = Some((overload, energy, step));
                }
            }
            if let Some((_, _, step)) = best.filter(|_| self.counts[class][from] > 0) {
                self.apply(step);
                any = true;
            }
        }
        any
    }

    /// One pass of exchanges of two requests between their options; whether any helped.
    fn exchange(&mut self, random: &mut impl Rng) -> bool {
        let mut used = self.used();
        if used.len() > MOST_PAIRED {
            return false;
        }
        used.shuffle(random);
        let mut any = false;
        for (index, &(class, from)) in used.iter().enumerate() {
            for &(other, other_from) in &used[..index] {
                if self.counts[class][from] == 0 {
                    break;
                }
                let here = self.table.classes[class].choices[from].option;
                let there = self.table.classes[other].choices[other_from].option;
                if here == there || class == other || self.counts[other][other_from] == 0 {
                    continue;
                }
                let (Some(to), Some(other_to)) = (self.choice_on(class, there), self.choice_on(other, here)) else {
                    continue;
                };
                let steps = [Move { class, from, to }, Move { class: other, from: other_from, to: other_to }];
                let (overload, energy) = self.effect(&steps);
                if self.helps(overload, energy) {
                    steps.into_iter().for_each(|step| self.apply(step));
                    any = true;
                }
            }
        }
        any
    }

    fn choice_on(&self, class: usize, option: usize) -> Option<usize> {
        self.table.classes[class].choices.binary_search_by_key(&option, |choice| choice.option).ok()
    }

    /// Change of overload and joules. The moves are between at most two options.
    fn effect(&self, steps: &[Move]) -> (f64, f64) {
        let (mut energy, mut touched) = (0.0, [(usize::MAX, 0.0); 2]);
        let mut add = |option: usize, seconds: f64| {
            if let Some(entry) = touched.iter_mut().find(|(known, _)| *known == option || *known == usize::MAX) {
                *entry = (option, entry.1 + seconds);
            }
        };
        for step in steps {
            let choices = &self.table.classes[step.class].choices;
            let (from, to) = (choices[step.from], choices[step.to]);
            energy += to.energy - from.energy;
            add(from.option, -from.seconds);
            add(to.option, to.seconds);
        }
        let known = touched.iter().filter(|(option, _)| *option != usize::MAX);
        let overload = known.map(|(option, more)| self.excess(*option, *more) - self.excess(*option, 0.0)).sum();
        (overload, energy)
    }

    fn apply(&mut self, step: Move) {
        let choices = &self.table.classes[step.class].choices;
        let (from, to) = (choices[step.from], choices[step.to]);
        self.counts[step.class][step.from] -= 1;
        self.counts[step.class][step.to] += 1;
        self.load[from.option] -= from.seconds;
        self.load[to.option] += to.seconds;
        self.energy += to.energy - from.energy;
    }

    /// Less overload, or fewer joules at no more of it.
    fn helps(&self, overload: f64, energy: f64) -> bool {
        overload < -1e-12 || (overload <= 0.0 && energy < -self.noise)
    }
}
