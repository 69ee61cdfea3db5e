//! A stand-in for libnvidia-ml.so.1: NVML's symbols, answered from a script and an event log.
//!
//! `FAKE_NVML` names a folder. `script.json` there says what the devices are; `events` says what happened when, a line each:
//! `UNIX_SECONDS DEVICE load 0..1`, `.. lost`, `.. reset`, `.. process PID`, `.. gone PID`, `.. clock MHZ` (0 unlocks),
//! `.. limit MILLIWATTS`. The last two are appended by the setters here, so they outlive the process that set them, as in
//! hardware. Power is `idle + load * (max - idle) * (clock / max_clock)^2`, at most the limit; energy is its exact integral,
//! shown in steps. Any symbol can be made to fail with any code.

#![allow(non_snake_case, clippy::missing_safety_doc, clippy::not_unsafe_ptr_arg_deref)]

use std::ffi::{c_char, c_int, c_uint, c_ulonglong};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::ptr;
use std::time::{SystemTime, UNIX_EPOCH};

use nvml_wrapper_sys::bindings::{
    nvmlFieldValue_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlProcessInfo_t, nvmlUtilization_t,
};
use serde_json::Value;

const SUCCESS: c_uint = 0;
const NOT_INITIALIZED: c_uint = 1;
const INVALID: c_uint = 2;
const NOT_SUPPORTED: c_uint = 3;
const NOT_FOUND: c_uint = 6;
const INSUFFICIENT_SIZE: c_uint = 7;
const LOST: c_uint = 15;
const POWER_INSTANT: c_uint = 186;
/// Handles of devices are 1.., of their MIG instances 1000 * device + 1...
const MIG: usize = 1000;

struct Event {
    at: f64,
    device: usize,
    what: String,
    value: f64,
}

struct World {
    folder: PathBuf,
    script: Value,
    events: Vec<Event>,
    now: f64,
}

