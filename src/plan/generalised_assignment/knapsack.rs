//! What one option would serve if each request brought a reward: the bounded knapsack, exactly, by dynamic programming
//! over a growing core (Pisinger 1997, "A minimal algorithm for the 0-1 knapsack problem"). Starting from the most
//! rewarding per weight that fit, things are added and removed by turns, furthest from the break last; of the states
//! reached only those are kept that no other dominates and whose bound is above the best. Weights are real numbers.
//!
//! The value returned is never below the optimum: what the search leaves open is added to it.

/// One kind of thing that may be packed.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    /// Whoever asked, to recognise it by.
    pub tag: usize,
    /// Above 0.
    pub reward: f64,
    pub weight: f64,
    pub most: u64,
}

/// States at which the search gives its best and the bound of the rest.
const MOST_STATES: usize = 50_000;

pub struct Packed {
    /// At least the largest reward that fits.
    pub value: f64,
    /// (tag, how many) of the best packing found; a tag may come several times.
    pub taken: Vec<(usize, u64)>,
}

/// Several of an item, packed together or not at all.
struct Bundle {
    tag: usize,
    many: u64,
    reward: f64,
    weight: f64,
    /// Reward per weight.
    density: f64,
}

/// A packing in which all bundles but the core are as at the break.
#[derive(Clone, Copy)]
struct State {
    reward: f64,
    weight: f64,
    /// Last of its changes; `usize::MAX` for none.
    change: usize,
}

/// Packs items into `capacity`; a packing better by `tolerance` or less is not looked for.
pub fn pack(items: &[Item], capacity: f64, tolerance: f64) -> Packed {
    let mut bundles: Vec<Bundle> = items
        .iter()
        .filter(|item| item.reward > 0.0 && item.weight <= capacity)
        .flat_map(|item| {
            let density = if item.weight > 0.0 { item.reward / item.weight } else { f64::INFINITY };
            bundles_of(item.most).map(move |many| {
                let times = many as f64;
                Bundle { tag: item.tag, many, reward: times * item.reward, weight: times * item.weight, density }
            })
        })
        .collect();
    bundles.sort_by(|a, b| b.density.total_cmp(&a.density).then(a.tag.cmp(&b.tag)).then(a.many.cmp(&b.many)));
    let (mut reward, mut weight) = (0.0, 0.0);
    let fits = |bundle: &&Bundle| {
        let fits = weight + bundle.weight <= capacity;
        if fits {
            reward += bundle.reward;
            weight += bundle.weight;
        }
        fits
    };
    let at_break = bundles.iter().take_while(fits).count();
    let mut core = Core {
        bundles: &bundles,
        capacity,
        tolerance,
        first: at_break,
        end: at_break,
        states: vec![State { reward, weight, change: usize::MAX }],
        changes: Vec::new(),
        best: State { reward, weight, change: usize::MAX },
    };
    core.fill();
    let value = core.solve();
    let mut packed: Vec<bool> = (0..bundles.len()).map(|at| at < at_break).collect();
    let mut change = core.best.change;
    while let Some(&(at, before)) = core.changes.get(change) {
        packed[at] = !packed[at];
        change = before;
    }
    let taken = bundles.iter().zip(packed).filter(|(_, packed)| *packed).map(|(b, _)| (b.tag, b.many)).collect();
    Packed { value, taken }
}

/// Sizes of bundles that make every number up to `most`, and no larger one.
fn bundles_of(most: u64) -> impl Iterator<Item = u64> {
    let (mut left, mut next) = (most, 1);
    std::iter::from_fn(move || {
        let many = left.min(next);
        (left, next) = (left - many, next.saturating_mul(2));
        (many > 0).then_some(many)
    })
}

struct Core<'a> {
    bundles: &'a [Bundle],
    capacity: f64,
    tolerance: f64,
    /// The core is `first..end`; below it all is packed, above it nothing.
    first: usize,
    end: usize,
    /// Ascending by weight and by reward.
    states: Vec<State>,
    /// (bundle, change before it).
    changes: Vec<(usize, usize)>,
    best: State,
}

