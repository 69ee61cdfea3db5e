//! The scripted devices: a script says what they are, an event log what happened to them, and here is what follows.
//!
//! Read anew at each call, as hardware answers for the moment it is asked. Free of C: NVML's symbols are beside it.

use std::ffi::c_uint;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

pub const SUCCESS: c_uint = 0;
pub const NOT_INITIALIZED: c_uint = 1;
pub const INVALID: c_uint = 2;
pub const NOT_SUPPORTED: c_uint = 3;
pub const NOT_FOUND: c_uint = 6;
pub const INSUFFICIENT_SIZE: c_uint = 7;
const LOST: c_uint = 15;

/// What happened to a device, and when.
pub struct Event {
    at: f64,
    device: usize,
    pub what: String,
    pub value: f64,
}

/// The script and the log, as they are now.
pub struct World {
    folder: PathBuf,
    pub script: Value,
    events: Vec<Event>,
    pub now: f64,
}

impl World {
    pub fn open() -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os("FAKE_NVML")?);
        let script = serde_json::from_str(&fs::read_to_string(folder.join("script.json")).ok()?).ok()?;
        let log = fs::read_to_string(folder.join("events")).unwrap_or_default();
        let event = |line: &str| {
            let mut words = line.split_whitespace();
            Some(Event {
                at: words.next()?.parse().ok()?,
                device: words.next()?.parse().ok()?,
                what: words.next()?.to_owned(),
                value: words.next().and_then(|word| word.parse().ok()).unwrap_or_default(),
            })
        };
        let mut events: Vec<Event> = log.lines().filter_map(event).collect();
        events.sort_by(|a, b| a.at.total_cmp(&b.at));
        Some(Self { folder, script, events, now: now() })
    }

    pub fn devices(&self) -> &[Value] {
        self.script["devices"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// The code `symbol` is to fail with.
    pub fn failure(&self, symbol: &str) -> Option<c_uint> {
        code(&self.script["fail"][symbol])
    }
}

/// A device at this moment.
pub struct Device {
    pub world: World,
    pub index: usize,
}

impl Device {
    /// The device behind a handle, if `symbol` is to work on it.
    pub fn of(handle: usize, symbol: &str) -> Result<Self, c_uint> {
        let world = World::open().ok_or(NOT_INITIALIZED)?;
        if let Some(code) = world.failure(symbol) {
            return Err(code);
        }
        let index = handle.wrapping_sub(1);
        let device = Self { world, index };
        if device.is_lost() {
            return Err(LOST);
        }
        match device.world.devices().get(index) {
            None => Err(INVALID),
            Some(script) => code(&script["fail"][symbol]).map_or(Ok(device), Err),
        }
    }

    fn script(&self, key: &str) -> &Value {
        &self.world.devices()[self.index][key]
    }

    pub fn number(&self, key: &str, default: f64) -> f64 {
        self.script(key).as_f64().unwrap_or(default)
    }

    pub fn text(&self, key: &str) -> &str {
        self.script(key).as_str().unwrap_or_default()
    }

    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.world.events.iter().filter(|event| event.device == self.index && event.at <= self.world.now)
    }

    fn is_lost(&self) -> bool {
        self.events().any(|event| event.what == "lost")
    }

    pub fn last(&self, what: &str, until: f64) -> Option<f64> {
        self.events().filter(|event| event.what == what && event.at <= until).last().map(|event| event.value)
    }

    pub fn max_clock(&self) -> f64 {
        self.number("max_clock_mhz", 1980.0)
    }

    pub fn clock(&self, at: f64) -> f64 {
        match self.last("clock", at) {
            Some(clock) if clock > 0.0 => clock.min(self.max_clock()),
            _ => self.max_clock(),
        }
    }

    pub fn limit(&self, at: f64) -> f64 {
        self.last("limit", at).unwrap_or(1e3 * self.number("max_w", 400.0))
    }

    fn power(&self, at: f64) -> f64 {
        let (idle, max) = (self.number("idle_w", 60.0), self.number("max_w", 400.0));
        let load = self.last("load", at).unwrap_or(0.0);
        (idle + load * (max - idle) * (self.clock(at) / self.max_clock()).powi(2)).min(self.limit(at) / 1e3)
    }

    pub fn energy(&self) -> f64 {
        let step = self.number("counter_step_s", 0.02);
        let until = (self.world.now / step).floor() * step;
        let resets = self.events().filter(|event| event.what == "reset" && event.at <= until);
        let start = resets.last().map_or(self.number("since", until), |event| event.at);
        let mut joules =
            if self.events().any(|event| event.what == "reset") { 0.0 } else { self.number("joules", 0.0) };
        let mut at = start;
        for next in self.events().map(|event| event.at).filter(|at| *at > start && *at < until).chain([until]) {
            joules += self.power(at) * (next - at).max(0.0);
            at = next;
        }
        joules * self.number("counter_scale", 1.0)
    }

    pub fn shown_power(&self) -> f64 {
        self.power(self.world.now) * self.number("power_scale", 1.0)
    }

    pub fn append(&self, what: &str, value: f64) -> c_uint {
        let file = OpenOptions::new().append(true).create(true).open(self.world.folder.join("events"));
        let line = format!("{:.6} {} {what} {value}\n", now(), self.index);
        match file.and_then(|mut file| file.write_all(line.as_bytes())) {
            Ok(()) => SUCCESS,
            Err(_) => 999,
        }
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn code(value: &Value) -> Option<c_uint> {
    value.as_u64().and_then(|code| c_uint::try_from(code).ok())
}
