//! `plan --objective zeta=Z`: the reference paper's objective on the command line.

use std::collections::BTreeMap;
use std::time::Instant;

use super::exit::Failure;
use crate::domain::Goal;
use crate::formats::plan_json::ZetaJson;
use crate::plan::baselines::{self, BaselineResult};
use crate::plan::prices::{self, Prices, request_pass};
use crate::plan::zeta::{Formulation, Zeta, ZetaError, ZetaPlan, plan};
use crate::plan::{Infeasibility, Plan, PlanProblem, Settings, Verdict};

/// What `--objective` names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    Of(Goal),
    Zeta(f64),
}

impl Objective {
    /// What the joules of the plan stand for; the paper's objective counts them as they are.
    pub fn goal(self) -> Goal {
        match self {
            Self::Of(goal) => goal,
            Self::Zeta(_) => Goal::Energy,
        }
    }
}

/// `energy`, `carbon`, `cost`, or `zeta=Z` with Z from 0 to 1.
pub fn objective(text: &str) -> Result<Objective, String> {
    let goal = Goal::ALL.into_iter().find(|goal| goal.name() == text);
    let weight = text.strip_prefix("zeta=").and_then(|weight| weight.parse().ok());
    goal.map(Objective::Of)
        .or_else(|| weight.filter(|weight| (0.0..=1.0).contains(weight)).map(Objective::Zeta))
        .ok_or_else(|| "not energy, carbon, cost or zeta=Z with Z from 0 to 1".to_owned())
}

/// `MODEL=SHARE`, the share from 0 to 1.
pub fn model_share(text: &str) -> Result<(String, f64), String> {
    let parsed = text.rsplit_once('=').and_then(|(model, share)| Some((model.to_owned(), share.parse().ok()?)));
    parsed
        .filter(|(model, share)| !model.is_empty() && (0.0..=1.0).contains(share))
        .ok_or_else(|| "not MODEL=SHARE with a share from 0 to 1".to_owned())
}

/// What is asked for; `None` where joules are minimised.
pub fn asked(objective: Objective, shares: &[(String, f64)]) -> anyhow::Result<Option<Zeta>> {
    let Objective::Zeta(weight) = objective else {
        if shares.is_empty() {
            return Ok(None);
        }
        return Err(Failure::usage("--model-share belongs to --objective zeta=Z"));
    };
    let by_model: BTreeMap<String, f64> = shares.iter().cloned().collect();
    if by_model.len() < shares.len() {
        return Err(Failure::usage("--model-share: a model stands twice"));
    }
    if by_model.values().sum::<f64>() > 1.0 + 1e-9 {
        return Err(Failure::usage("--model-share: the shares are more than all requests; 1 in all at most"));
    }
    Ok(Some(Zeta { weight, shares: by_model }))
}

/// A verdict in the paper's objective.
pub struct Decided {
    pub verdict: Verdict,
    pub baselines: BTreeMap<String, BaselineResult>,
    /// Objective, bound and constants of the plan, if there is one.
    pub figures: Option<(f64, f64, ZetaJson)>,
    /// What each baseline scores in the same objective.
    pub scores: BTreeMap<String, f64>,
}

/// Plans by the paper's objective, and the baselines beside it if asked for.
pub fn decide(problem: &PlanProblem, zeta: &Zeta, settings: &Settings, seed: u64) -> anyhow::Result<Decided> {
    let deadline = Instant::now() + settings.time_limit;
    let free = request_pass(problem, &Prices::zero(problem), None, prices::Objective::Energy);
    let mut decided = Decided {
        verdict: Verdict::Unknown(String::new()),
        baselines: BTreeMap::new(),
        figures: None,
        scores: BTreeMap::new(),
    };
    if !free.unservable.is_empty() {
        decided.verdict = Verdict::Infeasible(Infeasibility::Unservable(free.unservable));
        return Ok(decided);
    }
    let formulation = Formulation::new(problem, zeta).map_err(|error| Failure::usage(error.to_string()))?;
    match plan(&formulation, deadline) {
        Ok(found) => {
            let constants = ZetaJson {
                zeta: zeta.weight,
                max_energy_j: formulation.maxima.energy,
                max_accuracy_tokens: formulation.maxima.accuracy,
                model_shares: zeta.shares.clone(),
            };
            decided.figures = Some((found.objective, found.bound, constants));
            decided.verdict = Verdict::Planned(Box::new(proved(found, free.total, settings)));
        }
        Err(why @ (ZetaError::UnknownModel(_) | ZetaError::NoAccuracy(_))) => {
            return Err(Failure::usage(why.to_string()));
        }
        Err(why) => decided.verdict = Verdict::Unknown(why.to_string()),
    }
    if settings.baselines {
        decided.baselines = baselines::run(problem, settings, seed);
        let score = |(name, result): (&String, &BaselineResult)| {
            let schedule = &result.priced.as_ref()?.schedule;
            let served = schedule.assignment.iter().map(|&j| schedule.instances[j as usize].deployment as u16);
            Some((name.clone(), formulation.objective(&served.collect::<Vec<_>>())))
        };
        decided.scores = decided.baselines.iter().filter_map(score).collect();
    }
    Ok(decided)
}

/// `least_joules`: what no plan goes below.
fn proved(found: ZetaPlan, least_joules: f64, settings: &Settings) -> Plan {
    let gap = if found.objective == 0.0 { 0.0 } else { (found.objective - found.bound) / found.objective.abs() };
    let bound = least_joules.min(found.priced.objective());
    Plan {
        bound,
        bound_j: bound,
        bound_by: "exact assignment of requests at the prices of shares, floors and device-seconds",
        gap,
        merging: 0.0,
        integer: 0.0,
        placement: gap,
        within_gap: gap <= settings.gap,
        shadow_prices: Vec::new(),
        priced: found.priced,
    }
}
