//! A family at an operating point in a pool, reduced to what planning needs: six coefficients and a few constants.
//!
//! The constants are fixed before solving and written to plan.json: plan, checker and bound charge the same.

use std::borrow::Cow;

use super::family::FamilyKey;
use super::features::{Features, dot, features};
use super::model::{Box2, Case, FamilyModel};
use crate::units::{Joules, Seconds, Watts};

/// Share of device memory an engine uses for weights and KV cache; the rest is reserve.
pub const MEMORY_SHARE: f64 = 0.9;

#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// Stable name in plan.json, unique in a plan.
    pub id: String,
    pub family: FamilyKey,
    /// Index into `Cluster::pools`.
    pub pool: usize,
    /// k: devices per instance.
    pub devices: u32,
    pub max_num_seqs: u32,
    /// SM clock that its jobs set; `None`: whatever the device runs at by itself.
    pub sm_clock_mhz: Option<u32>,
    /// b: mean running batch; rounded to whole slots in every `b * T`. Never more than the requests there are.
    pub batch_size: f64,
    /// What a request costs at `batch_size`.
    pub rates: Rates,
    /// Net energy at the low and high end of the estimated coefficients, and the part of it that is estimated.
    pub net_energy_low: Features,
    pub net_energy_high: Features,
    pub net_energy_estimated: Features,
    /// Load and tail of a start; J is the sum of their joules. Seconds include the safety margin; joules are net of the
    /// idle power of the instance's devices. Tail seconds only price the drain: what it really takes, the list schedule
    /// shows, so the bound does not reserve them.
    pub load_time: Seconds,
    pub load_energy: Joules,
    pub tail_time: Seconds,
    pub tail_energy: Joules,
    /// Largest input + output tokens that fit `batch_size` times into memory beside the weights.
    pub max_tokens: f64,
    pub ttft_p99: Option<Seconds>,
    pub tbt_p99: Option<Seconds>,
    pub support: Box2,
    /// Idle power of the instance's devices together, as subtracted from the gross energy.
    pub idle_power: Watts,
    /// What an instance may draw at any instant of its life, its devices' idle power included: the most of its load, of a
    /// request alone, and of a full batch of the request that draws most, done as fast as the model says. `None` where no
    /// power cap asks for it.
    pub peak_power: Option<Watts>,
}

/// Net joules and instance-seconds per request on (1, i, o, i*o, i^2, o^2), at the batch that is really reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// b
    pub batch_size: f64,
    /// e: joules per request, net of the idle power of the devices during the busy time.
    pub net_energy: Features,
    /// T: instance-seconds per request, the safety margin included.
    pub busy_time: Features,
}

impl Rates {
    /// Net joules of one request.
    pub fn energy(&self, input: u32, output: u32) -> f64 {
        dot(&self.net_energy, &features(f64::from(input), f64::from(output)))
    }

    /// Instance-seconds of one request.
    pub fn seconds(&self, input: u32, output: u32) -> f64 {
        dot(&self.busy_time, &features(f64::from(input), f64::from(output)))
    }

    /// Seconds a request holds one of the slots: with b rounded to whole slots in `b * T`, all of them together serve one
    /// request in T, as the bound takes it.
    pub fn slot_seconds(&self, input: u32, output: u32) -> f64 {
        self.slots() as f64 * self.seconds(input, output)
    }

    /// Batch slots: whole requests decoded at once.
    pub fn slots(&self) -> usize {
        (self.batch_size.round() as usize).max(1)
    }
}

impl Deployment {
    /// J: joules of a start, net of idle.
    pub fn start_energy(&self) -> Joules {
        self.load_energy + self.tail_energy
    }

    /// What an instance counts against a power cap beyond the idle power of its devices; 0 without a cap.
    pub fn net_peak_power(&self) -> f64 {
        self.peak_power.map_or(0.0, |peak| peak.0 - self.idle_power.0)
    }

    /// Whether a request of these lengths fits memory at this batch.
    pub fn fits(&self, input: u32, output: u32) -> bool {
        f64::from(input) + f64::from(output) <= self.max_tokens
    }

    /// Its family's model at its clock.
    pub fn at_its_clock<'a>(&self, model: &'a FamilyModel) -> Cow<'a, FamilyModel> {
        self.sm_clock_mhz.and_then(|clock| model.at_clock(clock)).map_or(Cow::Borrowed(model), Cow::Owned)
    }

    /// Rates of an instance that serves only `requests` requests: it cannot batch more than those. Never cheaper nor
    /// faster than at the full batch, so that the bound, which prices every request at the full batch, stays a bound.
    /// `model` is the family's; `safety` the margin on seconds.
    pub fn rates_for(&self, model: &FamilyModel, requests: usize, safety: f64) -> Rates {
        let batch = requests.max(1) as f64;
        if batch >= self.batch_size {
            return self.rates;
        }
        match rates(&self.at_its_clock(model), batch, safety) {
            Some(at_batch) => Rates {
                batch_size: batch,
                net_energy: std::array::from_fn(|k| at_batch.net_energy[k].max(self.rates.net_energy[k])),
                busy_time: std::array::from_fn(|k| at_batch.busy_time[k].max(self.rates.busy_time[k])),
            },
            None => self.rates,
        }
    }
}

/// Rates of a family at a batch; `None` if the family has terms outside (1, i, o, i*o, i^2, o^2).
pub fn rates(model: &FamilyModel, batch_size: f64, safety: f64) -> Option<Rates> {
    let net_energy = model.net_energy_coefficients(batch_size, Case::Central)?;
    let busy_time = model.busy_time_coefficients(batch_size)?.map(|seconds| seconds * (1.0 + safety));
    Some(Rates { batch_size, net_energy, busy_time })
}
