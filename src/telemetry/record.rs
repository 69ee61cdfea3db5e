//! Recording: what the meters of this node read, at an interval, until somebody says stop.
//!
//! Devices say their power of the moment. A package has only an energy counter: its power is the mean since the reading
//! before that it has moved from, and its row stands for the middle between the two. Times are the wall clock's at the
//! start plus monotonic time, so that they never go back. Memory and platform domains of RAPL are left out: a trace has
//! packages, devices and nodes.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::domain::{Channel, Reading, Scope, Timestamp};
use crate::measure::inventory::Inventory;
use crate::measure::meter::{self, SLOWEST_STEP};
use crate::measure::nvml::Gpu;
use crate::measure::{Meter, Refusal, RefusalKind};
use crate::units::{Joules, Seconds, Watts};

/// How to record.
#[derive(Clone, Debug)]
pub struct Pace {
    pub interval: Duration,
    /// Until told to stop, where absent.
    pub duration: Option<Duration>,
}

/// Meters that make the others wait are read this often at most.
const SLOW: Seconds = Seconds(1.0);

/// What is recorded.
pub struct Recorder {
    gpus: Vec<(Channel, Gpu)>,
    meters: Vec<Metered>,
    phase: Option<String>,
    start: Timestamp,
    origin: Instant,
    /// Why a channel has no power now, as last told.
    failing: BTreeMap<Channel, String>,
}

struct Metered {
    channel: Channel,
    meter: Box<dyn Meter>,
    read_at: Option<Instant>,
    before: Option<(Instant, Joules)>,
}

impl Recorder {
    /// All devices, packages and nodes of an inventory; `start` is the wall clock's time now.
    pub fn new(inventory: Inventory, node: &str, phase: Option<String>, start: Timestamp) -> Self {
        let channel = |scope, index| Channel { node: Some(node.to_owned()), scope, index };
        let of = |gpu: Gpu| (channel(Scope::Device, Some(gpu.index)), gpu);
        let gpus: Vec<(Channel, Gpu)> = inventory.gpus.into_iter().map(of).collect();
        let devices = gpus.iter().filter_map(|(channel, _)| channel.index).max().map_or(0, |last| last + 1);
        let (mut meters, mut packages) = (Vec::new(), 0);
        for meter in inventory.meters {
            let channel = match &meter.identity().scope {
                // NVML's devices have said all by their snapshot; those of others are numbered behind them.
                meter::Scope::Device { .. } if meter.identity().source == "nvml" => continue,
                meter::Scope::Device { index, .. } => channel(Scope::Device, index.checked_add(devices)),
                meter::Scope::Node => channel(Scope::Node, None),
                meter::Scope::Package { socket } => {
                    // A package of several dies has a name that is no number; then packages are counted.
                    let index = socket.parse().unwrap_or(packages);
                    packages += 1;
                    channel(Scope::Package, Some(index))
                }
                meter::Scope::Dram { .. } | meter::Scope::Platform => continue,
            };
            // Two meters of one thing are one thing.
            if meters.iter().all(|there: &Metered| there.channel != channel) {
                meters.push(Metered { channel, meter, read_at: None, before: None });
            }
        }
        Self { gpus, meters, phase, start, origin: Instant::now(), failing: BTreeMap::new() }
    }

    /// What is recorded, and the time between two of its readings at a pace.
    pub fn channels(&self, pace: &Pace) -> impl Iterator<Item = (&Channel, Seconds)> {
        let interval = Seconds(pace.interval.as_secs_f64());
        let of = move |metered: &Metered| if metered.meter.is_slow() { interval.max(SLOW) } else { interval };
        let gpus = self.gpus.iter().map(move |(channel, _)| (channel, interval));
        gpus.chain(self.meters.iter().map(move |metered| (&metered.channel, of(metered))))
    }

