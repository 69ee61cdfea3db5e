//! Why a request is where it is: what every other deployment would cost it, or why none of its instances may serve it.
//!
//! Costs are of the request alone at a full batch. A cheaper deployment that is not in use, or that would pull a job's mean
//! accuracy below its floor, is not refused here: why the plan passes it over is said where the text is made.

use std::collections::BTreeMap;
use std::fmt;

use crate::options::{Refusal, refusal};
use crate::plan::PlanProblem;
use crate::units::Seconds;

/// Why a deployment cannot serve a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    Refused(Refusal),
    /// Input and output tokens against what fits.
    Memory {
        tokens: u64,
        max_tokens: f64,
    },
    /// Earliest finish at a full batch.
    Deadline {
        earliest: Seconds,
        deadline: Seconds,
    },
    /// No node has as many free devices.
    NoDevices,
}

impl Reason {
    /// A word for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Refused(Refusal::Model | Refusal::Pinned) => "model not allowed",
            Self::Refused(Refusal::Pool) => "pool not allowed",
            Self::Refused(Refusal::AccuracyUnknown) => "accuracy unknown",
            Self::Refused(Refusal::BelowFloor { .. }) => "below the accuracy floor",
            Self::Refused(_) => "latency",
            Self::Memory { .. } => "memory",
            Self::Deadline { .. } => "deadline",
            Self::NoDevices => "no free devices",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Memory { tokens, max_tokens } => {
                write!(f, "its {tokens} tokens exceed the {max_tokens:.0} that fit memory at a full batch")
            }
            Self::Deadline { earliest, deadline } => {
                write!(
                    f,
                    "it would finish at {:.1} s at the earliest, after its deadline at {:.1} s",
                    earliest.0, deadline.0
                )
            }
            Self::NoDevices => f.write_str("no node has as many free devices"),
        }
    }
}

/// A deployment as one request sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Alternative {
    /// Index into the problem's deployments.
    pub deployment: usize,
    /// Net joules of the request at a full batch.
    pub joules: f64,
    /// Seconds it holds a batch slot.
    pub seconds: f64,
    /// Percent in the task of its job.
    pub accuracy: Option<f64>,
    pub refused: Option<Reason>,
}

/// Every deployment as `request` sees it: the eligible ones first, cheapest first.
pub fn alternatives(problem: &PlanProblem, request: usize) -> Vec<Alternative> {
    let workload = problem.workload;
    let group = &workload.groups[workload.requests.group[request] as usize];
    let job = &workload.jobs[group.job];
    let (input, output) = problem.lengths(request);
    let see = |(v, deployment): (usize, &crate::domain::Deployment)| {
        let accuracy = problem.options.accuracy[group.job][v];
        let pool = &problem.cluster.pools[deployment.pool].name;
        let seconds = deployment.rates.slot_seconds(input, output);
        let earliest = Seconds(group.release.0.max(problem.ready(v)) + seconds);
        let refused = if let Some(refusal) = refusal(job, group, deployment, pool, accuracy) {
            Some(Reason::Refused(refusal))
        } else if problem.most_instances(v) == 0 {
            Some(Reason::NoDevices)
        } else if !deployment.fits(input, output) {
            let tokens = u64::from(input) + u64::from(output);
            Some(Reason::Memory { tokens, max_tokens: deployment.max_tokens })
        } else if earliest > group.deadline {
            Some(Reason::Deadline { earliest, deadline: group.deadline })
        } else {
            None
        };
        Alternative { deployment: v, joules: deployment.rates.energy(input, output), seconds, accuracy, refused }
    };
    let mut all: Vec<Alternative> = problem.deployments().iter().enumerate().map(see).collect();
    let key = |a: &Alternative| (a.refused.is_some(), a.deployment);
    all.sort_by(|a, b| {
        let by_cost = if a.refused.is_none() && b.refused.is_none() {
            a.joules.total_cmp(&b.joules)
        } else {
            std::cmp::Ordering::Equal
        };
        key(a).0.cmp(&key(b).0).then(by_cost).then(key(a).1.cmp(&key(b).1))
    });
    all
}

/// How many deployments refuse a request for each kind of reason.
pub fn refusals(alternatives: &[Alternative]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for reason in alternatives.iter().filter_map(|alternative| alternative.refused) {
        *counts.entry(reason.kind()).or_default() += 1;
    }
    counts
}
