//! RAPL, node power and traces: fake sysfs, fake ipmitool.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::rig::{Rig, assert_close, assert_code, assert_no_zero, binary, line, printed, stderr};

/// Range of a real package's counter.
const RANGE: u64 = 262_143_328_850;

/// A zone whose counter starts at `start` µJ.
fn zone(rig: &Rig, zone: &str, name: &str, start: u64) {
    let folder = format!("sys/class/powercap/{zone}");
    rig.write(&format!("{folder}/name"), &format!("{name}\n"));
    rig.write(&format!("{folder}/energy_uj"), &format!("{start}\n"));
    rig.write(&format!("{folder}/max_energy_range_uj"), &format!("{RANGE}\n"));
}

/// Runs `work` while zones count at `watts` from `start`, and wrap.
fn counting<T>(rig: &Rig, zones: &[(&str, u64, f64)], work: impl FnOnce() -> T) -> T {
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for (zone, start, watts) in zones.iter().map(|(zone, start, watts)| (zone.to_string(), *start, *watts)) {
        let (stop, file) = (Arc::clone(&stop), rig.path(&format!("sys/class/powercap/{zone}/energy_uj")));
        threads.push(thread::spawn(move || {
            let begun = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                let microjoules = start + (1e6 * watts * begun.elapsed().as_secs_f64()) as u64;
                let temporary = file.with_extension("new");
                fs::write(&temporary, format!("{}\n", microjoules % RANGE)).unwrap();
                fs::rename(&temporary, &file).unwrap();
                thread::sleep(Duration::from_millis(2));
            }
        }));
    }
    let done = work();
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    done
}

#[test]
fn two_sockets_dram_and_a_wrap_around() {
    let rig = Rig::new(&[]);
    zone(&rig, "intel-rapl:0", "package-0", 0);
    zone(&rig, "intel-rapl:0:0", "core", 0);
    zone(&rig, "intel-rapl:0:1", "dram", 0);
    zone(&rig, "intel-rapl:1", "package-1", 0);
    zone(&rig, "intel-rapl:2", "psys", 0);
    zone(&rig, "intel-rapl-mmio:0", "package-0", 0);
    let about_to_wrap = RANGE - 60_000_000;
    let zones = [
        ("intel-rapl:0", about_to_wrap, 80.0),
        ("intel-rapl:0:0", 0, 50.0),
        ("intel-rapl:0:1", 7, 20.0),
        ("intel-rapl:1", 1_000_000, 120.0),
        ("intel-rapl:2", 0, 300.0),
    ];
    let flags = ["--meters", "rapl", "--interval", "20ms", "--idle", "500ms"];
    let (output, result) = counting(&rig, &zones, || rig.meter(&flags, "sleep 1.5"));
    assert_code(&output, 0);
    let seconds = result["seconds"].as_f64().unwrap();
    for (name, watts) in
        [("rapl:package-0", 80.0), ("rapl:package-1", 120.0), ("rapl:dram-0", 20.0), ("rapl:psys", 300.0)]
    {
        assert_close(&line(&result, name)["energy_j"], watts * seconds, 0.02);
    }
    let wrapped: u64 =
        fs::read_to_string(rig.path("sys/class/powercap/intel-rapl:0/energy_uj")).unwrap().trim().parse().unwrap();
    assert!(wrapped < about_to_wrap, "the counter wrapped");
    assert_close(&result["cpu_energy_j"], 220.0 * seconds, 0.02);
    assert_eq!(result["cpu_energy_scope"], "package+dram");
    assert_eq!(result["meters"].as_array().unwrap().len(), 4, "cores are in their package, mmio is the same one");
    assert!(result.get("node_energy_j").is_none());
}

#[test]
fn a_reset_is_no_wrap_around() {
    let rig = Rig::new(&[]);
    zone(&rig, "intel-rapl:0", "package-0", 5_000_000_000);
    let script = "sleep 0.3; echo 1000 > sys/class/powercap/intel-rapl:0/energy_uj; sleep 0.3";
    let (output, result) = rig.meter(&["--meters", "rapl", "--interval", "20ms", "--idle", "0s"], script);
    assert_code(&output, 0);
    assert_eq!(line(&result, "rapl:package-0")["refused"]["kind"], "reset", "{result}");
    assert!(result.get("cpu_energy_j").is_none());
    assert_no_zero(&result);
}

#[test]
fn a_counter_that_stands_still_is_no_zero() {
    let rig = Rig::new(&[]);
    zone(&rig, "intel-rapl:0", "package-0", 5_000);
    let (output, result) = rig.meter(&["--meters", "rapl", "--interval", "20ms", "--idle", "0s"], "sleep 0.3");
    assert_code(&output, 0);
    assert_eq!(line(&result, "rapl:package-0")["refused"]["kind"], "too_short");
    assert_no_zero(&result);
}