    /// Reads everything once. `told` hears once why a channel stopped saying its power.
    fn read(&mut self, told: &mut dyn FnMut(&Channel, &str)) -> Vec<(Channel, Reading)> {
        let mut rows = Vec::new();
        for (channel, gpu) in &self.gpus {
            let begun = Instant::now();
            let snapshot = gpu.snapshot();
            // The figures are of some moment during the call.
            let mut row = Reading::at(at(self.start, self.origin, begun + begun.elapsed() / 2));
            let why = match snapshot {
                Ok(snapshot) => {
                    row.power = snapshot.power;
                    row.utilization_pct = snapshot.utilization_pct.map(f64::from);
                    row.memory_used_mib = snapshot.memory_used_mib.map(|mib| mib as f64);
                    row.sm_clock_mhz = snapshot.sm_clock_mhz.map(f64::from);
                    row.temperature_c = snapshot.temperature_c.map(f64::from);
                    row.power.is_none().then(|| "the device does not say its power".to_owned())
                }
                Err(refusal) => Some(refusal.to_string()),
            };
            tell(&mut self.failing, channel, why, told);
            rows.push((channel.clone(), row));
        }
        for metered in &mut self.meters {
            let now = Instant::now();
            if metered.meter.is_slow() && metered.read_at.is_some_and(|then| (now - then).as_secs_f64() < SLOW.0) {
                continue;
            }
            metered.read_at = Some(now);
            let since = metered.before.map_or(now, |(then, _)| then);
            let (power, why) = match metered.power(now) {
                Ok(None) => continue,
                Ok(power) => (power, None),
                Err(refusal) => (None, Some(refusal.to_string())),
            };
            tell(&mut self.failing, &metered.channel, why, told);
            let middle = since + now.saturating_duration_since(since) / 2;
            let row = Reading { power, ..Reading::at(at(self.start, self.origin, middle)) };
            rows.push((metered.channel.clone(), row));
        }
        for (_, row) in &mut rows {
            row.phase.clone_from(&self.phase);
        }
        rows
    }
}

impl Metered {
    /// `None` before a counter has been seen to move.
    fn power(&mut self, now: Instant) -> Result<Option<Watts>, Refusal> {
        let joules = match self.meter.read() {
            Ok(meter::Reading::Power(power)) => return Ok(Some(power)),
            Ok(meter::Reading::Counter(joules)) => joules,
            Err(refusal) => {
                self.before = None;
                return Err(refusal);
            }
        };
        let Some((then, before)) = self.before.replace((now, joules)) else { return Ok(None) };
        let time = Seconds(now.duration_since(then).as_secs_f64());
        let name = &self.meter.identity().name;
        if joules == before {
            if time < SLOWEST_STEP {
                self.before = Some((then, before)); // between two steps of the counter
                return Ok(None);
            }
            // No package draws nothing; virtual machines show such counters.
            return Err(Refusal::new(RefusalKind::Unreadable, format!("{name}: the counter stands still"), ""));
        }
        match self.meter.identity().method.added(before, joules, time) {
            // In milliwatts, as devices say theirs.
            Ok(added) => Ok(Some(Watts((1e3 * (added / time).0).round() / 1e3))),
            Err(refusal) => Err(Refusal { what: format!("{name}: {}", refusal.what), ..refusal }),
        }
    }
}

/// Takes the rows of one sample.
type Write<'a> = dyn FnMut(&[(Channel, Reading)]) -> io::Result<()> + 'a;

