//! A stand-in for libnvidia-ml.so.1: NVML's symbols, answered from a script and an event log.
//!
//! `FAKE_NVML` names a folder. `script.json` there says what the devices are; `events` says what happened when, a line each:
//! `UNIX_SECONDS DEVICE load 0..1`, `.. lost`, `.. reset`, `.. process PID`, `.. gone PID`, `.. clock MHZ` (0 unlocks),
//! `.. limit MILLIWATTS`. The last two are appended by the setters here, so they outlive the process that set them, as in
//! hardware. Power is `idle + load * (max - idle) * (clock / max_clock)^2`, at most the limit; energy is its exact integral,
//! shown in steps. Any symbol can be made to fail with any code.

#![allow(non_snake_case, clippy::missing_safety_doc, clippy::not_unsafe_ptr_arg_deref)]

mod device;

use std::ffi::{c_char, c_int, c_uint, c_ulonglong};
use std::ptr;

use nvml_wrapper_sys::bindings::{
    nvmlFieldValue_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlProcessInfo_t, nvmlUtilization_t,
};

use self::device::{Device, INSUFFICIENT_SIZE, INVALID, NOT_FOUND, NOT_INITIALIZED, NOT_SUPPORTED, SUCCESS, World};

const POWER_INSTANT: c_uint = 186;
/// Handles of devices are 1.., of their MIG instances 1000 * device + 1...
const MIG: usize = 1000;

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
