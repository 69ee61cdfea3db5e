//! A plan run on this machine, without Slurm: the same scripts under bash, with the devices that the plan gave them.
//!
//! Every node of the plan is this machine, so instances that use a device of the same number follow each other, whatever
//! node they were planned for. A signal ends the scripts, which end their engines; what was answered stays.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{Opened, Request, SubmitError};
use crate::formats::job_scripts::{InstanceScript, JobScript};
use crate::formats::write::WriteError;
use crate::slurm::RESULTS;

/// How an instance ended here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub instance: String,
    /// `None` where a signal ended it.
    pub code: Option<i32>,
}

struct Running<'a> {
    instance: &'a InstanceScript,
    child: Child,
}

/// Runs what has no answers yet. `tell` hears of each instance that ends.
///
/// # Errors
/// Scripts that cannot be started; answers that cannot be read.
pub fn run(opened: &Opened, request: &Request, tell: &mut dyn FnMut(&Ended)) -> Result<Vec<Ended>, SubmitError> {
    let cannot = |source| WriteError::Cannot { path: opened.dir.join(RESULTS), source };
    fs::create_dir_all(opened.dir.join(RESULTS)).map_err(cannot)?;
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stopped)).map_err(cannot)?;
    }
    let mut waiting: Vec<(&JobScript, usize)> = Vec::new();
    for script in &opened.scripts.scripts {
        for (index, instance) in script.instances.iter().enumerate() {
            if !opened.state(instance)?.is_complete() {
                waiting.push((script, index));
            }
        }
    }
    waiting.sort_by(|a, b| {
        let start = |(script, index): &(&JobScript, usize)| script.instances[*index].start_s;
        start(a).total_cmp(&start(b))
    });
    let zero = Instant::now();
    let (mut running, mut ended): (Vec<Running>, Vec<Ended>) = (Vec::new(), Vec::new());
    while !waiting.is_empty() || !running.is_empty() {
        if stopped.load(Ordering::Relaxed) {
            waiting.clear();
            for one in &running {
                let pid = i32::try_from(one.child.id()).ok().and_then(Pid::from_raw);
                let _ = pid.map(|pid| kill_process(pid, Signal::TERM)); // it may have ended meanwhile
            }
            stopped.store(false, Ordering::Relaxed);
        }
        let mut still = Vec::new();
        for mut one in running {
            match one.child.try_wait().map_err(cannot)? {
                None => still.push(one),
                Some(status) => {
                    let end = Ended { instance: one.instance.instance.clone(), code: status.code() };
                    tell(&end);
                    ended.push(end);
                }
            }
        }
        running = still;
        let mut held: BTreeSet<u32> = running.iter().flat_map(|one| one.instance.devices.iter().copied()).collect();
        let mut later = Vec::new();
        for (script, index) in waiting {
            let instance = &script.instances[index];
            let begun = request.asap || zero.elapsed().as_secs_f64() >= instance.begin_s;
            if begun && instance.devices.iter().all(|device| !held.contains(device)) {
                running.push(Running { instance, child: start(opened, request, script, index).map_err(cannot)? });
            } else {
                later.push((script, index));
            }
            // Those behind it on its devices wait for it.
            held.extend(&instance.devices);
        }
        waiting = later;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(ended)
}

fn start(opened: &Opened, request: &Request, script: &JobScript, index: usize) -> io::Result<Child> {
    let instance = &script.instances[index];
    let log = opened.dir.join(RESULTS).join(format!("{}.local.log", instance.instance));
    let log = File::options().create(true).append(true).open(log)?;
    let mut command = Command::new("bash");
    command
        .arg(opened.dir.join(&script.file))
        .current_dir(&opened.dir)
        .env("JOULEPLAN_DIR", &opened.dir)
        .env("JOULEPLAN_BIN", &request.program)
        .env("JOULEPLAN_OFFSET", index.to_string())
        .env("JOULEPLAN_LOCAL", "1")
        .env_remove("SLURM_ARRAY_TASK_ID")
        .env_remove("JOULEPLAN_RUN")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    if script.kind == "gpu" {
        let devices: Vec<String> = instance.devices.iter().map(u32::to_string).collect();
        command.env("CUDA_VISIBLE_DEVICES", devices.join(","));
    }
    command.spawn()
}
