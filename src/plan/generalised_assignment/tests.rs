//! Against enumeration of every assignment, on small random tables.

use proptest::prelude::*;
use rand::Rng;

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

fn requests(table: &OptionTable) -> Vec<usize> {
    let of_class = |(index, class): (usize, &OptionClass)| std::iter::repeat_n(index, class.requests as usize);
    table.classes.iter().enumerate().flat_map(of_class).collect()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// A table of hard instances in the small: costs fall where seconds rise, and the capacities are scarce.
fn scarce(options: usize, classes: usize, seed: u64) -> OptionTable {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut choice = |option: usize| {
        let seconds = random.random_range(1.0..20.0);
        Choice { option, energy: 200.0 / seconds + random.random_range(0.0..10.0), seconds }
    };
    let classes: Vec<OptionClass> = (0..classes)
        .map(|_| OptionClass { name: String::new(), requests: 1, choices: (0..options).map(&mut choice).collect() })
        .collect();
    let capacity =
        |option: usize| 0.8 * classes.iter().map(|c| c.choices[option].seconds).sum::<f64>() / options as f64;
    let option =
        |option| ServiceOption { name: String::new(), pool: None, devices: None, capacity: Some(capacity(option)) };
    OptionTable { options: (0..options).map(option).collect(), classes: classes.clone() }
}

#[test]
fn dives_are_repaired_and_improved_to_near_the_bound() {
    let table = scarce(6, 60, 3);
    let Ok(Some(Solved::Optimal { prices, .. })) = linear(&table, Duration::from_secs(60)) else { panic!("no prices") };
    let mut request_prices = RequestPrices::from_capacity(&table, &prices);
    request_prices.ascend(AIM, STEPS, soon());
    assert!(request_prices.bound() > table.bound(&prices), "whole requests bound better");
    let regrets = guided_regrets(&table, &prices, request_prices.shares());
    let guide = Guide { table: &table, prices: &prices, regrets: &regrets };
    let random = || ChaCha8Rng::seed_from_u64(1);
    let dived = dive(&guide, &request_prices, soon(), &mut random());
    assert_eq!(dived.counts(), dive(&guide, &request_prices, soon(), &mut random()).counts());
    let gap = |state: &State<'_>| (state.feasible_energy() - request_prices.bound()) / state.feasible_energy();
    let enough = |state: &State<'_>| gap(state) < 0.01;
    let found = neighbourhoods::search(&guide, dived, &enough, soon(), &mut random(), &mut |_| ()).unwrap();
    assert!(found.counts().iter().all(|counts| counts.iter().sum::<u64>() == 1));
    assert!((0.0..0.01).contains(&gap(&found)), "{}", gap(&found));
}

proptest! {
    #[test]
    fn request_prices_never_prove_too_much(table in tables()) {
        let optimum = least(&table, &requests(&table), &mut vec![0.0; table.options.len()]);
        let mut request_prices = RequestPrices::from_capacity(&table, &vec![0.0; table.options.len()]);
        request_prices.ascend(0.1, 60, soon());
        prop_assert!(request_prices.bound() >= table.bound(&vec![0.0; table.options.len()]) * (1.0 - 1e-4));
        prop_assert!(request_prices.bound() <= optimum * (1.0 + 1e-12), "{} for {optimum}", request_prices.bound());
    }

    #[test]
    fn small_tables_are_solved_to_the_optimum(table in tables()) {
        let optimum = least(&table, &requests(&table), &mut vec![0.0; table.options.len()]);
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
