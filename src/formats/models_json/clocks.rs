//! The clock table of a family in models.json, with what may stand in it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validate::{Checks, provenance};
use crate::domain::{ClockPoint, ClockTable, PhaseFactors};

/// No factor is larger, nor smaller than its inverse.
const LARGEST_FACTOR: f64 = 1e3;
const LARGEST_MHZ: f64 = 1e5;
const LARGEST_BATCH: f64 = 1e6;

/// What other SM clocks do to the net energy (gross less idle power times time) and the time of each phase. Prefill is the
/// terms 1, i and i^2; decode is all others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClocksJson {
    /// The clock of the family's coefficients, one of the points; absent if the samples do not state it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_mhz: Option<u32>,
    /// Clocks ascending.
    pub points: Vec<ClockPointJson>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClockPointJson {
    pub sm_clock_mhz: u32,
    pub prefill: PhaseFactorsJson,
    pub decode: PhaseFactorsJson,
    /// Smallest and largest mean running batch measured at this clock.
    pub batch_size: (f64, f64),
}

/// Factors on the figures at the default clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhaseFactorsJson {
    pub net_energy: f64,
    pub time: f64,
    pub provenance: String,
}

impl From<&ClockTable> for ClocksJson {
    fn from(table: &ClockTable) -> Self {
        let factors = |factors: PhaseFactors| PhaseFactorsJson {
            net_energy: factors.net_energy,
            time: factors.time,
            provenance: factors.provenance.to_string(),
        };
        let point = |point: &ClockPoint| ClockPointJson {
            sm_clock_mhz: point.sm_clock_mhz,
            prefill: factors(point.prefill),
            decode: factors(point.decode),
            batch_size: point.batch_size,
        };
        Self { default_mhz: table.default_mhz, points: table.points.iter().map(point).collect() }
    }
}

/// The table; everything wrong goes to `checks`.
pub(super) fn table(json: &ClocksJson, checks: &mut Checks<'_>) -> ClockTable {
    let ascending = json.points.windows(2).all(|pair| pair[0].sm_clock_mhz < pair[1].sm_clock_mhz);
    if json.points.is_empty() || !ascending {
        checks.fail("clocks.points", "the clocks do not ascend".into(), "at least one clock, each once, ascending");
    }
    let mut points = Vec::new();
    for (index, json) in json.points.iter().enumerate() {
        let at = |field: &str| format!("clocks.points[{index}].{field}");
        checks.in_range(&at("sm_clock_mhz"), f64::from(json.sm_clock_mhz), 1.0, LARGEST_MHZ);
        let (low, high) = json.batch_size;
        checks.in_range(&at("batch_size[0]"), low, f64::MIN_POSITIVE, LARGEST_BATCH);
        checks.in_range(&at("batch_size[1]"), high, low, LARGEST_BATCH);
        let mut factors = |phase: &str, json: &PhaseFactorsJson| {
            for (name, factor) in [("net_energy", json.net_energy), ("time", json.time)] {
                checks.in_range(&at(&format!("{phase}.{name}")), factor, 1.0 / LARGEST_FACTOR, LARGEST_FACTOR);
            }
            let provenance = provenance(&json.provenance, &at(&format!("{phase}.provenance")), checks);
            PhaseFactors { net_energy: json.net_energy, time: json.time, provenance }
        };
        points.push(ClockPoint {
            sm_clock_mhz: json.sm_clock_mhz,
            prefill: factors("prefill", &json.prefill),
            decode: factors("decode", &json.decode),
            batch_size: json.batch_size,
        });
    }
    let table = ClockTable { default_mhz: json.default_mhz, points };
    let unchanged = |factors: &PhaseFactors| factors.net_energy == 1.0 && factors.time == 1.0;
    let default = |mhz| table.point(mhz).is_some_and(|point| unchanged(&point.prefill) && unchanged(&point.decode));
    if json.default_mhz.is_some_and(|mhz| !default(mhz)) {
        checks.fail(
            "clocks.default_mhz",
            "it is no point with factors of 1".into(),
            "name the clock of the coefficients",
        );
    }
    table
}