/// Reads at the interval and hands each sample to `write`, until the time is over or `stop` says so or is gone.
///
/// # Errors
/// Those of `write`.
pub fn record(
    recorder: &mut Recorder,
    pace: &Pace,
    stop: &Receiver<()>,
    told: &mut dyn FnMut(&Channel, &str),
    write: &mut Write<'_>,
) -> io::Result<()> {
    let mut due = recorder.origin;
    let end = pace.duration.and_then(|duration| recorder.origin.checked_add(duration));
    loop {
        write(&recorder.read(told))?;
        let now = Instant::now();
        due += pace.interval;
        if due < now {
            due = now; // a late sample is not made up for by several in a row
        }
        if end.is_some_and(|end| due > end) {
            return Ok(());
        }
        match stop.recv_timeout(due - now) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// To the millisecond: a reading itself takes about as long.
fn at(start: Timestamp, origin: Instant, instant: Instant) -> Timestamp {
    let exact = start.plus(Seconds(instant.saturating_duration_since(origin).as_secs_f64()));
    Timestamp::from_micros(exact.micros() / 1000 * 1000).unwrap_or(exact)
}

/// Once for each new reason; silence when a channel is well again.
fn tell(
    failing: &mut BTreeMap<Channel, String>,
    channel: &Channel,
    why: Option<String>,
    told: &mut dyn FnMut(&Channel, &str),
) {
    match why {
        None => {
            failing.remove(channel);
        }
        Some(why) => {
            if failing.get(channel) != Some(&why) {
                told(channel, &why);
                failing.insert(channel.clone(), why);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Provenance;
    use crate::measure::meter::Identity;

    /// Answers with one scripted value after another.
    struct Scripted {
        identity: Identity,
        joules: Vec<Option<f64>>,
    }

    impl Meter for Scripted {
        fn identity(&self) -> &Identity {
            &self.identity
        }

        fn read(&mut self) -> Result<meter::Reading, Refusal> {
            let next = if self.joules.is_empty() { None } else { self.joules.remove(0) };
            match next {
                Some(joules) => Ok(meter::Reading::Counter(Joules(joules))),
                None => Err(Refusal::new(RefusalKind::Unreadable, "gone", "")),
            }
        }
    }

    fn recorder(joules: &[Option<f64>]) -> Recorder {
        let method = meter::Method::Counter { wraps_at: Some(Joules(10_000.0)), max_power: Watts(5_000.0) };
        let identity = Identity {
            name: "rapl:package-1".into(),
            source: "rapl",
            scope: meter::Scope::Package { socket: "1".into() },
            method,
            resolution: 1e-6,
            provenance: Provenance::Measured,
        };
        let meter: Box<dyn Meter> = Box::new(Scripted { identity, joules: joules.to_vec() });
        let inventory = Inventory {
            library: Err(Refusal::new(RefusalKind::Absent, "", "")),
            gpus: Vec::new(),
            meters: vec![meter],
            refused: Vec::new(),
        };
        Recorder::new(inventory, "n1", Some("load".into()), Timestamp::from_seconds(100.0).unwrap())
    }

    #[test]
    fn counters_become_powers_and_their_failures_gaps() {
        let mut recorder = recorder(&[Some(9_990.0), Some(9_995.0), Some(3.0), None, None, Some(5.0), Some(6.0)]);
        let pace = Pace { interval: Duration::from_millis(20), duration: Some(Duration::from_millis(125)) };
        let channels: Vec<String> = recorder.channels(&pace).map(|(channel, _)| channel.to_string()).collect();
        assert_eq!(channels, ["n1 package 1"]);
        let (mut rows, mut reasons) = (Vec::new(), Vec::new());
        let (_keep, stop) = std::sync::mpsc::channel();
        let mut write = |sample: &[(Channel, Reading)]| {
            rows.extend(sample.iter().map(|(_, reading)| reading.clone()));
            Ok(())
        };
        record(&mut recorder, &pace, &stop, &mut |_, why| reasons.push(why.to_owned()), &mut write).unwrap();
        let known: Vec<bool> = rows.iter().map(|row| row.power.is_some()).collect();
        assert_eq!(known, [true, true, false, false, true], "{rows:?}");
        // 5 J in 20 ms or, on a busy machine, a little more; 8 J across the wrap-around.
        assert!(rows[0].power.unwrap().0 > 50.0 && rows[0].power.unwrap().0 <= 300.0, "{rows:?}");
        assert!(rows[1].power.unwrap().0 > 80.0, "{rows:?}");
        assert!(rows.iter().all(|row| row.phase.as_deref() == Some("load")));
        assert!(rows.windows(2).all(|pair| pair[0].at < pair[1].at));
        assert_eq!(reasons, ["gone"], "told once");
    }

    #[test]
    fn stop_ends_it_and_a_reset_is_no_power() {
        let mut recorder = recorder(&[Some(901.0), Some(1.0), Some(2.0)]);
        recorder.meters[0].before = Some((Instant::now(), Joules(900.0)));
        std::thread::sleep(Duration::from_millis(5));
        assert!(recorder.meters[0].power(Instant::now()).is_ok());
        std::thread::sleep(Duration::from_millis(5));
        // 9,100 J in 5 ms are 1.8 MW: no wrap-around.
        assert_eq!(recorder.meters[0].power(Instant::now()).unwrap_err().kind, RefusalKind::Reset);
        let (tell, stop) = std::sync::mpsc::channel();
        tell.send(()).unwrap();
        let pace = Pace { interval: Duration::from_secs(60), duration: None };
        record(&mut recorder, &pace, &stop, &mut |_, _| (), &mut |_| Ok(())).unwrap();
    }

    #[test]
    fn a_counter_that_stands_still_or_may_have_gone_round_says_no_power() {
        let mut recorder = recorder(&[Some(5.0), Some(5.0), Some(6.0), Some(7.0)]);
        let metered = &mut recorder.meters[0];
        let now = Instant::now();
        let after = |milliseconds| now + Duration::from_millis(milliseconds);
        metered.before = Some((now, Joules(5.0)));
        assert_eq!(metered.power(after(1_500)).unwrap_err().kind, RefusalKind::Unreadable);
        // Between two steps: the next is a mean since the one before.
        assert_eq!(metered.power(after(1_510)), Ok(None));
        assert_eq!(metered.power(after(1_520)), Ok(Some(Watts(50.0))));
        // 5 kW for two minutes are 60 rounds.
        let refusal = metered.power(after(121_520)).unwrap_err();
        assert!(refusal.kind == RefusalKind::Reset && refusal.what.contains("gone round"), "{refusal}");
    }
}
