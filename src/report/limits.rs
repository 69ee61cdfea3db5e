//! Limits in plain units: the relaxations that would make a plan possible, and what one more unit of each limit saves.

use super::text::{Table, count, plain, time};
use crate::formats::plan_json::{Price, Relaxation as RelaxationJson};
use crate::plan::PlanProblem;
use crate::plan::limits::{Limit, Relaxation, ShadowPrice};

const HOUR: f64 = 3600.0;

pub fn relaxation_json(problem: &PlanProblem, relaxation: &Relaxation) -> RelaxationJson {
    let workload = problem.workload;
    let (kind, unit, size) = match relaxation.limit {
        Limit::Deadline(_) => ("deadline", "h", HOUR),
        Limit::Accuracy(_) => ("accuracy", "points", 1.0),
        Limit::Nodes(_) => ("devices", "nodes", 1.0),
        Limit::Power => ("power", "W", 1.0),
    };
    let (job, pool) = match &relaxation.limit {
        Limit::Deadline(jobs) | Limit::Accuracy(jobs) => {
            (jobs.first().filter(|_| jobs.len() == 1).map(|&job| workload.jobs[job].name.clone()), None)
        }
        Limit::Nodes(pool) => (None, Some(problem.cluster.pools[*pool].name.clone())),
        Limit::Power => (None, None),
    };
    // Amounts have three digits: the tenth is arithmetic.
    let in_unit = |amount: f64| (amount / size * 1e9).round() / 1e9;
    let verified_by = match relaxation {
        Relaxation { verified: true, .. } => Some("plan"),
        Relaxation { relaxed: Some(_), .. } => Some("relaxation"),
        _ => None,
    };
    RelaxationJson {
        kind: kind.to_owned(),
        job,
        pool,
        amount: in_unit(relaxation.amount),
        unit: unit.to_owned(),
        verified: relaxation.verified,
        verified_by: verified_by.map(str::to_owned),
        relaxed: relaxation.relaxed.map(in_unit),
        too_little: relaxation.too_little.map(in_unit),
    }
}

/// A line each; none if there are none.
pub fn relaxations(problem: &PlanProblem, relaxations: &[Relaxation]) -> Vec<String> {
    let (planned, others): (Vec<_>, Vec<_>) = relaxations.iter().partition(|relaxation| relaxation.verified);
    let (served, guessed): (Vec<_>, Vec<_>) = others.into_iter().partition(|relaxation| relaxation.relaxed.is_some());
    let mut lines = Vec::new();
    for (title, relaxations) in [
        ("each of these alone makes a plan possible (found and checked):", planned),
        (
            "each of these alone makes room for every request in the linear programme, solved again; a plan may need more, \
             and time was too short to find one:",
            served,
        ),
        ("each of these alone may do, to first order; time was too short to solve again with it:", guessed),
    ] {
        if !relaxations.is_empty() {
            lines.push(title.to_owned());
            lines.extend(relaxations.into_iter().map(|relaxation| format!("- {}", words(problem, relaxation))));
        }
    }
    lines
}

/// The change, and what is known of lesser ones.
fn words(problem: &PlanProblem, relaxation: &Relaxation) -> String {
    let in_unit = |amount: f64| match relaxation.limit {
        Limit::Deadline(_) => time(amount),
        Limit::Accuracy(_) => format!("{amount:.2} points"),
        Limit::Nodes(_) => count(amount as u64, "node"),
        Limit::Power => format!("{amount:.0} W"),
    };
    let relaxed = relaxation.relaxed.filter(|relaxed| *relaxed < relaxation.amount);
    let relaxed = relaxed.map(|amount| format!("{} would do for divisible instances", in_unit(amount)));
    let too_little = relaxation.too_little.map(|amount| format!("{} is proved too little", in_unit(amount)));
    let lesser: Vec<String> = relaxed.into_iter().chain(too_little).collect();
    let lesser = if lesser.is_empty() { String::new() } else { format!(" ({})", lesser.join("; ")) };
    change(problem, &relaxation.limit, relaxation.amount) + &lesser
}