#[test]
fn denied_counters_are_77_with_the_remedy() {
    let rig = Rig::new(&[]);
    zone(&rig, "intel-rapl:0", "package-0", 1);
    zone(&rig, "intel-rapl:1", "package-1", 1);
    let denied = rig.path("sys/class/powercap/intel-rapl:1/energy_uj");
    fs::set_permissions(&denied, fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(rig.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Root reads everything, so root becomes nobody, who may not be able to reach the binary where it was built.
    let copy = rig.path("jouleplan");
    fs::copy(binary(), &copy).unwrap();
    let run = |meters: &str| {
        let mut command = std::process::Command::new(&copy);
        command.args(["meter", "--meters", meters, "--idle", "0s", "--", "true"]).current_dir("/");
        command.env("JOULEPLAN_NVML", "/nowhere").env("JOULEPLAN_SYSFS_ROOT", rig.path("sys"));
        if fs::read(&denied).is_ok() {
            command.uid(65_534).gid(65_534);
        }
        command.output().unwrap()
    };
    let output = run("rapl");
    assert_code(&output, 77);
    assert!(stderr(&output).contains(&format!("sudo chmod a+r {}", denied.display())), "{}", stderr(&output));
    assert_code(&run("rapl,nvml"), 77);
}

#[test]
fn one_denied_socket_leaves_the_sum_unknown() {
    let rig = Rig::new(&[json!({})]);
    zone(&rig, "intel-rapl:0", "package-0", 1);
    rig.write("sys/class/powercap/intel-rapl:1/name", "package-1\n");
    let zones = [("intel-rapl:0", 0, 50.0)];
    for (energy, said) in
        [(None, "is not there"), (Some("1\n"), "is not there"), (Some("not a number\n"), "not a number")]
    {
        if let Some(energy) = energy {
            rig.write("sys/class/powercap/intel-rapl:1/energy_uj", energy);
        }
        let flags = ["--interval", "20ms", "--idle", "0s"];
        let (output, result) = counting(&rig, &zones, || rig.meter(&flags, "sleep 0.5"));
        assert_code(&output, 0);
        assert!(result.get("cpu_energy_j").is_none(), "{result}");
        assert_close(&line(&result, "rapl:package-0")["energy_j"], 50.0 * result["seconds"].as_f64().unwrap(), 0.05);
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
}

#[test]
fn an_amd_device_that_says_zero_hides_the_sum_of_devices_and_not_the_node() {
    let rig = Rig::new(&[]);
    for (chip, name, microwatts) in
        [("hwmon1", "power_meter", 400_000_000), ("hwmon2", "amdgpu", 90_000_000), ("hwmon3", "amdgpu", 0)]
    {
        rig.write(&format!("sys/class/hwmon/{chip}/name"), &format!("{name}\n"));
        rig.write(&format!("sys/class/hwmon/{chip}/power1_input"), &format!("{microwatts}\n"));
    }
    let (output, result) = rig.meter(&["--meters", "node", "--interval", "20ms", "--idle", "0s"], "sleep 0.3");
    assert_code(&output, 0);
    let seconds = result["seconds"].as_f64().unwrap();
    assert_close(&result["node_energy_j"], 400.0 * seconds, 0.001);
    assert_close(&line(&result, "hwmon:amdgpu-0")["energy_j"], 90.0 * seconds, 0.001);
    assert!(result.get("gpu_energy_j").is_none(), "a sum without its parts: {result}");
    assert_eq!(result["refused"][0]["meter"], "amdgpu", "{result}");
    assert_no_zero(&result);
}

#[test]
fn others_on_the_processors_are_noticed() {
    let rig = Rig::new(&[]);
    zone(&rig, "intel-rapl:0", "package-0", 0);
    let stop = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&stop);
    let busy = thread::spawn(move || while !theirs.load(Ordering::Relaxed) {});
    let flags = ["--meters", "rapl", "--interval", "20ms", "--idle", "0s"];
    let (output, result) = counting(&rig, &[("intel-rapl:0", 0, 50.0)], || rig.meter(&flags, "sleep 1"));
    stop.store(true, Ordering::Relaxed);
    busy.join().unwrap();
    assert_code(&output, 0);
    assert_eq!(result["clean"], false);
    assert!(stderr(&output).contains("other processes used"), "{}", stderr(&output));
}

#[test]
fn a_share_of_the_cores_gets_an_estimated_share_of_the_energy() {
    let cores = thread::available_parallelism().unwrap().get();
    if cores < 2 {
        eprintln!("SKIPPED: one core cannot be shared");
        return;
    }
    let rig = Rig::new(&[]);
    zone(&rig, "intel-rapl:0", "package-0", 0);
    let output = counting(&rig, &[("intel-rapl:0", 0, 50.0)], || {
        let program = binary().to_str().unwrap();
        let mut command = std::process::Command::new("taskset");
        command.args(["-c", "0", program, "meter", "--json", "--meters", "rapl", "--idle", "0s", "--", "sleep", "0.5"]);
        command.env("JOULEPLAN_SYSFS_ROOT", rig.path("sys")).output().unwrap()
    });
    assert_code(&output, 0);
    let result = printed(&output);
    let share = result["cpu"]["allocated_share"].as_f64().unwrap();
    assert!(share <= 0.5, "{result}");
    let line = line(&result, "rapl:package-0");
    assert_close(&line["estimated_share_energy_j"], share * line["energy_j"].as_f64().unwrap(), 1e-9);
    assert_eq!(result["clean"], false);
}

#[test]
fn node_power_comes_from_hwmon_or_ipmi_and_is_counted_once() {
    let rig = Rig::new(&[]);
    rig.write("bin/ipmitool", "#!/bin/sh\necho '    Instantaneous power reading:                   250 Watts'\n");
    fs::set_permissions(rig.path("bin/ipmitool"), fs::Permissions::from_mode(0o755)).unwrap();
    let run = |seconds: &str| {
        let path = format!("{}:{}", rig.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = rig.command(&["meter", "--json", "--meters", "node", "--idle", "0s", "--", "sleep", seconds]);
        let output = command.env("PATH", path).output().unwrap();
        (serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap_or_default(), output)
    };
    let (result, output) = run("3.5");
    assert_code(&output, 0);
    assert_eq!(result["meters"][0]["source"], "ipmi");
    assert_close(&result["node_energy_j"], 250.0 * result["seconds"].as_f64().unwrap(), 0.001);

    for (chip, name, file, microwatts) in [
        ("hwmon0", "nvme", "power1_input", 9_000_000),
        ("hwmon1", "power_meter", "power1_input", 400_000_000),
        ("hwmon2", "amdgpu", "power1_input", 90_000_000),
    ] {
        rig.write(&format!("sys/class/hwmon/{chip}/name"), &format!("{name}\n"));
        rig.write(&format!("sys/class/hwmon/{chip}/{file}"), &format!("{microwatts}\n"));
    }
    let (result, output) = run("0.5");
    assert_code(&output, 0);
    let seconds = result["seconds"].as_f64().unwrap();
    assert_close(&result["node_energy_j"], 400.0 * seconds, 0.001);
    assert_close(&result["gpu_energy_j"], 90.0 * seconds, 0.001);
    assert_eq!(result["meters"].as_array().unwrap().len(), 2, "{result}");
    fs::remove_dir_all(rig.path("sys/class/hwmon")).unwrap();

    rig.write("bin/ipmitool", "#!/bin/sh\necho '    Instantaneous power reading:                     0 Watts'\n");
    assert_code(&run("0.1").1, 69);
    rig.write("bin/ipmitool", "#!/bin/sh\necho 'Could not open device at /dev/ipmi0: No such file' >&2; exit 1\n");
    assert_code(&run("0.1").1, 77);
}

#[test]
fn a_recorded_trace_is_replayed_as_imported() {
    let rig = Rig::new(&[]);
    rig.write("ramp.csv", "seconds,power_w\n10,100\n20,100\n");
    let run = |file: &str, seconds: &str| {
        let arguments =
            ["meter", "--json", "--replay", file, "--interval", "10ms", "--idle", "0s", "--", "sleep", seconds];
        let output = rig.run(&arguments);
        (serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap_or_default(), output)
    };
    let (result, output) = run("ramp.csv", "0.5");
    assert_code(&output, 0);
    assert_eq!(line(&result, "replay")["provenance"], "imported");
    assert_close(&result["node_energy_j"], 100.0 * result["seconds"].as_f64().unwrap(), 0.001);
    rig.write("short.csv", "seconds,power_w\n0,100\n0.6,100\n");
    let (result, _) = run("short.csv", "1");
    assert!(result.get("node_energy_j").is_none(), "a trace that ends is no zero: {result}");
    for bad in ["", "a,b\n1,2\n", "seconds,power_w\n1,2\n1,3\n", "seconds,power_w\n1,NaN\n", "seconds,power_w\n"] {
        rig.write("bad.csv", bad);
        assert_code(&run("bad.csv", "0.1").1, 65);
    }
    assert_code(&run("absent.csv", "0.1").1, 66);
}
