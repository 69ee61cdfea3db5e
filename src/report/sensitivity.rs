//! How a plan does if its models err as they may: for `--json`, and in a few lines.

use super::text::{count, energy, percent, plain};
use crate::formats::plan_json::Sensitivity as Json;
use crate::plan::sensitivity::Sensitivity;

pub fn json(found: &Sensitivity) -> Json {
    let [objective_p05_j, objective_p50_j, objective_p95_j] = found.objective;
    Json {
        draws: found.draws as u64,
        seed: found.seed,
        stays_best: found.stays_best,
        regret_mean: found.regret_mean,
        regret_p95: found.regret_p95,
        objective_p05_j,
        objective_p50_j,
        objective_p95_j,
        late: found.late,
        rivals: found.rivals.iter().map(|(name, wins)| (name.clone(), *wins as u64)).collect(),
        regret_to_bound: found.regret_to_bound.clone(),
        without_error: found.without_error.clone(),
    }
}

pub fn text(found: &Json) -> String {
    let mut text = format!(
        "\nsensitivity over {} of what the models may be wrong by\n\
         joules    {} to {} (90 % of the draws), median {}\n",
        count(found.draws, "draw"),
        energy(found.objective_p05_j),
        energy(found.objective_p95_j),
        energy(found.objective_p50_j)
    );
    if found.rivals.is_empty() {
        text.push_str("best      there is no rival to compare with\n");
    } else {
        text.push_str(&format!(
            "best      of {} in {} of the draws",
            count(found.rivals.len() as u64 + 1, "plan"),
            percent(found.stays_best)
        ));
        let winner = found.rivals.iter().max_by_key(|(_, wins)| **wins).filter(|(_, wins)| **wins > 0);
        if let Some((name, _)) = winner {
            text.push_str(&format!(
                "; else {} costs least most often, and saves {} on average, {} at the 95th percentile",
                plain(name),
                percent(found.regret_mean),
                percent(found.regret_p95)
            ));
        }
        text.push('\n');
    }
    let most = found.regret_to_bound.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most.is_finite() {
        let number = count(found.regret_to_bound.len() as u64, "draw");
        text.push_str(&format!("regret    {} at most, by the bounds of {number} planned anew\n", percent(most)));
    }
    text.push_str(&format!("late      a deadline is missed in {} of the draws\n", percent(found.late)));
    if !found.without_error.is_empty() {
        let names: Vec<String> = found.without_error.iter().map(|name| plain(name)).collect();
        text.push_str(&format!("taken as right, for no error of theirs is known: {}\n", names.join(", ")));
    }
    text
}
