//! `plan --telemetry`: current power judged at second 0 of the plan, and the cluster changed by it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::cli::arguments::{duration, is_stdin};
use crate::cli::exit::Failure;
use crate::cli::forecast::networks;
use crate::domain::Cluster;
use crate::forecast::Forecaster;
use crate::forecast::current::{CurrentError, Place, Question, judge};
use crate::formats::power_adjustment::{HashedFile, KeptInstance, PowerAdjustment};
use crate::formats::problems::Collector;
use crate::formats::write::sha256;
use crate::formats::{duration as times, telemetry_csv, text, timestamp};
use crate::report::power_adjustment::{power_adjustment, warnings};
use crate::units::Seconds;

/// What plan.json calls the forecaster that comes with the program.
const BUNDLED: &str = "bundled";

/// What is known of the present.
#[derive(Debug, clap::Args)]
pub struct CurrentPower {
    /// Telemetry CSV: devices that are busy now are not offered at first, what others draw is taken off the power cap, and
    /// measured idle power replaces the stated one
    #[arg(long, value_name = "FILE", conflicts_with = "options")]
    pub telemetry: Option<PathBuf>,
    /// What forecasts it, as `forecast train` writes it [default: the bundled one, and moving averages for what that does not
    /// know]
    #[cfg(feature = "networks")]
    #[arg(long, value_name = "FILE", requires = "telemetry")]
    forecaster: Option<PathBuf>,
    /// When busy devices are free: 2h, or an instant
    #[arg(long, value_name = "TIME", requires = "telemetry", conflicts_with = "busy_default")]
    busy_until: Option<String>,
    /// How long devices stay busy of which nobody says until when
    #[arg(long, value_name = "TIME", requires = "telemetry", default_value = "1h", value_parser = duration)]
    busy_default: Duration,
}

impl CurrentPower {
    /// How `cluster` is to be changed beside instances that go on running; `None` without telemetry.
    pub fn adjustment(
        &self,
        cluster: &Cluster,
        start: SystemTime,
        kept: &[KeptInstance],
    ) -> anyhow::Result<Option<PowerAdjustment>> {
        let Some(path) = &self.telemetry else { return Ok(None) };
        if is_stdin(path) {
            return Err(Failure::usage("--telemetry: plan cannot read stdin; name a file"));
        }
        let free = match &self.busy_until {
            Some(text) => {
                times::parse_point(text, start).map_err(|error| Failure::usage(format!("--busy-until: {error}")))?
            }
            None => Seconds(self.busy_default.as_secs_f64()),
        };
        let text = text::read_text(path)?;
        Ok(Some(adjustment((path, &text), self.forecaster_file(), cluster, start, free, kept)?))
    }

    #[cfg(feature = "networks")]
    fn forecaster_file(&self) -> Option<&Path> {
        self.forecaster.as_deref()
    }

    #[cfg(not(feature = "networks"))]
    fn forecaster_file(&self) -> Option<&Path> {
        None
    }
}

/// What plan.json says of current power, once more from its telemetry, of which only counts what was there then; `None` where
/// there was no telemetry.
///
/// # Errors
/// The telemetry or its forecaster is gone, or begins otherwise than it did.
pub fn again(
    claimed: &PowerAdjustment,
    cluster: &Cluster,
    start: SystemTime,
) -> anyhow::Result<Option<PowerAdjustment>> {
    let Some(telemetry) = &claimed.telemetry else { return Ok(None) };
    let changed = |path: &str| Failure::bad_data(format!("{path} changed since the plan was made"));
    let path = Path::new(&telemetry.path);
    let text = text::read_text(path)?;
    let then = usize::try_from(telemetry.bytes).ok().and_then(|bytes| text.get(..bytes));
    let then = then.filter(|then| sha256(then.as_bytes()) == telemetry.sha256);
    let then = then.ok_or_else(|| changed(&telemetry.path))?;
    let given = claimed.forecaster.as_ref().map(|file| file.path.as_str()).filter(|path| *path != BUNDLED);
    let free = Seconds(claimed.busy_for_s);
    let again = adjustment((path, then), given.map(Path::new), cluster, start, free, &claimed.kept)?;
    match &claimed.forecaster {
        Some(forecaster) if again.forecaster != claimed.forecaster => Err(changed(&forecaster.path)),
        _ => Ok(Some(again)),
    }
}

fn adjustment(
    (path, text): (&Path, &str),
    forecaster: Option<&Path>,
    cluster: &Cluster,
    start: SystemTime,
    free: Seconds,
    kept: &[KeptInstance],
) -> anyhow::Result<PowerAdjustment> {
    let trace = telemetry_csv::parse(text, path)?.trace;
    let Some(now) = timestamp::from_system(start) else {
        return Err(Failure::usage("--start: telemetry has no instants before 1970"));
    };
    let voice = voice(forecaster)?;
    let given = voice.as_ref().map(|(given, _)| given.as_ref());
    let places = places(cluster, kept);
    let question = Question { cluster, trace: &trace, now, forecaster: given, free, kept: &places };
    let current = judge(&question).map_err(|error| {
        let remedy = match error {
            CurrentError::Foreign(_) => "give telemetry of the nodes that the cluster file names",
            CurrentError::Future => "move the plan with --start, or give earlier telemetry",
        };
        let mut problems = Collector::new(path);
        problems.add("", error.to_string(), remedy);
        problems.into_error()
    })?;
    let telemetry = hashed(path.display().to_string(), text.as_bytes());
    let mut adjustment = power_adjustment(cluster, &current, telemetry, voice.map(|(_, file)| file), free);
    adjustment.kept = kept.to_vec();
    adjustment.warnings = warnings(&adjustment, cluster);
    Ok(adjustment)
}

/// Devices of instances, as far as the cluster has them.
fn places(cluster: &Cluster, kept: &[KeptInstance]) -> BTreeSet<Place> {
    let of = |kept: &KeptInstance| {
        let pool = cluster.pools.iter().position(|pool| pool.name == kept.pool)?;
        let node = cluster.pools[pool].nodes.iter().position(|node| *node == kept.node)?;
        Some(kept.device_indices.iter().map(move |&device| Place { pool, node, device }).collect::<Vec<_>>())
    };
    kept.iter().filter_map(of).flatten().collect()
}

fn hashed(path: String, bytes: &[u8]) -> HashedFile {
    HashedFile { path, bytes: bytes.len() as u64, sha256: sha256(bytes) }
}

type Voice = (Box<dyn Forecaster>, HashedFile);

/// The forecaster of a file, or the bundled one.
#[cfg(feature = "networks")]
fn voice(path: Option<&Path>) -> anyhow::Result<Option<Voice>> {
    let Some(path) = path else {
        let (trained, bytes) = crate::forecast::network::bundled()?;
        return Ok(Some((Box::new(trained), hashed(BUNDLED.to_owned(), bytes))));
    };
    let (forecaster, bytes) = networks::read(path)?;
    Ok(Some((forecaster, hashed(path.display().to_string(), &bytes))))
}

#[cfg(not(feature = "networks"))]
fn voice(_: Option<&Path>) -> anyhow::Result<Option<Voice>> {
    Ok(None)
}