impl World {
    fn open() -> Option<Self> {
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

    fn devices(&self) -> &[Value] {
        self.script["devices"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// The code `symbol` is to fail with.
    fn failure(&self, symbol: &str) -> Option<c_uint> {
        code(&self.script["fail"][symbol])
    }
}

/// A device at this moment.
struct Device {
    world: World,
    index: usize,
}

impl Device {
    /// The device behind a handle, if `symbol` is to work on it.
    fn of(handle: usize, symbol: &str) -> Result<Self, c_uint> {
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

    fn number(&self, key: &str, default: f64) -> f64 {
        self.script(key).as_f64().unwrap_or(default)
    }

    fn text(&self, key: &str) -> &str {
        self.script(key).as_str().unwrap_or_default()
    }

    fn events(&self) -> impl Iterator<Item = &Event> {
        self.world.events.iter().filter(|event| event.device == self.index && event.at <= self.world.now)
    }

    fn is_lost(&self) -> bool {
        self.events().any(|event| event.what == "lost")
    }

    fn last(&self, what: &str, until: f64) -> Option<f64> {
        self.events().filter(|event| event.what == what && event.at <= until).last().map(|event| event.value)
    }

    fn max_clock(&self) -> f64 {
        self.number("max_clock_mhz", 1980.0)
    }

    fn clock(&self, at: f64) -> f64 {
        match self.last("clock", at) {
            Some(clock) if clock > 0.0 => clock.min(self.max_clock()),
            _ => self.max_clock(),
        }
    }

    fn limit(&self, at: f64) -> f64 {
        self.last("limit", at).unwrap_or(1e3 * self.number("max_w", 400.0))
    }

    fn power(&self, at: f64) -> f64 {
        let (idle, max) = (self.number("idle_w", 60.0), self.number("max_w", 400.0));
        let load = self.last("load", at).unwrap_or(0.0);
        (idle + load * (max - idle) * (self.clock(at) / self.max_clock()).powi(2)).min(self.limit(at) / 1e3)
    }

    fn energy(&self) -> f64 {
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

    fn shown_power(&self) -> f64 {
        self.power(self.world.now) * self.number("power_scale", 1.0)
    }

    fn append(&self, what: &str, value: f64) -> c_uint {
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

/// `answer` of the device, written to `to`.
fn give<T>(handle: usize, symbol: &str, to: *mut T, answer: impl FnOnce(&Device) -> T) -> c_uint {
    match Device::of(handle, symbol) {
        Err(code) => code,
        Ok(_) if to.is_null() => INVALID,
        Ok(device) => {
            unsafe { to.write(answer(&device)) };
            SUCCESS
        }
    }
}

fn give_text(text: &str, to: *mut c_char, length: c_uint) -> c_uint {
    if to.is_null() || length as usize <= text.len() {
        return INSUFFICIENT_SIZE;
    }
    unsafe {
        ptr::copy_nonoverlapping(text.as_ptr().cast(), to, text.len());
        to.add(text.len()).write(0);
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> c_uint {
    World::open().map_or(9, |world| world.failure("nvmlInit_v2").unwrap_or(SUCCESS))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> c_uint {
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetDriverVersion(to: *mut c_char, length: c_uint) -> c_uint {
    let Some(world) = World::open() else { return NOT_INITIALIZED };
    give_text(world.script["driver"].as_str().unwrap_or("580.95.05"), to, length)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetCudaDriverVersion_v2(to: *mut c_int) -> c_uint {
    unsafe { to.write(13_000) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCount_v2(to: *mut c_uint) -> c_uint {
    let Some(world) = World::open() else { return NOT_INITIALIZED };
    unsafe { to.write(world.devices().len() as c_uint) };
    world.failure("nvmlDeviceGetCount_v2").unwrap_or(SUCCESS)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, to: *mut usize) -> c_uint {
    let handle = index as usize + 1;
    give(handle, "nvmlDeviceGetHandleByIndex_v2", to, |_| handle)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUUID(device: usize, to: *mut c_char, length: c_uint) -> c_uint {
    Device::of(device, "nvmlDeviceGetUUID")
        .map_or_else(|code| code, |device| give_text(device.text("uuid"), to, length))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetName(device: usize, to: *mut c_char, length: c_uint) -> c_uint {
    Device::of(device, "nvmlDeviceGetName")
        .map_or_else(|code| code, |device| give_text(device.text("name"), to, length))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPciInfo_v3(device: usize, to: *mut nvmlPciInfo_t) -> c_uint {
    give(device, "nvmlDeviceGetPciInfo_v3", to, |device| {
        let mut info: nvmlPciInfo_t = unsafe { std::mem::zeroed() };
        for (slot, byte) in info.busId.iter_mut().zip(format!("00000000:{:02X}:00.0", device.index + 1).bytes()) {
            *slot = byte as c_char;
        }
        info
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCudaComputeCapability(device: usize, major: *mut c_int, minor: *mut c_int) -> c_uint {
    let number = |key: &'static str, default| move |device: &Device| device.number(key, default) as c_int;
    match give(device, "nvmlDeviceGetCudaComputeCapability", major, number("major", 9.0)) {
        SUCCESS => give(device, "nvmlDeviceGetCudaComputeCapability", minor, number("minor", 0.0)),
        code => code,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMigMode(device: usize, current: *mut c_uint, pending: *mut c_uint) -> c_uint {
    let on = |device: &Device| c_uint::from(device.number("mig", 0.0) > 0.0);
    match give(device, "nvmlDeviceGetMigMode", current, on) {
        SUCCESS => give(device, "nvmlDeviceGetMigMode", pending, on),
        code => code,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMaxMigDeviceCount(device: usize, to: *mut c_uint) -> c_uint {
    give(device, "nvmlDeviceGetMaxMigDeviceCount", to, |_| 7)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(device: usize, index: c_uint, to: *mut usize) -> c_uint {
    match Device::of(device, "nvmlDeviceGetMigDeviceHandleByIndex") {
        Err(code) => code,
        Ok(there) if f64::from(index) < there.number("mig", 0.0) => {
            unsafe { to.write(MIG * device + 1 + index as usize) };
            SUCCESS
        }
        Ok(_) => NOT_FOUND,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTotalEnergyConsumption(device: usize, to: *mut c_ulonglong) -> c_uint {
    give(device, "nvmlDeviceGetTotalEnergyConsumption", to, |device| (1e3 * device.energy()) as c_ulonglong)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPowerUsage(device: usize, to: *mut c_uint) -> c_uint {
    give(device, "nvmlDeviceGetPowerUsage", to, |device| (1e3 * device.shown_power()).round() as c_uint)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetFieldValues(device: usize, count: c_int, values: *mut nvmlFieldValue_t) -> c_uint {
    for index in 0..usize::try_from(count).unwrap_or(0) {
        let value = unsafe { &mut *values.add(index) };
        value.valueType = 1; // unsigned int
        let mut milliwatts = 0;
        let symbol = if value.fieldId == POWER_INSTANT { "POWER_INSTANT" } else { "field" };
        value.nvmlReturn =
            give(device, symbol, &mut milliwatts, |device| (1e3 * device.shown_power()).round() as c_uint);
        if symbol == "field" {
            value.nvmlReturn = NOT_SUPPORTED;
        }
        value.value.uiVal = milliwatts;
    }
    Device::of(device, "nvmlDeviceGetFieldValues").map_or_else(|code| code, |_| SUCCESS)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUtilizationRates(device: usize, to: *mut nvmlUtilization_t) -> c_uint {
    give(device, "nvmlDeviceGetUtilizationRates", to, |device| {
        let gpu = (100.0 * device.last("load", device.world.now).unwrap_or(0.0)) as c_uint;
        nvmlUtilization_t { gpu, memory: 0 }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: usize, to: *mut nvmlMemory_v2_t) -> c_uint {
    give(device, "nvmlDeviceGetMemoryInfo_v2", to, |_| {
        let (total, used) = (80 << 30, 1 << 30);
        nvmlMemory_v2_t { version: 0, total, reserved: 0, free: total - used, used }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetClockInfo(device: usize, _clock: c_uint, to: *mut c_uint) -> c_uint {
    give(device, "nvmlDeviceGetClockInfo", to, |device| device.clock(device.world.now) as c_uint)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMaxClockInfo(device: usize, _clock: c_uint, to: *mut c_uint) -> c_uint {
    give(device, "nvmlDeviceGetMaxClockInfo", to, |device| device.max_clock() as c_uint)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetEnforcedPowerLimit(device: usize, to: *mut c_uint) -> c_uint {
    give(device, "nvmlDeviceGetEnforcedPowerLimit", to, |device| device.limit(device.world.now) as c_uint)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPowerManagementLimit(device: usize, to: *mut c_uint) -> c_uint {
    give(device, "nvmlDeviceGetPowerManagementLimit", to, |device| device.limit(device.world.now) as c_uint)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPowerManagementDefaultLimit(device: usize, to: *mut c_uint) -> c_uint {
    let default = |device: &Device| (1e3 * device.number("max_w", 400.0)) as c_uint;
    give(device, "nvmlDeviceGetPowerManagementDefaultLimit", to, default)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPowerManagementLimitConstraints(
    device: usize,
    min: *mut c_uint,
    max: *mut c_uint,
) -> c_uint {
    let symbol = "nvmlDeviceGetPowerManagementLimitConstraints";
    match give(device, symbol, min, |_| 100_000) {
        SUCCESS => give(device, symbol, max, |device| (1e3 * device.number("max_w", 400.0)) as c_uint),
        code => code,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTemperature(device: usize, _sensor: c_uint, to: *mut c_uint) -> c_uint {
    give(device, "nvmlDeviceGetTemperature", to, |device| 30 + (device.shown_power() / 10.0) as c_uint)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCurrentClocksThrottleReasons(device: usize, to: *mut c_ulonglong) -> c_uint {
    give(device, "nvmlDeviceGetCurrentClocksThrottleReasons", to, |device| {
        let locked = device.last("clock", device.world.now).is_some_and(|clock| clock > 0.0);
        device.number("throttle", 0.0) as c_ulonglong | if locked { 2 } else { 0 }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: usize,
    count: *mut c_uint,
    infos: *mut nvmlProcessInfo_t,
) -> c_uint {
    let device = match Device::of(device, "nvmlDeviceGetComputeRunningProcesses_v3") {
        Ok(device) => device,
        Err(code) => return code,
    };
    let mut pids: Vec<c_uint> = Vec::new();
    for event in device.events() {
        let pid = event.value as c_uint;
        match event.what.as_str() {
            "process" => pids.push(pid),
            "gone" => pids.retain(|there| *there != pid),
            _ => {}
        }
    }
    let room = unsafe { count.replace(pids.len() as c_uint) } as usize;
    if infos.is_null() || room < pids.len() {
        return if pids.is_empty() { SUCCESS } else { INSUFFICIENT_SIZE };
    }
    for (index, pid) in pids.into_iter().enumerate() {
        let info = nvmlProcessInfo_t {
            pid,
            usedGpuMemory: 1 << 30,
            gpuInstanceId: c_uint::MAX,
            computeInstanceId: c_uint::MAX,
        };
        unsafe { infos.add(index).write(info) };
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    device: usize,
    count: *mut c_uint,
    _infos: *mut nvmlProcessInfo_t,
) -> c_uint {
    give(device, "nvmlDeviceGetGraphicsRunningProcesses_v3", count, |_| 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceSetGpuLockedClocks(device: usize, min: c_uint, max: c_uint) -> c_uint {
    match Device::of(device, "nvmlDeviceSetGpuLockedClocks") {
        Err(code) => code,
        Ok(_) if min == 0 || min > max => INVALID,
        Ok(device) => device.append("clock", f64::from(max)),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceResetGpuLockedClocks(device: usize) -> c_uint {
    Device::of(device, "nvmlDeviceResetGpuLockedClocks").map_or_else(|code| code, |device| device.append("clock", 0.0))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceSetPowerManagementLimit(device: usize, milliwatts: c_uint) -> c_uint {
    match Device::of(device, "nvmlDeviceSetPowerManagementLimit") {
        Err(code) => code,
        Ok(device) => device.append("limit", f64::from(milliwatts)),
    }
}
