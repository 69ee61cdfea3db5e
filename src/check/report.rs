//! What the checker found: coded violations, bounded per rule, and the totals it arrived at itself.

use std::collections::BTreeMap;
use std::fmt;

use super::claims::ClaimedEnergy;
use crate::units::{Joules, Seconds};

/// At most this many violations of one rule are described; the rest are counted.
pub const PER_RULE: usize = 50;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// A rule of a valid plan. Its code is stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $($(#[$doc])* $name,)*
        }

        impl Rule {
            pub const ALL: &[Rule] = &[$(Rule::$name,)*];

            pub fn code(self) -> &'static str {
                match self {
                    $(Rule::$name => $code,)*
                }
            }
        }
    };
}

rules! {
    /// Every request is assigned.
    Dropped = "C-DROPPED",
    /// No request is assigned twice.
    Doubled = "C-DOUBLED",
    /// Every request, instance, deployment, pool, node and job named exists, once.
    Unknown = "C-UNKNOWN",
    /// Counts of requests, instances and nodes are those of the rows.
    Count = "C-COUNT",
    /// A deployment is one that models and cluster offer.
    Deployment = "C-DEPLOYMENT",
    /// Its rates and constants follow from models, cluster and workload.
    Constants = "C-CONSTANTS",
    /// An instance runs in its deployment's pool.
    DevicePool = "C-DEVICE-POOL",
    /// It has as many devices as its family needs.
    DeviceCount = "C-DEVICE-COUNT",
    /// Its devices exist on its node, each named once.
    DeviceIndex = "C-DEVICE-INDEX",
    /// None of them is in use by others.
    DeviceBusy = "C-DEVICE-BUSY",
    /// None of them is used before others who hold it at the start are done.
    DeviceHeld = "C-DEVICE-HELD",
    /// None of them is used by two instances at once.
    DeviceOverlap = "C-DEVICE-OVERLAP",
    /// Start and end are finite, in order and not before the plan starts.
    Times = "C-TIMES",
    /// On a node that can sleep an instance lies within a powered interval.
    Asleep = "C-ASLEEP",
    /// A node is on a wake time after it begins to wake, and does not begin before the plan starts.
    Wake = "C-WAKE",
    /// A node sleeps again at the end of its last instance, and is not woken for none.
    Off = "C-OFF",
    /// Powered intervals of one node do not overlap.
    PowerOverlap = "C-POWER-OVERLAP",
    /// A node that cannot sleep has no powered intervals.
    NoSleep = "C-NO-SLEEP",
    /// All nodes together stay within the power cap, less what others draw and its margin.
    PowerCap = "C-POWER-CAP",
    /// What others are said to draw is a power at every instant.
    Background = "C-BACKGROUND",
    /// Idle joules of a powered interval.
    IdleEnergy = "C-IDLE-ENERGY",
    /// Wake joules of a powered interval.
    WakeEnergy = "C-WAKE-ENERGY",
    /// A request fits the memory of its deployment at the full batch.
    Memory = "C-MEMORY",
    /// A request finishes by its deadline.
    Deadline = "C-DEADLINE",
    /// Deadlines hold with the stated confidence where outputs are predicted.
    Confidence = "C-CONFIDENCE",
    /// An instance ends when its list schedule does.
    End = "C-END",
    /// A request can run after its release and before its instance ends.
    Release = "C-RELEASE",
    /// A job finishes when its last request does.
    JobFinish = "C-JOB-FINISH",
    /// The plan ends when its last request does.
    Makespan = "C-MAKESPAN",
    /// A request is served at its own accuracy floor.
    Floor = "C-FLOOR",
    /// A job's mean accuracy reaches its floor.
    MeanFloor = "C-MEAN-FLOOR",
    /// Where there is a floor, the serving model has a figure for the task.
    AccuracyMissing = "C-ACCURACY-MISSING",
    /// The mean accuracy stated for a job.
    JobAccuracy = "C-JOB-ACCURACY",
    /// Time to first token, 99th percentile.
    Ttft = "C-TTFT",
    /// Time between tokens, 99th percentile.
    Tbt = "C-TBT",
    /// The job allows the model.
    Model = "C-MODEL",
    /// The job allows the pool.
    Pool = "C-POOL",
    /// The request's own model policy allows the model.
    Pinned = "C-PINNED",
    /// Release (or wake and load) and a slot at the full batch fit before the deadline.
    Window = "C-WINDOW",
    /// Active joules of an instance.
    InstanceEnergy = "C-INSTANCE-ENERGY",
    /// Load and tail joules of an instance.
    LoadEnergy = "C-LOAD-ENERGY",
    /// Active joules of a job.
    JobEnergy = "C-JOB-ENERGY",
    /// A part of the objective.
    EnergyPart = "C-ENERGY-PART",
    /// The objective.
    Objective = "C-OBJECTIVE",
    /// The reference paper's objective, its maxima and its bound, where it is minimised.
    Zeta = "C-ZETA",
    /// Each model gets the share of the requests it was promised.
    ModelShare = "C-MODEL-SHARE",
    /// The objective in grams or money, where one of them is minimised.
    Weighted = "C-WEIGHTED",
    /// The bound is not above the objective.
    Bound = "C-BOUND",
    /// gap = (objective - bound) / objective.
    Gap = "C-GAP",
    /// The parts of the gap sum to it.
    GapParts = "C-GAP-PARTS",
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    /// The instance, request, job, node or deployment concerned.
    pub subject: String,
    /// Claimed against recomputed, with units.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.rule, self.subject, self.detail)
    }
}

