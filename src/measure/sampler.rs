//! A thread that reads meters at an interval on the monotonic clock, and finely around the ends of a region.
//!
//! Energy of a region hangs on its two ends: there the thread reads every few milliseconds, so that a counter's step or a
//! jump of power is placed well, and in between at the interval the user chose. Conditions (clocks, temperature, who else
//! is on the device) are read by probes, twice a second at most. Nothing is decided here.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::meter::{Identity, Meter};
use super::refusal::Refusal;
use super::series::Series;
use crate::units::Seconds;

/// Between two readings while an end of a region is near.
const FINE: Duration = Duration::from_millis(5);
/// Between two readings of slow meters, at least.
const SLOW: Duration = Duration::from_secs(1);
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// Something that looks at conditions and keeps what it saw.
pub trait Probe: Send {
    fn look(&mut self, at: Seconds);
}

/// A meter and what it has read so far.
pub struct Track {
    pub identity: Identity,
    pub series: Series,
    /// Why the latest reading failed, if it did.
    pub failing: Option<Refusal>,
}

/// Meters being read. Dropped, it stops.
pub struct Sampler {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    origin: Instant,
}

struct Shared {
    tracks: Mutex<Vec<Track>>,
    pace: Mutex<Pace>,
    changed: Condvar,
}

#[derive(Clone, Copy)]
struct Pace {
    fine: bool,
    stop: bool,
}

impl Sampler {
    /// Starts reading, finely at first.
    pub fn start(meters: Vec<Box<dyn Meter>>, mut probes: Vec<Box<dyn Probe>>, interval: Duration) -> Self {
        let origin = Instant::now();
        let interval_of = |meter: &dyn Meter| if meter.is_slow() { interval.max(SLOW) } else { interval };
        let track = |meter: &dyn Meter| Track {
            identity: meter.identity().clone(),
            series: Series::new(meter.identity().method, Seconds(interval_of(meter).as_secs_f64())),
            failing: None,
        };
        let shared = Arc::new(Shared {
            tracks: Mutex::new(meters.iter().map(|meter| track(meter.as_ref())).collect()),
            pace: Mutex::new(Pace { fine: true, stop: false }),
            changed: Condvar::new(),
        });
        let numbered = meters.into_iter().enumerate();
        let (mut slow, mut fast): (Vec<Numbered>, Vec<Numbered>) = numbered.partition(|(_, meter)| meter.is_slow());
        let mut threads = Vec::new();
        let theirs = Arc::clone(&shared);
        threads.push(thread::spawn(move || sample(&theirs, &mut fast, &mut probes, origin, interval, FINE)));
        if !slow.is_empty() {
            let (theirs, interval) = (Arc::clone(&shared), interval.max(SLOW));
            threads.push(thread::spawn(move || sample(&theirs, &mut slow, &mut [], origin, interval, SLOW)));
        }
        Self { shared, threads, origin }
    }

    /// Seconds since the sampler started, on the clock of its readings.
    pub fn now(&self) -> Seconds {
        self.at(Instant::now())
    }

    pub fn at(&self, instant: Instant) -> Seconds {
        Seconds(instant.saturating_duration_since(self.origin).as_secs_f64())
    }

    /// Reads every few milliseconds, or at the interval again.
    pub fn fine(&self, fine: bool) {
        lock(&self.shared.pace).fine = fine;
        self.shared.changed.notify_all();
    }

    /// Marks an end of a region: readings around it are all kept.
    pub fn pin(&self, at: Seconds) {
        for track in lock(&self.shared.tracks).iter_mut() {
            track.series.pin(at);
        }
    }

    /// What all meters have read so far.
    pub fn with<T>(&self, look: impl FnOnce(&[Track]) -> T) -> T {
        look(&lock(&self.shared.tracks))
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        lock(&self.shared.pace).stop = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // a panic there has printed itself
        }
    }
}

/// A meter and the index of its track.
type Numbered = (usize, Box<dyn Meter>);

fn sample(
    shared: &Shared,
    meters: &mut [Numbered],
    probes: &mut [Box<dyn Probe>],
    origin: Instant,
    interval: Duration,
    fine: Duration,
) {
    let since = |instant: Instant| Seconds(instant.saturating_duration_since(origin).as_secs_f64());
    let mut next = Instant::now();
    let mut next_probe = next;
    loop {
        for (index, meter) in meters.iter_mut() {
            let begun = Instant::now();
            let reading = meter.read();
            // The value is of some moment during the call.
            let at = since(begun + begun.elapsed() / 2);
            let mut tracks = lock(&shared.tracks);
            let track = &mut tracks[*index];
            match reading {
                Ok(reading) => {
                    track.failing = None;
                    track.series.add(at, reading);
                }
                Err(refusal) => {
                    track.failing = Some(refusal.clone());
                    track.series.fail(at, refusal);
                }
            }
        }
        let now = Instant::now();
        if now >= next_probe && !probes.is_empty() {
            probes.iter_mut().for_each(|probe| probe.look(since(now)));
            next_probe = now + PROBE_INTERVAL;
        }
        let mut pace = lock(&shared.pace);
        loop {
            if pace.stop {
                return;
            }
            let step = if pace.fine { interval.min(fine) } else { interval };
            let now = Instant::now();
            let due = next + step;
            if due <= now {
                // A late reading is not made up for by several in a row.
                next = if now - due > step { now } else { due };
                break;
            }
            let wait = due - now;
            let (again, _) = shared.changed.wait_timeout(pace, wait).unwrap_or_else(PoisonError::into_inner);
            pace = again;
        }
    }
}

/// Values here are whole between statements, so a panic elsewhere leaves them usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Provenance;
    use crate::measure::meter::{Method, Reading, Scope};
    use crate::units::Watts;

    struct Slow(Identity);

    impl Meter for Slow {
        fn identity(&self) -> &Identity {
            &self.0
        }

        fn is_slow(&self) -> bool {
            true
        }

        fn read(&mut self) -> Result<Reading, Refusal> {
            Ok(Reading::Power(Watts(250.0)))
        }
    }

    #[test]
    fn near_an_end_a_slow_meter_does_not_wait_for_the_interval() {
        let identity = Identity {
            name: "ipmi:dcmi".into(),
            source: "ipmi",
            scope: Scope::Node,
            method: Method::Integrated { averaged_over: Seconds(1.0) },
            resolution: 1.0,
            provenance: Provenance::Measured,
        };
        let sampler = Sampler::start(vec![Box::new(Slow(identity))], Vec::new(), Duration::from_secs(60));
        let samples = || sampler.with(|tracks| tracks[0].series.samples());
        while samples() < 2 {
            assert!(sampler.now() < Seconds(5.0), "it waits");
            thread::sleep(Duration::from_millis(20));
        }
        assert!(sampler.now() > Seconds(0.9), "and is not read more often than it may be");
    }
}