fn change(problem: &PlanProblem, limit: &Limit, amount: f64) -> String {
    let workload = problem.workload;
    let name = |job: usize| plain(&workload.jobs[job].name);
    match limit {
        Limit::Deadline(jobs) => match jobs[..] {
            [job] => format!("the deadline of job {} {} later", name(job), time(amount)),
            _ => format!("all deadlines {} later", time(amount)),
        },
        Limit::Accuracy(jobs) => {
            let whose: Vec<String> = jobs
                .iter()
                .map(|&job| {
                    let floor = workload.jobs[job].floor.map_or(String::new(), |floor| {
                        format!(", from {} % to {:.2} %", floor.percent, (floor.percent - amount).max(0.0))
                    });
                    format!("the accuracy floor of job {} {amount:.2} points lower{floor}", name(job))
                })
                .collect();
            whose.join(", ")
        }
        Limit::Nodes(pool) => {
            let pool = &problem.cluster.pools[*pool];
            let devices = amount * f64::from(pool.devices_per_node);
            format!(
                "{} in pool {} ({})",
                count(amount as u64, "more node"),
                plain(&pool.name),
                count(devices as u64, "device")
            )
        }
        Limit::Power => {
            let cap = problem.cluster.site.power_cap.as_ref();
            let cap = cap.map(|cap| (cap.least(0.0, problem.horizon()), cap.iter().nth(1).is_some()));
            let from = cap.map_or(String::new(), |(least, varies)| {
                let whole = if varies { " at every instant, at its lowest" } else { "," };
                format!("{whole} from {least:.0} W to {:.0} W", least + amount)
            });
            format!("the power cap {amount:.0} W higher{from}")
        }
    }
}

pub fn price_json(problem: &PlanProblem, price: &ShadowPrice) -> Price {
    let jobs = |jobs: &[usize]| jobs.iter().map(|&job| problem.workload.jobs[job].name.clone()).collect();
    let (constraint, of, size, per) = match &price.limit {
        Limit::Deadline(due) => ("deadline", jobs(due), HOUR, "h"),
        Limit::Accuracy(concerned) => ("accuracy", jobs(concerned), 1.0, "point"),
        Limit::Nodes(pool) => ("devices", vec![problem.cluster.pools[*pool].name.clone()], 1.0, "device"),
        Limit::Power => ("power", Vec::new(), 1e3, "kW"),
    };
    let (unit, joules) = if problem.is_weighted() { (problem.goal.unit(), 1.0) } else { ("kJ", 1e-3) };
    let in_unit = |saved: f64| saved * size * joules;
    Price {
        constraint: constraint.to_owned(),
        of,
        price: in_unit(price.saved),
        price_same_instances: price.saved_by_requests.map(in_unit),
        unit: format!("{unit}/{per}"),
    }
}

/// The prices as a table, dearest first; nothing if no limit binds.
pub fn prices(prices: &[Price]) -> String {
    if prices.is_empty() {
        return String::new();
    }
    let mut sorted: Vec<&Price> = prices.iter().collect();
    sorted.sort_by(|a, b| a.constraint.cmp(&b.constraint).then(b.price.total_cmp(&a.price)));
    let mut table = Table::new(&["limit", "of", ">one more saves", ">same instances", "unit"]);
    for price in sorted {
        let of = if price.of.is_empty() { "site".to_owned() } else { price.of.join(", ") };
        let same = price.price_same_instances.map_or(String::new(), digits);
        table.row([price.constraint.clone(), of, digits(price.price), same, price.unit.clone()]);
    }
    format!("\n{}{MEANING}", table.render(0))
}

const MEANING: &str = "\
one more saves: if the number of instances followed, fractions included; same instances: if the plan kept its own, and only
requests moved between them. Both of the first little bit, by linear programmes.
";

/// Three decimals, or as many as show three digits.
fn digits(value: f64) -> String {
    let places = if value == 0.0 { 3.0 } else { (2.0 - value.abs().log10().floor()).clamp(3.0, 12.0) };
    format!("{value:.0$}", places as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_a_table_and_none_is_nothing() {
        assert_eq!(prices(&[]), "");
        let price = |of: &str, price, price_same_instances| Price {
            constraint: "deadline".into(),
            of: vec![of.into()],
            price,
            price_same_instances,
            unit: "kJ/h".into(),
        };
        let text = prices(&[price("a", 1.0, None), price("b\u{1b}", 2.5, Some(0.000_321))]);
        assert!(text.find("2.500").unwrap() < text.find("1.000").unwrap(), "{text}");
        assert!(text.contains("kJ/h") && text.contains("0.000321") && !text.contains('\u{1b}'), "{text}");
        assert!(text.contains("same instances"), "{text}");
    }
}