/// What a job gets, recomputed.
#[derive(Clone, Debug, PartialEq)]
pub struct JobTotals {
    pub job: String,
    pub requests: usize,
    /// `None` if no request of it is served.
    pub finish: Option<Seconds>,
    pub mean_accuracy: Option<f64>,
    pub energy: Joules,
}

/// The plan's totals, recomputed.
#[derive(Clone, Debug, PartialEq)]
pub struct Totals {
    /// Rows of known requests on known instances.
    pub requests: usize,
    pub instances: usize,
    pub nodes_used: usize,
    pub makespan: Seconds,
    pub energy: ClaimedEnergy,
    /// Sum of the parts.
    pub objective: Joules,
    /// What is minimised, where that is not energy and can be known.
    pub weighted: Option<f64>,
    /// In the workload's order.
    pub jobs: Vec<JobTotals>,
}

/// The verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// By rule, then in the order found; at most `PER_RULE` of each.
    pub violations: Vec<Violation>,
    /// Violations of a rule beyond those listed.
    pub omitted: BTreeMap<Rule, usize>,
    pub totals: Totals,
}

impl Report {
    pub fn is_valid(&self) -> bool {
        self.violations.is_empty()
    }

    /// Listed and counted.
    pub fn violation_count(&self) -> usize {
        self.violations.len() + self.omitted.values().sum::<usize>()
    }

    pub fn breaks(&self, rule: Rule) -> bool {
        self.violations.iter().any(|violation| violation.rule == rule)
    }
}

/// Collects violations; only those that will be listed are put into words.
#[derive(Debug, Default)]
pub(super) struct Log {
    listed: BTreeMap<Rule, Vec<Violation>>,
    omitted: BTreeMap<Rule, usize>,
}

impl Log {
    /// `words` gives subject and detail.
    pub(super) fn add(&mut self, rule: Rule, words: impl FnOnce() -> (String, String)) {
        let listed = self.listed.entry(rule).or_default();
        if listed.len() < PER_RULE {
            let (subject, detail) = words();
            listed.push(Violation { rule, subject, detail });
        } else {
            *self.omitted.entry(rule).or_default() += 1;
        }
    }

    pub(super) fn finish(self, totals: Totals) -> Report {
        Report { violations: self.listed.into_values().flatten().collect(), omitted: self.omitted, totals }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_distinct_and_a_flood_is_counted() {
        let codes: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.code()).collect();
        assert_eq!(codes.len(), Rule::ALL.len());

        let mut log = Log::default();
        for request in 0..PER_RULE + 7 {
            log.add(Rule::Deadline, || (request.to_string(), String::new()));
        }
        let totals = Totals {
            requests: 0,
            instances: 0,
            nodes_used: 0,
            makespan: Seconds::ZERO,
            energy: ClaimedEnergy::default(),
            objective: Joules::ZERO,
            weighted: None,
            jobs: vec![],
        };
        let report = log.finish(totals);
        assert_eq!(report.violations.len(), PER_RULE);
        assert_eq!(report.omitted.get(&Rule::Deadline), Some(&7));
        assert_eq!(report.violation_count(), PER_RULE + 7);
        assert!(!report.is_valid());
    }
}
