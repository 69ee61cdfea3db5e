//! A planning problem given as a table: what each class of requests costs and takes on each option, and how long each
//! option may work in all. Energy is taken as given: nothing is added for idling, loading or draining.

/// Something that serves requests, with its own capacity.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceOption {
    pub name: String,
    pub pool: Option<String>,
    pub devices: Option<u32>,
    /// Seconds it may work in all; `None`: as long as it takes.
    pub capacity: Option<f64>,
}

/// Requests that cost and take the same on each option.
#[derive(Clone, Debug, PartialEq)]
pub struct OptionClass {
    pub name: String,
    pub requests: u64,
    /// Ascending by option.
    pub choices: Vec<Choice>,
}

/// One request of a class on an option.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Index into `OptionTable::options`.
    pub option: usize,
    /// Joules.
    pub energy: f64,
    pub seconds: f64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct OptionTable {
    pub options: Vec<ServiceOption>,
    pub classes: Vec<OptionClass>,
}

impl OptionTable {
    pub fn requests(&self) -> u64 {
        self.classes.iter().map(|class| class.requests).sum()
    }

    /// The least joules that capacity prices allow (joules per second of each option, none negative), whatever is done
    /// with single requests: each takes its priced cheapest option, less what the capacities are worth.
    pub fn bound(&self, prices: &[f64]) -> f64 {
        let priced = |choice: &Choice| choice.energy + prices[choice.option] * choice.seconds;
        let served = self.classes.iter().map(|class| {
            let least = class.choices.iter().map(priced).min_by(f64::total_cmp).unwrap_or(0.0);
            class.requests as f64 * least
        });
        let worth = self.options.iter().zip(prices).map(|(option, price)| -price * option.capacity.unwrap_or(0.0));
        let (mut sum, mut size, mut terms) = (0.0_f64, 0.0_f64, 0.0_f64);
        for term in served.chain(worth) {
            sum += term;
            size += term.abs();
            terms += 1.0;
        }
        // Outward by the most that rounding can have done.
        sum - size * (terms + 4.0) * f64::EPSILON
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_bound_from_below() {
        let choice = |option, energy, seconds| Choice { option, energy, seconds };
        let option = |capacity| ServiceOption { name: String::new(), pool: None, devices: None, capacity };
        let table = OptionTable {
            options: vec![option(Some(10.0)), option(None)],
            classes: vec![OptionClass {
                name: "c".into(),
                requests: 3,
                choices: vec![choice(0, 1.0, 5.0), choice(1, 4.0, 9.0)],
            }],
        };
        // Two fit on the cheap option: 1 + 1 + 4.
        assert!((table.bound(&[0.0, 0.0]) - 3.0).abs() < 1e-9);
        assert!((table.bound(&[0.6, 0.0]) - 6.0).abs() < 1e-9);
        assert!(table.bound(&[0.9, 0.0]) < 6.0 && table.bound(&[0.6, 0.0]) <= 6.0);
    }
}
