//! Constants of a deployment: what a start costs and what fits its memory.

use super::OptionsInput;
use crate::domain::deployment::{MEMORY_SHARE, rates};
use crate::domain::model::Case;
use crate::domain::{BatchPoint, Deployment, FamilyModel, Pool, Rates};
use crate::units::{Joules, Seconds, Watts};

/// The drain after the last full batch, as a share of the longest request's time in its slot.
pub const TAIL_SHARE: f64 = 0.8;

/// `None` if the weights do not fit or a term has no coefficients on the six features. `sm_clock_mhz` is a clock of the
/// family's table, or `None` where none is set.
pub(super) fn deployment(
    input: &OptionsInput,
    pool_index: usize,
    pool: &Pool,
    family: &FamilyModel,
    point: &BatchPoint,
    sm_clock_mhz: Option<u32>,
) -> Option<Deployment> {
    // Latencies were measured at the default clock.
    let default_clock = sm_clock_mhz == family.clocks.as_ref().and_then(|table| table.default_mhz);
    let latency = |measured: Option<Seconds>| measured.filter(|_| sm_clock_mhz.is_none() || default_clock);
    let clock = sm_clock_mhz.map_or(String::new(), |clock| format!("@{clock}MHz"));
    let at_clock;
    let family = match sm_clock_mhz {
        Some(clock) => {
            at_clock = family.at_clock(clock)?;
            &at_clock
        }
        None => family,
    };
    let batch_size = point.batch_size.min(input.workload.requests.len() as f64).max(1.0);
    let rates_at_batch = rates(family, batch_size, input.safety)?;
    let max_tokens = max_tokens(pool, family, batch_size)?;
    let load = load_seconds(pool, family);
    let net_load_power = (family.load_power.value - family.idle_power.value).max(Watts::ZERO);
    let (tail_time, tail_energy) = tail(input, family, &rates_at_batch, max_tokens);
    let peak_power = input.cluster.site.power_cap.is_some().then(|| {
        let drain = if tail_time.0 > 0.0 { tail_energy.0 * (1.0 + input.safety) / tail_time.0 } else { 0.0 };
        let busiest = busiest_power(input, &rates_at_batch, max_tokens);
        family.idle_power.value + Watts(net_load_power.0.max(drain).max(busiest))
    });
    Some(Deployment {
        id: format!("{}/seqs{}{clock}@{}", family.key, point.max_num_seqs, pool.name),
        family: family.key.clone(),
        pool: pool_index,
        devices: family.key.devices,
        max_num_seqs: point.max_num_seqs,
        sm_clock_mhz,
        batch_size,
        rates: rates_at_batch,
        net_energy_low: family.net_energy_coefficients(batch_size, Case::Low)?,
        net_energy_high: family.net_energy_coefficients(batch_size, Case::High)?,
        net_energy_estimated: family.estimated_energy_coefficients(batch_size)?,
        load_time: load * (1.0 + input.safety),
        load_energy: net_load_power * load,
        tail_time,
        tail_energy,
        max_tokens,
        ttft_p99: latency(point.ttft_p99),
        tbt_p99: latency(point.tbt_p99),
        support: family.support,
        idle_power: family.idle_power.value,
        peak_power,
    })
}

/// Largest input + output that fits `batch_size` times; infinite where the memory need is unknown.
fn max_tokens(pool: &Pool, family: &FamilyModel, batch_size: f64) -> Option<f64> {
    let Some(weights) = family.weights else { return Some(f64::INFINITY) };
    let usable = pool.device_memory.0 * f64::from(family.key.devices) * MEMORY_SHARE - weights.value.0;
    if usable <= 0.0 {
        return None;
    }
    Some(family.kv_bytes_per_token.map_or(f64::INFINITY, |kv| usable / (batch_size * kv.value.0)))
}

/// Measured or estimated load, or what reading the weights from storage takes, whichever is longer.
fn load_seconds(pool: &Pool, family: &FamilyModel) -> Seconds {
    let reading = match (family.weights, pool.storage_gib_per_s) {
        (Some(weights), Some(rate)) => Seconds(weights.value.0 / f64::from(1 << 30) / rate),
        _ => Seconds::ZERO,
    };
    family.load_time.value.max(reading)
}

/// Seconds and net joules of the drain, from the longest request that fits.
fn tail(input: &OptionsInput, family: &FamilyModel, rates_at_batch: &Rates, max_tokens: f64) -> (Seconds, Joules) {
    let requests = &input.workload.requests;
    let mut longest: Option<(f64, u32, u32)> = None;
    for (&i, &o) in requests.input_tokens.iter().zip(&requests.output_tokens) {
        if f64::from(i) + f64::from(o) > max_tokens {
            continue;
        }
        let seconds = rates_at_batch.slot_seconds(i, o);
        if longest.is_none_or(|(most, _, _)| seconds > most) {
            longest = Some((seconds, i, o));
        }
    }
    let (Some((seconds, i, o)), Some(alone)) = (longest, rates(family, 1.0, 0.0)) else {
        return (Seconds::ZERO, Joules::ZERO);
    };
    let tail = Seconds(TAIL_SHARE * seconds);
    let busy = alone.seconds(i, o);
    let power = if busy > 0.0 { (alone.energy(i, o) / busy).max(0.0) } else { 0.0 };
    (tail, Joules(tail.0 / (1.0 + input.safety) * power))
}

/// Most net watts of an instance whose slots are all filled with one request of the queue: e / T, without the margin on
/// seconds, for work done sooner draws more.
fn busiest_power(input: &OptionsInput, rates: &Rates, max_tokens: f64) -> f64 {
    let requests = &input.workload.requests;
    let lengths = requests.input_tokens.iter().zip(&requests.output_tokens);
    let fits = lengths.filter(|(i, o)| f64::from(**i) + f64::from(**o) <= max_tokens);
    let power = |(&i, &o): (&u32, &u32)| {
        let seconds = rates.seconds(i, o);
        if seconds > 0.0 { rates.energy(i, o) / seconds } else { 0.0 }
    };
    fits.map(power).fold(0.0, f64::max) * (1.0 + input.safety)
}
