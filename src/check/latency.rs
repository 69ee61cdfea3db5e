//! Whether token latencies stay within what jobs allow.

use super::facts::Facts;
use super::report::{Log, Rule};
use super::tolerance::exceeds_copied;
use crate::units::Seconds;

/// Rules `C-TTFT` and `C-TBT`: where a job limits the time to first token or between tokens, the deployment's measured
/// 99th percentile is known and within it. Measured at the full batch; smaller instances are not assumed to be faster.
pub(super) fn check_latency(facts: &Facts, log: &mut Log) {
    for (index, instance) in facts.instances.iter().enumerate() {
        let Some(deployment) = facts.deployment(index) else { continue };
        for served in &instance.groups {
            let job = facts.job(served.example);
            let limits = [
                (Rule::Ttft, "time to first token", job.max_ttft, deployment.ttft_p99),
                (Rule::Tbt, "time between tokens", job.max_tbt, deployment.tbt_p99),
            ];
            for (rule, name, limit, measured) in limits {
                let Some(limit) = limit else { continue };
                if measured.is_none_or(|measured: Seconds| exceeds_copied(measured.0, limit.0)) {
                    let p99 = measured.map_or("unknown".to_owned(), |measured| measured.to_string());
                    let (count, instance) = (served.count, facts.instance_name(index));
                    let detail = format!("{name} at most {limit}, p99 is {p99}; {count} such on {instance}");
                    log.add(rule, || (facts.name(served.example), detail));
                }
            }
        }
    }
}
