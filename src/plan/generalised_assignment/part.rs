//! A part of a table as a problem of its own: some requests set free, the choices open to them, and the capacity that
//! those which stay leave them.
//!
//! Parts are either all that is on a few options which compete for the same requests, or some classes, those far from
//! their cheapest choice more often.

use rand::Rng;

use super::Guide;
use super::local_search::State;
use super::relaxation::{Limits, Stop, integer};
use crate::domain::{OptionClass, OptionTable, ServiceOption};
use crate::plan::PlanError;

/// Choices per class set free, least regret first over all of them.
const CHOICES: usize = 4;

pub struct Part {
    table: OptionTable,
    /// Class and choices of the whole table behind each class and its choices.
    origin: Vec<(usize, Vec<usize>)>,
    /// Class, choice and number of the requests set free.
    freed: Vec<(usize, usize, u64)>,
    /// Joules of these requests where they are.
    energy: f64,
}

/// What branch and bound makes of a part.
pub struct Searched {
    /// Requests on each choice of each class, if that is better than where they are.
    pub counts: Option<Vec<Vec<u64>>>,
    /// The search came to its end.
    pub decided: bool,
}

impl Part {
    /// `leaves`: whether what is on a choice is set free; `open`: whether it may go there.
    fn new(
        whole: &OptionTable,
        best: &State<'_>,
        leaves: impl Fn(usize, usize) -> bool,
        open: impl Fn(usize, usize) -> bool,
    ) -> Self {
        let mut part = Self { table: OptionTable::default(), origin: Vec::new(), freed: Vec::new(), energy: 0.0 };
        let mut seconds = vec![0.0; whole.options.len()];
        for (index, class) in whole.classes.iter().enumerate() {
            let used = best.counts_of(index);
            let leaves = |at: &usize| used[*at] > 0 && leaves(index, *at);
            let mut requests = 0;
            for at in (0..used.len()).filter(leaves) {
                let choice = class.choices[at];
                requests += used[at];
                part.energy += used[at] as f64 * choice.energy;
                seconds[choice.option] += used[at] as f64 * choice.seconds;
                part.freed.push((index, at, used[at]));
            }
            if requests > 0 {
                let kept: Vec<usize> = (0..used.len()).filter(|at| open(index, *at) || leaves(at)).collect();
                let choices = kept.iter().map(|at| class.choices[*at]).collect();
                part.table.classes.push(OptionClass { name: String::new(), requests, choices });
                part.origin.push((index, kept));
            }
        }
        let mut number = vec![None; whole.options.len()];
        for choice in part.table.classes.iter_mut().flat_map(|class| &mut class.choices) {
            let option = choice.option;
            choice.option = *number[option].get_or_insert_with(|| {
                let capacity = whole.options[option].capacity.map(|_| (seconds[option] + best.room(option)).max(0.0));
                part.table.options.push(ServiceOption { name: String::new(), pool: None, devices: None, capacity });
                part.table.options.len() - 1
            });
        }
        part
    }

    /// Branch and bound for something cheaper, or, to `repair`, for anything within the capacities.
    ///
    /// # Errors
    /// Those of the solver.
    pub fn search(&self, stop: Stop, repair: bool) -> Result<Searched, PlanError> {
        if self.table.classes.is_empty() {
            // Options that serve nobody; HiGHS knows no status of a model without columns.
            return Ok(Searched { counts: None, decided: true });
        }
        let kept: Vec<Vec<bool>> = self.table.classes.iter().map(|class| vec![true; class.choices.len()]).collect();
        let cutoff = (!repair).then_some(self.energy * (1.0 - 1e-7));
        let found = integer(&self.table, &kept, &Limits { stop, gap: 1e-6, cutoff })?;
        Ok(Searched { counts: found.counts, decided: found.decided })
    }

    /// `counts` of the whole table with these requests moved to where they were `found`.
    pub fn placed(&self, mut counts: Vec<Vec<u64>>, found: &[Vec<u64>]) -> Vec<Vec<u64>> {
        for &(class, at, requests) in &self.freed {
            counts[class][at] -= requests;
        }
        for ((class, kept), found) in self.origin.iter().zip(found) {
            for (&at, requests) in kept.iter().zip(found) {
                counts[*class][at] += requests;
            }
        }
        counts
    }
}

