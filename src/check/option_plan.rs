//! An independent check of a plan made from a table of options: who is served where, how long the options work, what it
//! costs, and the bound that the capacity prices prove, all from the table and the rows alone.
//!
//! A bound above that of the prices rests on knapsacks or branch and bound, which nothing short of solving again verifies;
//! the report says by how much.

use std::collections::BTreeMap;
use std::fmt;

use super::tolerance::{GAP, at_most, close, exceeds_copied, joules, seconds};
use crate::domain::OptionTable;

/// Violations that are put into words; the rest are counted.
const LISTED: usize = 100;

/// What the files claim.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedOptionPlan {
    pub objective: f64,
    pub bound: f64,
    pub price_bound: f64,
    pub gap: f64,
    /// Sum of the parts of the gap.
    pub gap_parts: f64,
    pub requests: u64,
    pub options: Vec<ClaimedOption>,
    pub rows: Vec<ClaimedOptionRow>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedOption {
    pub name: String,
    pub requests: u64,
    pub energy: f64,
    pub busy: f64,
    pub capacity: Option<f64>,
    /// Joules per second.
    pub price: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedOptionRow {
    pub class: String,
    pub option: String,
    pub requests: u64,
    pub energy: f64,
    pub busy: f64,
}

/// A rule of a valid plan from options. Its code is stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OptionRule {
    /// Every class, option and choice named is in the table, and every option once in the plan.
    Unknown,
    /// All requests of a class are served.
    Dropped,
    /// None of them twice.
    Doubled,
    /// Counts are those of the rows.
    Count,
    /// No option works longer than its capacity.
    Capacity,
    /// Joules and seconds of rows and options follow from the table.
    Figures,
    /// The objective is the sum.
    Objective,
    /// No price is negative, and together they prove the bound they claim.
    Prices,
    /// The bound is not above the objective, nor below what the prices prove.
    Bound,
    /// gap = (objective - bound) / objective, and its parts sum to it.
    Gap,
}

impl OptionRule {
    pub const ALL: [Self; 10] = [
        Self::Unknown,
        Self::Dropped,
        Self::Doubled,
        Self::Count,
        Self::Capacity,
        Self::Figures,
        Self::Objective,
        Self::Prices,
        Self::Bound,
        Self::Gap,
    ];

    pub fn code(self) -> &'static str {
        match self {
            Self::Unknown => "C-UNKNOWN",
            Self::Dropped => "C-DROPPED",
            Self::Doubled => "C-DOUBLED",
            Self::Count => "C-COUNT",
            Self::Capacity => "C-CAPACITY",
            Self::Figures => "C-FIGURES",
            Self::Objective => "C-OBJECTIVE",
            Self::Prices => "C-PRICES",
            Self::Bound => "C-BOUND",
            Self::Gap => "C-GAP",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct OptionViolation {
    pub rule: OptionRule,
    pub subject: String,
    pub detail: String,
}

impl fmt::Display for OptionViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.rule.code(), self.subject, self.detail)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct OptionReport {
    pub violations: Vec<OptionViolation>,
    /// Violations beyond those listed.
    pub omitted: usize,
    /// Recomputed joules and bound.
    pub objective: f64,
    pub price_bound: f64,
    pub requests: u64,
}

impl OptionReport {
    pub fn is_valid(&self) -> bool {
        self.violations.is_empty()
    }

