//! Whether requests fit the memory of the devices that serve them.

use super::facts::Facts;
use super::report::{Log, Rule};
use super::tolerance::exceeds_copied;

/// Rule `C-MEMORY`: input + output tokens, as often as the full batch, fit the engine's share of the instance's memory
/// beside the weights. Where weights or KV-cache size are unknown there is nothing to check.
pub(super) fn check_memory(facts: &Facts, log: &mut Log) {
    for index in 0..facts.instances.len() {
        let Some(deployment) = facts.deployment(index) else { continue };
        let limit = deployment.max_tokens;
        if limit == f64::INFINITY {
            continue;
        }
        for (request, _) in facts.served(index) {
            let (input, output) = facts.lengths(request);
            let tokens = f64::from(input) + f64::from(output);
            if exceeds_copied(tokens, limit) {
                log.add(Rule::Memory, || {
                    let (batch, instance) = (deployment.batch_size, facts.instance_name(index));
                    let detail = format!("has {tokens} tokens, {instance} holds {batch} requests of {limit} tokens");
                    (facts.name(request), detail)
                });
            }
        }
    }
}
