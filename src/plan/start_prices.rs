//! What single requests pay for a whole start of a deployment.
//!
//! Divided instances serve a few choice requests at a sliver of a start. Whole ones do not: what a class c gives to v is no
//! more than all of it, and nothing before v has started,
//!
//! ```text
//! (3b)  x_cv <= sum of s_vw over the windows w in which c may be served or earlier
//! ```
//!
//! This holds for any set of requests. The price of the row is earned by the starts and paid by the members of c, each an
//! equal share, where v serves them.

use super::classes::Classes;
use super::problem::PlanProblem;

/// Prices of rows (3b), in units of the goal; none by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StartPrices {
    /// Class of each request; empty where nothing is charged.
    class_of: Vec<u32>,
    /// By class: deployments, and what a member pays to be served there.
    charges: Vec<Vec<(usize, f64)>>,
    /// By (deployment, window): what a start earns.
    earned: Vec<Vec<f64>>,
}

impl StartPrices {
    /// From the prices of rows, by (class, deployment).
    pub fn new(problem: &PlanProblem, classes: &Classes, rows: &[(usize, usize, f64)]) -> Self {
        if rows.is_empty() {
            return Self::default();
        }
        let mut class_of = vec![0; problem.workload.requests.len()];
        for (c, class) in classes.list.iter().enumerate() {
            classes.members(class).iter().for_each(|&request| class_of[request as usize] = c as u32);
        }
        let mut charges = vec![Vec::new(); classes.list.len()];
        let mut earned = vec![vec![0.0; problem.windows.len()]; problem.deployments().len()];
        for &(c, v, price) in rows {
            let class = &classes.list[c];
            charges[c].push((v, price / class.count as f64));
            let end = problem.kinds[class.kind].end_window;
            // Outward: the charges were divided in rounded arithmetic.
            earned[v][..end].iter_mut().for_each(|earned| *earned += price * (1.0 + 1e-12));
        }
        Self { class_of, charges, earned }
    }

    /// What a start of `v` in a window earns.
    pub fn earned(&self, v: usize, window: usize) -> f64 {
        self.earned.get(v).map_or(0.0, |row| row[window])
    }

    /// Class of a request; `None` where nothing is charged.
    pub fn class_of(&self, request: u32) -> Option<u32> {
        self.class_of.get(request as usize).copied()
    }

    /// What a member of `class` pays to be served by `v`.
    pub fn charge(&self, class: u32, v: usize) -> f64 {
        let charges = self.charges[class as usize].iter();
        charges.filter(|(charged, _)| *charged == v).map(|(_, charge)| charge).sum()
    }

    /// The classes of these requests that are charged anything.
    pub fn charged_among(&self, requests: &[u32]) -> Vec<u32> {
        let mut found: Vec<u32> = Vec::new();
        for class in requests.iter().filter_map(|&request| self.class_of(request)) {
            if !found.contains(&class) {
                found.push(class);
            }
        }
        found.retain(|&class| !self.charges[class as usize].is_empty());
        found
    }
}