    fn add(&mut self, rule: OptionRule, subject: &str, detail: String) {
        if self.violations.len() < LISTED {
            self.violations.push(OptionViolation { rule, subject: subject.to_owned(), detail });
        } else {
            self.omitted += 1;
        }
    }
}

/// Every violation of every rule of `OptionRule`.
pub fn check_option_plan(table: &OptionTable, plan: &ClaimedOptionPlan) -> OptionReport {
    let mut report = OptionReport::default();
    let used = check_rows(table, plan, &mut report);
    let prices = check_options(table, plan, &used, &mut report);
    check_proof(table, plan, &prices, &mut report);
    report
}

/// Requests, joules and seconds on an option.
#[derive(Clone, Copy, Default)]
struct Use {
    requests: u64,
    energy: f64,
    busy: f64,
}

fn check_rows(table: &OptionTable, plan: &ClaimedOptionPlan, report: &mut OptionReport) -> Vec<Use> {
    let classes: BTreeMap<&str, usize> =
        table.classes.iter().enumerate().map(|(index, class)| (class.name.as_str(), index)).collect();
    let mut served = vec![0_u64; table.classes.len()];
    let mut used = vec![Use::default(); table.options.len()];
    for row in &plan.rows {
        let subject = format!("{} on {}", row.class, row.option);
        let class = classes.get(row.class.as_str()).copied();
        let choice = class.and_then(|class| {
            table.classes[class].choices.iter().find(|choice| table.options[choice.option].name == row.option)
        });
        let (Some(class), Some(choice)) = (class, choice) else {
            report.add(OptionRule::Unknown, &subject, "the table has no row of this class on this option".to_owned());
            continue;
        };
        let requests = row.requests as f64;
        let (energy, busy) = (requests * choice.energy, requests * choice.seconds);
        for (what, claimed, found, slack) in
            [("J", row.energy, energy, joules(energy)), ("s", row.busy, busy, seconds(busy))]
        {
            if !close(claimed, found, slack) {
                report.add(
                    OptionRule::Figures,
                    &subject,
                    format!("{claimed} {what} claimed, {found} {what} by the table"),
                );
            }
        }
        served[class] = served[class].saturating_add(row.requests);
        let total = &mut used[choice.option];
        total.requests = total.requests.saturating_add(row.requests);
        total.energy += energy;
        total.busy += busy;
    }
    for (class, served) in table.classes.iter().zip(served) {
        let detail = format!("{served} of {} requests are served", class.requests);
        if served < class.requests {
            report.add(OptionRule::Dropped, &class.name, detail);
        } else if served > class.requests {
            report.add(OptionRule::Doubled, &class.name, detail);
        }
    }
    report.requests = used.iter().map(|used| used.requests).fold(0, u64::saturating_add);
    if plan.requests != report.requests {
        let detail = format!("{} requests claimed, {} in the rows", plan.requests, report.requests);
        report.add(OptionRule::Count, "plan.json", detail);
    }
    used
}

/// The claimed price of each option, 0 where there is none.
fn check_options(table: &OptionTable, plan: &ClaimedOptionPlan, used: &[Use], report: &mut OptionReport) -> Vec<f64> {
    let mut prices: Vec<Option<f64>> = vec![None; table.options.len()];
    for claimed in &plan.options {
        let Some(index) = table.options.iter().position(|option| option.name == claimed.name) else {
            report.add(OptionRule::Unknown, &claimed.name, "the table has no such option".to_owned());
            continue;
        };
        if prices[index].is_some() {
            report.add(OptionRule::Unknown, &claimed.name, "it is in the plan twice".to_owned());
        }
        let (option, found) = (&table.options[index], used[index]);
        if claimed.price < 0.0 || !claimed.price.is_finite() {
            report.add(OptionRule::Prices, &claimed.name, format!("a price of {} J/s", claimed.price));
        }
        if option.capacity.is_none() && claimed.price != 0.0 {
            report.add(OptionRule::Prices, &claimed.name, "a price, but no limit that could have one".to_owned());
        }
        prices[index] = Some(if claimed.price.is_finite() { claimed.price.max(0.0) } else { 0.0 });
        if claimed.requests != found.requests {
            let detail = format!("{} requests claimed, {} in the rows", claimed.requests, found.requests);
            report.add(OptionRule::Count, &claimed.name, detail);
        }
        for (what, claimed_figure, figure, slack) in [
            ("J", claimed.energy, found.energy, joules(found.energy)),
            ("s", claimed.busy, found.busy, seconds(found.busy)),
        ] {
            if !close(claimed_figure, figure, slack) {
                let detail = format!("{claimed_figure} {what} claimed, {figure} {what} in the rows");
                report.add(OptionRule::Figures, &claimed.name, detail);
            }
        }
        let same = match (claimed.capacity, option.capacity) {
            (Some(claimed), Some(capacity)) => !exceeds_copied(claimed, capacity) && !exceeds_copied(capacity, claimed),
            (claimed, capacity) => claimed == capacity,
        };
        if !same {
            let detail =
                format!("a capacity of {:?} s claimed, {:?} s in the table", claimed.capacity, option.capacity);
            report.add(OptionRule::Figures, &claimed.name, detail);
        }
    }
    for ((option, used), price) in table.options.iter().zip(used).zip(&prices) {
        if price.is_none() {
            report.add(OptionRule::Unknown, &option.name, "the plan says nothing about it".to_owned());
        }
        // Only the rounding of a sum may exceed a capacity.
        if let Some(capacity) = option.capacity.filter(|capacity| !at_most(used.busy, *capacity, 1e-8 * capacity)) {
            let detail = format!("it works {} s and may {capacity} s", used.busy);
            report.add(OptionRule::Capacity, &option.name, detail);
        }
    }
    report.objective = used.iter().map(|used| used.energy).sum();
    prices.into_iter().map(|price| price.unwrap_or(0.0)).collect()
}

fn check_proof(table: &OptionTable, plan: &ClaimedOptionPlan, prices: &[f64], report: &mut OptionReport) {
    let objective = report.objective;
    if !close(plan.objective, objective, joules(objective)) {
        let detail = format!("{} J claimed, {objective} J in the rows", plan.objective);
        report.add(OptionRule::Objective, "plan.json", detail);
    }
    let proved = bound_by(table, prices);
    report.price_bound = proved;
    if !close(plan.price_bound, proved, joules(proved)) {
        let detail = format!("a bound of {} J claimed, the prices prove {proved} J", plan.price_bound);
        report.add(OptionRule::Prices, "plan.json", detail);
    }
    let above = !at_most(plan.bound, objective, joules(objective));
    if above || !at_most(proved.min(objective), plan.bound, joules(proved)) {
        let detail = format!("a bound of {} J; the prices prove {proved} J, the plan costs {objective} J", plan.bound);
        report.add(OptionRule::Bound, "plan.json", detail);
    }
    let gap = if plan.objective > 0.0 { (plan.objective - plan.bound) / plan.objective } else { 0.0 };
    for (what, claimed) in [("gap", plan.gap), ("gap_parts", plan.gap_parts)] {
        if !close(claimed, gap, GAP) {
            report.add(
                OptionRule::Gap,
                "plan.json",
                format!("{what} {claimed}, (objective - bound) / objective is {gap}"),
            );
        }
    }
}

/// What prices prove, by a loop of its own: whatever is done with single requests, each costs at least its least priced
/// choice, and the capacities are worth what they are worth.
fn bound_by(table: &OptionTable, prices: &[f64]) -> f64 {
    let mut bound = 0.0;
    for class in &table.classes {
        let mut least = f64::INFINITY;
        for choice in &class.choices {
            least = least.min(choice.energy + prices[choice.option] * choice.seconds);
        }
        if least.is_finite() {
            bound += least * class.requests as f64;
        }
    }
    for (option, price) in table.options.iter().zip(prices) {
        bound -= option.capacity.map_or(0.0, |capacity| capacity * price);
    }
    bound
}
