//! What a node can measure and set: every meter, permission and tool, where each statement comes from, and the remedy.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::inventory::{self, Inventory, Roots, Wanted};
use super::meter::{Method, Reading};
use super::nvml::{Gpu, Library, Snapshot};
use super::operating_point;
use super::processes::ProcessTable;
use super::refusal::{Refusal, RefusalKind};
use crate::formats::doctor_json::{Finding, FindingState};

/// Engines by the command that starts them.
const ENGINES: [(&str, &str); 4] =
    [("vLLM", "vllm"), ("SGLang", "sglang"), ("TensorRT-LLM", "trtllm-serve"), ("llama.cpp", "llama-server")];

/// Looks at everything.
pub fn examine(roots: &Roots) -> Vec<Finding> {
    let mut inventory = inventory::find(roots, &Wanted::default());
    let mut findings = Vec::new();
    match &inventory.library {
        Ok(library) => findings.push(driver(library)),
        Err(refusal) => findings.push(refused("driver", "nvmlInit", refusal)),
    }
    let table = ProcessTable::new(&roots.procfs);
    for gpu in &inventory.gpus {
        examine_gpu(gpu, &table, &mut findings);
    }
    examine_meters(&mut inventory, &mut findings);
    findings.extend(left_overs(roots));
    findings.push(slurm(roots));
    findings.extend(ENGINES.iter().map(|(name, command)| engine(name, command, roots)));
    findings
}

fn driver(library: &Library) -> Finding {
    let version = library.driver_version.as_deref().unwrap_or("of unknown version");
    let cuda = library.cuda_version.as_deref().map(|version| format!(", CUDA up to {version}")).unwrap_or_default();
    good("driver", format!("NVIDIA driver {version}{cuda}"), "nvmlSystemGetDriverVersion")
}

fn examine_gpu(gpu: &Gpu, table: &ProcessTable, findings: &mut Vec<Finding>) {
    let name = format!("device {}", gpu.index);
    let snapshot = match gpu.snapshot() {
        Ok(snapshot) => snapshot,
        Err(refusal) => return findings.push(refused("device", "NVML", &refusal)),
    };
    let bus = gpu.pci_bus_id.as_deref().map(|bus| format!(", {bus}")).unwrap_or_default();
    let memory = snapshot.memory_total_mib.map(|mib| format!(", {mib} MiB")).unwrap_or_default();
    findings.push(good("device", format!("{name}: {}{memory}, {}{bus}", gpu.name, gpu.uuid), "nvmlDeviceGetUUID"));
    findings.push(match gpu.mig_instances {
        Some(instances) => Finding {
            state: FindingState::Limited,
            remedy: "energy is of the whole device; measure with no other instance at work".into(),
            ..good("mig", format!("{name}: MIG is on, with {instances} instances"), "nvmlDeviceGetMigMode")
        },
        None => good("mig", format!("{name}: MIG is off or not supported"), "nvmlDeviceGetMigMode"),
    });
    findings.push(clocks(&name, gpu, &snapshot));
    findings.push(processes(&name, &snapshot, table));
    findings.push(permission(&name));
}

/// Clocks and limits are root's; whether a driver lets others is only known by setting, which a doctor does not.
fn permission(name: &str) -> Finding {
    let from = "effective user id";
    if rustix::process::geteuid().is_root() {
        return good("permission", format!("{name}: SM clock and power limit may be set, as root"), from);
    }
    let remedy = "run `meter --sm-clock` as root, or let Slurm set clocks: `--gpu-freq`";
    let what = format!("{name}: SM clock and power limit can be set by root only");
    Finding { state: FindingState::Limited, remedy: remedy.into(), ..good("permission", what, from) }
}

fn clocks(name: &str, gpu: &Gpu, snapshot: &Snapshot) -> Finding {
    let mut parts = Vec::new();
    parts.extend(snapshot.sm_clock_mhz.map(|mhz| format!("SM clock {mhz} MHz")));
    parts.extend(snapshot.max_sm_clock_mhz.map(|mhz| format!("at most {mhz} MHz")));
    parts.extend(snapshot.power_limit_w.map(|watts| format!("power limit {watts:.0} W")));
    parts.extend(gpu.power_limits().ok().map(|limits| {
        format!("settable from {:.0} to {:.0}, {:.0} by default", limits.min, limits.max, limits.default)
    }));
    parts.extend(snapshot.temperature_c.map(|celsius| format!("{celsius} C")));
    let throttled = snapshot.throttle_reasons.clone().unwrap_or_default();
    if !throttled.is_empty() {
        parts.push(format!("held back by {}", throttled.join(", ")));
    }
    if parts.is_empty() {
        let what = format!("{name}: neither clocks nor power limit are known");
        return missing("clocks", what, "nvmlDeviceGetClockInfo", String::new());
    }
    good("clocks", format!("{name}: {}", parts.join(", ")), "nvmlDeviceGetClockInfo, ..GetPowerManagementLimit")
}

