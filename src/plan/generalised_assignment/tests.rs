//! Against enumeration of every assignment, on small random tables.

use proptest::prelude::*;

use super::*;
use crate::domain::{Choice, OptionClass, ServiceOption};

/// Joules and seconds, if the class may run there.
type Cell = Option<(u32, u32)>;

fn tables() -> impl Strategy<Value = OptionTable> {
    let class = (1u64..4, prop::collection::vec(prop::option::weighted(0.8, (1u32..50, 1u32..20)), 3));
    let capacity = prop::option::weighted(0.8, 5u32..60);
    (prop::collection::vec(class, 1..5), prop::collection::vec(capacity, 3)).prop_map(|(classes, capacities)| {
        let option = |(index, capacity): (usize, Option<u32>)| ServiceOption {
            name: format!("o{index}"),
            pool: None,
            devices: None,
            capacity: capacity.map(f64::from),
        };
        let class = |(index, (requests, cells)): (usize, (u64, Vec<Cell>))| {
            let choice = |(option, cell): (usize, Cell)| {
                cell.map(|(energy, seconds)| Choice { option, energy: energy.into(), seconds: seconds.into() })
            };
            let choices: Vec<Choice> = cells.into_iter().enumerate().filter_map(choice).collect();
            (!choices.is_empty()).then(|| OptionClass { name: format!("c{index}"), requests, choices })
        };
        OptionTable {
            options: capacities.into_iter().enumerate().map(option).collect(),
            classes: classes.into_iter().enumerate().filter_map(class).collect(),
        }
    })
}

/// The least joules of any whole assignment, request by request.
fn least(table: &OptionTable, requests: &[usize], load: &mut Vec<f64>) -> f64 {
    let Some((&class, rest)) = requests.split_first() else { return 0.0 };
    let mut best = f64::INFINITY;
    for choice in &table.classes[class].choices {
        load[choice.option] += choice.seconds;
        if table.options[choice.option].capacity.is_none_or(|capacity| load[choice.option] <= capacity) {
            best = best.min(choice.energy + least(table, rest, load));
        }
        load[choice.option] -= choice.seconds;
    }
    best
}

proptest! {
    #[test]
    fn small_tables_are_solved_to_the_optimum(table in tables()) {
        let requests: Vec<usize> = table
            .classes
            .iter()
            .enumerate()
            .flat_map(|(index, class)| std::iter::repeat_n(index, class.requests as usize))
            .collect();
        let optimum = least(&table, &requests, &mut vec![0.0; table.options.len()]);
        let settings = Settings { gap: 0.0, ..Settings::default() };
        match solve(&table, &settings, 1, &mut |_| ()).unwrap() {
            Outcome::Planned(plan) => {
                prop_assert!((plan.objective - optimum).abs() <= 1e-6 * optimum, "{} for {optimum}", plan.objective);
                prop_assert!(plan.bound <= optimum * (1.0 + 1e-12) && plan.gap < 1e-6, "{plan:?}");
                prop_assert!(plan.price_bound <= optimum && plan.price_bound == table.bound(&plan.prices));
                prop_assert!(State::new(&table, plan.counts).is_feasible());
            }
            Outcome::Infeasible => prop_assert!(optimum.is_infinite()),
            Outcome::Unknown => prop_assert!(false, "neither solved nor refused"),
        }
    }
}