/// Up to `most` parts without an option in common, of `wanted` classes or a little more each: from an option that wastes
/// much, or is overloaded if any is, to those that the requests of the part would also use, or whose requests would use it.
pub fn of_options(
    guide: &Guide<'_, '_>,
    best: &State<'_>,
    most: usize,
    wanted: usize,
    random: &mut impl Rng,
) -> Vec<Part> {
    let Guide { table, prices, regrets } = *guide;
    let options = table.options.len();
    let even = best.energy() * 1e-3 / options as f64;
    let mut waste: Vec<f64> = (0..options).map(|option| prices[option] * best.slack(option) + even).collect();
    let near = nearest(regrets, 0..table.classes.len());
    let mut classes_on = vec![0; options];
    for ((index, class), regrets) in table.classes.iter().enumerate().zip(regrets) {
        for ((choice, used), regret) in class.choices.iter().zip(best.counts_of(index)).zip(regrets) {
            waste[choice.option] += regret * *used as f64;
            classes_on[choice.option] += usize::from(*used > 0);
        }
    }
    // A class for each pair of options of which it uses one and could use the other.
    let attract = |option: usize, pull: &mut [f64]| {
        for ((index, class), regrets) in table.classes.iter().enumerate().zip(regrets) {
            let used = best.counts_of(index);
            let Ok(here) = class.choices.binary_search_by_key(&option, |choice| choice.option) else { continue };
            for (at, choice) in class.choices.iter().enumerate() {
                let from_here = used[here] > 0 && regrets[at] <= near;
                let to_here = used[at] > 0 && regrets[here] <= near;
                pull[choice.option] += f64::from(from_here) + f64::from(to_here);
            }
        }
    };
    if !best.is_feasible() {
        waste = (0..options).map(|option| best.excess(option, 0.0)).collect();
    }
    let mut taken = vec![false; options];
    let mut parts = Vec::new();
    while parts.len() < most && waste.iter().zip(&taken).any(|(waste, taken)| *waste > 0.0 && !taken) {
        let mut of_part = vec![false; options];
        let (mut count, mut pull) = (0, waste.clone());
        loop {
            pull.iter_mut().zip(&taken).filter(|(_, taken)| **taken).for_each(|(pull, _)| *pull = 0.0);
            if count >= wanted || pull.iter().all(|pull| *pull <= 0.0) {
                break;
            }
            let option = draw(&pull, random);
            if count == 0 {
                pull = vec![0.0; options];
            }
            (of_part[option], taken[option]) = (true, true);
            count += classes_on[option].max(1);
            attract(option, &mut pull);
        }
        let on_part = |class: usize, at: usize| of_part[table.classes[class].choices[at].option];
        parts.push(Part::new(table, best, on_part, |class, at| on_part(class, at) && regrets[class][at] <= near));
    }
    parts
}

/// A part of `wanted` classes, those with much regret more often; half of the draws are of any class.
pub fn of_classes(guide: &Guide<'_, '_>, best: &State<'_>, wanted: usize, random: &mut impl Rng) -> Part {
    let regrets = guide.regrets;
    let regret = |(index, regrets): (usize, &Vec<f64>)| {
        regrets.iter().zip(best.counts_of(index)).map(|(regret, used)| regret * *used as f64).sum::<f64>()
    };
    let mut weights: Vec<f64> = regrets.iter().enumerate().map(regret).collect();
    let even = (weights.iter().sum::<f64>() / weights.len() as f64).max(f64::MIN_POSITIVE);
    weights.iter_mut().for_each(|weight| *weight += even);
    let mut freed = vec![false; weights.len()];
    for _ in 0..wanted.min(weights.len()) {
        let class = draw(&weights, random);
        (freed[class], weights[class]) = (true, 0.0);
    }
    let near = nearest(regrets, (0..freed.len()).filter(|class| freed[*class]));
    Part::new(guide.table, best, |class, _| freed[class], |class, at| regrets[class][at] <= near)
}

/// The regret up to which `classes` have `CHOICES` choices on average.
fn nearest(regrets: &[Vec<f64>], classes: impl Iterator<Item = usize> + Clone) -> f64 {
    let mut order: Vec<f64> = classes.clone().flat_map(|class| &regrets[class]).copied().collect();
    order.sort_by(f64::total_cmp);
    order.get(CHOICES * classes.count()).copied().unwrap_or(f64::INFINITY)
}

/// An index with a chance in proportion to its weight; there is a weight above 0.
fn draw(weights: &[f64], random: &mut impl Rng) -> usize {
    let mut left = random.random::<f64>() * weights.iter().sum::<f64>();
    let found = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0 && *weight > 0.0
    });
    found.or_else(|| weights.iter().rposition(|weight| *weight > 0.0)).unwrap_or(0)
}