fn processes(name: &str, snapshot: &Snapshot, table: &ProcessTable) -> Finding {
    let from = "nvmlDeviceGetComputeRunningProcesses";
    let Some(processes) = &snapshot.processes else {
        return missing("processes", format!("{name}: the driver does not say who uses it"), from, String::new());
    };
    if processes.is_empty() {
        return good("processes", format!("{name}: nobody is on it"), from);
    }
    let named = |pid: u32| match table.facts(pid) {
        Some(facts) => format!("{pid} ({}, user {})", facts.name, facts.uid),
        None => format!("{pid} (not in this process table)"),
    };
    let names: Vec<String> = processes.iter().map(|pid| named(*pid)).collect();
    Finding {
        state: FindingState::Limited,
        remedy: "measure when they have ended: their work would be counted".into(),
        ..good("processes", format!("{name}: in use by {}", names.join(", ")), from)
    }
}

fn examine_meters(inventory: &mut Inventory, findings: &mut Vec<Finding>) {
    for meter in &mut inventory.meters {
        let reading = meter.read();
        let identity = meter.identity();
        let (kind, unit) = match identity.method {
            Method::Counter { .. } => ("energy counter".to_owned(), "J"),
            Method::Integrated { averaged_over } if averaged_over.0 > 0.0 => {
                (format!("power, a mean over {averaged_over}"), "W")
            }
            Method::Integrated { .. } => ("power of the moment".to_owned(), "W"),
        };
        let what = format!(
            "{}: {kind} of {}, resolution {} {unit}",
            identity.name,
            identity.scope.as_str(),
            identity.resolution
        );
        let provenance = identity.source;
        findings.push(match reading {
            Ok(Reading::Counter(joules)) => good("meter", format!("{what}, now {joules:.3}"), provenance),
            Ok(Reading::Power(watts)) => good("meter", format!("{what}, now {watts:.1}"), provenance),
            Err(refusal) => refused("meter", provenance, &refusal),
        });
    }
    for (source, refusal) in &inventory.refused {
        findings.push(refused("meter", source, refusal));
    }
}

/// What killed runs left set.
fn left_overs(roots: &Roots) -> Vec<Finding> {
    let from = roots.state.display().to_string();
    match operating_point::left(&roots.state) {
        Ok(files) => {
            let finding = |file: &PathBuf| {
                let what = format!("a run that lives or was killed set clocks: {}", file.display());
                Finding {
                    state: FindingState::Limited,
                    remedy: "run `jouleplan doctor --restore` as root once it has ended".into(),
                    ..good("restore", what, &from)
                }
            };
            files.iter().map(finding).collect()
        }
        Err(refusal) => vec![refused("restore", &from, &refusal)],
    }
}

fn slurm(roots: &Roots) -> Finding {
    let job = env::var("SLURM_JOB_ID").ok().map(|job| format!(", inside job {job}")).unwrap_or_default();
    match inventory::find_program("sbatch", &roots.programs) {
        Some(path) => {
            let asked = format!("{} --version", path.display());
            match first_line(Command::new(&path).arg("--version")) {
                Some(version) => good("slurm", format!("{version}{job}"), &asked),
                None => missing(
                    "slurm",
                    format!("{} does not say its version", path.display()),
                    &asked,
                    "look at what it prints: it may find no configuration".into(),
                ),
            }
        }
        None => missing(
            "slurm",
            "sbatch is not on the PATH".into(),
            "PATH",
            "run on a login node, or load its module".into(),
        ),
    }
}

fn engine(name: &str, command: &str, roots: &Roots) -> Finding {
    match inventory::find_program(command, &roots.programs) {
        Some(path) => good("engine", format!("{name}: {}", path.display()), "PATH"),
        None => missing(
            "engine",
            format!("{name}: `{command}` is not on the PATH"),
            "PATH",
            "load its module or activate its environment where jobs need it".into(),
        ),
    }
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

fn good(topic: &str, what: String, provenance: &str) -> Finding {
    Finding {
        topic: topic.into(),
        state: FindingState::Good,
        what,
        provenance: provenance.into(),
        remedy: String::new(),
    }
}

fn missing(topic: &str, what: String, provenance: &str, remedy: String) -> Finding {
    Finding { state: FindingState::Missing, remedy, ..good(topic, what, provenance) }
}

fn refused(topic: &str, provenance: &str, refusal: &Refusal) -> Finding {
    let state = if refusal.kind == RefusalKind::Unsupported { FindingState::Limited } else { FindingState::Missing };
    Finding { state, remedy: refusal.remedy.clone(), ..good(topic, refusal.what.clone(), provenance) }
}