impl Core<'_> {
    /// A first packing: what still fits, in order.
    fn fill(&mut self) {
        for (at, bundle) in self.bundles.iter().enumerate().skip(self.end) {
            if self.best.weight + bundle.weight <= self.capacity {
                self.changes.push((at, self.best.change));
                self.best = State {
                    reward: self.best.reward + bundle.reward,
                    weight: self.best.weight + bundle.weight,
                    change: self.changes.len() - 1,
                };
            }
        }
    }

    /// A bound of the reward, above the best by the tolerance where the search came to its end.
    fn solve(&mut self) -> f64 {
        let break_density = self.bundles.get(self.end).map_or(0.0, |bundle| bundle.density);
        let [at_break] = self.states[..] else { return self.best.reward + self.tolerance };
        let fractional = at_break.reward + (self.capacity - at_break.weight) * break_density;
        while !self.states.is_empty() && (self.first > 0 || self.end < self.bundles.len()) {
            if self.end < self.bundles.len() {
                self.end += 1;
                self.branch(self.end - 1, 1.0, fractional, break_density);
            }
            if self.first > 0 {
                self.first -= 1;
                self.branch(self.first, -1.0, fractional, break_density);
            }
            if self.states.len() > MOST_STATES {
                break;
            }
        }
        let open = self.states.iter().map(|state| self.bound(state)).fold(f64::NEG_INFINITY, f64::max);
        open.max(self.best.reward + self.tolerance)
    }

    /// The most that a state can become by changes outside the core.
    fn bound(&self, state: &State) -> f64 {
        let room = self.capacity - state.weight;
        if room >= 0.0 {
            state.reward + self.bundles.get(self.end).map_or(0.0, |next| room * next.density)
        } else if self.first > 0 {
            state.reward + room * self.bundles[self.first - 1].density
        } else {
            f64::NEG_INFINITY
        }
    }

    /// Each state with and without the bundle added (`sign` 1) or removed (-1).
    fn branch(&mut self, at: usize, sign: f64, fractional: f64, break_density: f64) {
        let bundle = &self.bundles[at];
        // Other than at the break, it alone costs too much of the fractional reward (Dembo and Hammer 1980).
        if fractional - bundle.weight * (bundle.density - break_density).abs() <= self.best.reward + self.tolerance {
            return;
        }
        let changed = |state: &State| State {
            reward: state.reward + sign * bundle.reward,
            weight: state.weight + sign * bundle.weight,
            ..*state
        };
        for state in &self.states {
            let state = changed(state);
            if state.weight <= self.capacity && state.reward > self.best.reward {
                self.best = State { change: self.changes.len(), ..state };
                self.changes.push((at, state.change));
            }
        }
        let old = std::mem::take(&mut self.states);
        let mut kept: Vec<State> = Vec::with_capacity(2 * old.len());
        let (mut left, mut right) = (0, 0);
        while left < old.len() || right < old.len() {
            let other = old.get(right).map(changed);
            let (state, is_new) = match (old.get(left), other) {
                (Some(a), Some(b)) if (b.weight, -b.reward) < (a.weight, -a.reward) => (b, true),
                (Some(a), _) => (*a, false),
                (None, Some(b)) => (b, true),
                (None, None) => break,
            };
            if is_new {
                right += 1;
            } else {
                left += 1;
            }
            let dominated = kept.last().is_some_and(|last| last.reward >= state.reward);
            if dominated || self.bound(&state) <= self.best.reward + self.tolerance {
                continue;
            }
            kept.push(if is_new {
                self.changes.push((at, state.change));
                State { change: self.changes.len() - 1, ..state }
            } else {
                state
            });
        }
        self.states = kept;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The largest reward, by trying every number of every item.
    fn largest(items: &[Item], room: f64) -> f64 {
        let Some((item, rest)) = items.split_first() else { return 0.0 };
        (0..=item.most)
            .map(|many| (many as f64, room - many as f64 * item.weight))
            .filter(|(_, room)| *room >= 0.0)
            .map(|(many, room)| many * item.reward + largest(rest, room))
            .fold(0.0, f64::max)
    }

    proptest! {
        #[test]
        fn packs_the_most_rewarding(
            kinds in prop::collection::vec((1u32..40, 0u32..30, 1u64..5), 0..7),
            capacity in 0u32..100,
        ) {
            let item = |(tag, (reward, weight, most))| Item { tag, reward: f64::from(reward), weight: f64::from(weight), most };
            let items: Vec<Item> = kinds.into_iter().enumerate().map(item).collect();
            let packed = pack(&items, f64::from(capacity), 1e-6);
            let optimum = largest(&items, f64::from(capacity));
            prop_assert!(packed.value >= optimum && packed.value <= optimum + 1e-5, "{} for {optimum}", packed.value);
            let mut counts = vec![0; items.len()];
            packed.taken.iter().for_each(|(tag, many)| counts[*tag] += many);
            let sum = |of: fn(&Item) -> f64| items.iter().zip(&counts).map(|(item, n)| *n as f64 * of(item)).sum::<f64>();
            prop_assert!(items.iter().zip(&counts).all(|(item, many)| *many <= item.most));
            prop_assert_eq!(sum(|item| item.reward), optimum);
            prop_assert!(sum(|item| item.weight) <= f64::from(capacity));
        }
    }

    #[test]
    fn what_is_left_open_is_in_the_value() {
        let item = |tag: usize| Item { tag, reward: 10.0, weight: 3.0, most: 1 };
        let items: Vec<Item> = (0..9).map(item).collect();
        let packed = pack(&items, 10.0, 50.0);
        assert!(packed.value >= 30.0 && packed.taken.len() <= 3);
        assert_eq!(pack(&[], 10.0, 0.0).value, 0.0);
        assert_eq!(pack(&items, 0.0, 0.0).value, 0.0);
    }
}
