//! The batch script of one instance.
//!
//! Server engines (vllm, llama.cpp) take one path: start in the background on a free loopback port, wait for `/health`,
//! send the shard with as many requests in flight as `max_num_seqs`, stop the whole process group whatever happened. An
//! engine with a `command` of its own is simply run on the shard. What cannot be run (a shard of lengths for a server, a
//! model without an entry in engines.toml) becomes a script that says so and exits with 78.

use std::fmt::Write;

use super::Job;
use super::quote::{job_name, path_argument, plain, template, word};
use crate::domain::{DeviceKind, Engine};
use crate::formats::engines_toml::is_variable;

/// Of the host memory and of a CPU socket's memory, what a job asks for: Slurm's RealMemory is usually set below what is
/// built in, and a job that asks for more than RealMemory never runs.
const MEMORY_SHARE: f64 = 0.9;

/// Loading may take this many times as long as planned before the script gives up, and never less than ten minutes.
const READY_FACTOR: f64 = 4.0;
const READY_AT_LEAST_S: f64 = 600.0;

/// Context of a slot beyond the longest planned request: chat templates add tokens, and counts may be estimates.
const CONTEXT_FACTOR: f64 = 1.25;
const CONTEXT_EXTRA: f64 = 256.0;

/// Replaced in the `command` of an engine by the shell variables of the same names.
const PLACEHOLDERS: [&str; 8] =
    ["shard", "output", "model", "checkpoint", "port", "max_num_seqs", "tensor_parallel", "instance"];

/// The text of a job's batch script.
///
/// # Errors
/// What cannot be written into a script.
pub fn script(job: &Job<'_>) -> Result<String, String> {
    let mut text = String::from("#!/bin/bash\n");
    for (option, value) in directives(job)? {
        if plain(&value) {
            let _ = writeln!(text, "#SBATCH --{option}={value}");
        } else {
            // A comment must stay a comment, whatever the value holds.
            let _ = writeln!(text, "# --{option} is given by submit.sh: its value needs quoting");
        }
    }
    let devices: Vec<String> = job.instance.device_indices.iter().map(u32::to_string).collect();
    let _ = writeln!(
        text,
        "# Instance {}: planned on device {} from {:.0} s to {:.0} s. Slurm picks the devices of a job; the planned ones\n\
         # say which jobs follow each other. submit.sh adds when to begin and what to wait for.\n\
         # Quoted names are data: nothing in them shall expand.\n\
         # shellcheck disable=SC2016,SC1112\n\
         set -euo pipefail\n",
        job.id,
        devices.join(", "),
        job.instance.start.0,
        job.instance.end.0
    );
    text.push_str(
        "die() { printf 'jouleplan: %s\\n' \"$1\" >&2; exit \"$2\"; }\n\n\
         # submit.sh says where the plan is; run by hand, the script looks beside itself.\n\
         JOULEPLAN_DIR=\"${JOULEPLAN_DIR:-${SLURM_SUBMIT_DIR:-$(cd -- \"$(dirname -- \"${BASH_SOURCE[0]}\")/..\" && pwd)}}\"\n\
         export JOULEPLAN_DIR\n\
         cd -- \"$JOULEPLAN_DIR\" || die \"cannot enter $JOULEPLAN_DIR\" 66\n\
         [ -e plan.json ] || die \"$JOULEPLAN_DIR is no plan directory: set JOULEPLAN_DIR\" 66\n\
         mkdir -p results\n\n",
    );
    text.push_str(&body(job)?);
    Ok(text)
}

/// The options of sbatch for a job, in order, without those that only submit.sh can know.
///
/// # Errors
/// A pool that lacks what a job on it must ask for.
pub fn directives(job: &Job<'_>) -> Result<Vec<(&'static str, String)>, String> {
    let Job { id, pool, instance, deployment, .. } = job;
    let devices = deployment.devices;
    let slurm = &pool.slurm;
    let mut options = vec![("job-name", job_name(&format!("jp-{id}-{}", deployment.family.model)))];
    let given = [
        ("partition", &slurm.partition),
        ("account", &slurm.account),
        ("qos", &slurm.qos),
        ("constraint", &slurm.constraint),
    ];
    options.extend(given.into_iter().filter_map(|(option, value)| Some((option, value.clone()?))));
    options.push(("nodes", "1".into()));
    options.push(("ntasks", "1".into()));
    options.push(("nodelist", job.node.to_owned()));
    let mut memory = pool.host_memory.map(|host| host * (f64::from(devices) / f64::from(pool.devices_per_node.max(1))));
    match pool.kind {
        DeviceKind::Gpu => {
            options.push(("gres", gres(slurm.gres.as_deref(), devices)));
            options.extend(deployment.sm_clock_mhz.map(|clock| ("gpu-freq", clock.to_string())));
            if let Some(cpus) = pool.cpus_per_device {
                options.push(("cpus-per-task", (u64::from(devices) * u64::from(cpus)).to_string()));
            }
        }
        DeviceKind::Cpu => {
            let Some(cpus) = pool.cpus_per_device else {
                let remedy = "give cpus_per_device in the cluster file";
                return Err(format!(
                    "pool `{}` is of CPU sockets and does not say how many CPUs each has; {remedy}",
                    pool.name
                ));
            };
            options.push(("cpus-per-task", (u64::from(devices) * u64::from(cpus)).to_string()));
            // Whole sockets, and memory beside its cores: what the plan's figures of a socket mean.
            options.push(("distribution", "block:block".into()));
            options.push(("mem-bind", "local".into()));
            memory = Some(pool.device_memory * f64::from(devices));
        }
    }
    if let Some(memory) = memory {
        let mib = (memory.0 * MEMORY_SHARE / f64::from(1 << 20)).floor();
        if mib >= 1.0 {
            options.push(("mem", format!("{mib}M")));
        }
    }
    // Slurm kills a job at its limit. The planned seconds hold the safety margin, but the script waits for a load that is
    // slower than planned, so that wait comes on top: otherwise the limit would end a job which the wait allows.
    let minutes = ((instance.end - instance.start).0 + ready_timeout(job)) / 60.0;
    options.push(("time", format!("{}", minutes.ceil())));
    options.push(("output", format!("slurm/{id}-%j.log")));
    options.push(("open-mode", "append".into()));
    Ok(options)
}

/// `gpu:h100:8` of a pool, as `gpu:h100:K` for an instance. Without one, any GPU.
pub(super) fn gres(pool: Option<&str>, devices: u32) -> String {
    let first = pool.unwrap_or("gpu").split([',', '(']).next().unwrap_or_default();
    let mut parts: Vec<&str> = first.split(':').filter(|part| !part.is_empty()).collect();
    if parts.last().is_some_and(|count| count.chars().all(|c| c.is_ascii_digit())) && parts.len() > 1 {
        parts.pop();
    }
    if parts.is_empty() {
        parts.push("gpu");
    }
    format!("{}:{devices}", parts.join(":"))
}

fn body(job: &Job<'_>) -> Result<String, String> {
    let family = &job.deployment.family;
    let model = word(&family.model)?;
    let Some(engine) = job.engine else {
        return Ok(format!(
            "model={model}\ndie \"engines.toml has no entry for $model: add one and make the plan again\" 78\n"
        ));
    };
    if let Some(command) = engine.command.as_deref().filter(|command| !command.is_empty()) {
        return command_body(job, engine, command);
    }
    if let Some(lengths) = job.shards.iter().find(|shard| shard.ends_with(".csv")) {
        return Ok(format!(
            "model={model}\ndie \"{lengths} holds lengths only, no text to send to a server: give $model a command of its own in \
             engines.toml, or plan from OpenAI batch JSONL\" 78\n"
        ));
    }
    match server_arguments(job, engine)? {
        Some(arguments) => server_body(job, engine, &arguments),
        None => Ok(format!(
            "engine={}\ndie \"engine $engine of engines.toml is neither vllm nor llama.cpp and has no command\" 78\n",
            word(&engine.engine)?
        )),
    }
}

/// Names and numbers that the rest of the script and the placeholders of a command refer to.
fn variables(job: &Job<'_>, engine: &Engine) -> Result<String, String> {
    let mut text = format!(
        "instance={}\nmodel={}\ncheckpoint={}\nmax_num_seqs={}\n",
        job.id,
        word(&engine.served_name)?,
        word(&path_argument(&engine.checkpoint))?,
        job.deployment.max_num_seqs,
    );
    text.push_str(&environment(engine)?);
    Ok(text)
}

/// What an engine needs before it starts: its environment, and its module.
///
/// # Errors
/// A name that is none, or a value that no program can be given.
pub(super) fn environment(engine: &Engine) -> Result<String, String> {
    let mut text = String::new();
    for (name, value) in &engine.environment {
        if !is_variable(name) {
            return Err(format!("`{}` is no name of an environment variable", name.escape_debug()));
        }
        let _ = writeln!(text, "export {name}={}", word(value)?);
    }
    if let Some(module) = &engine.module {
        // Module systems are shell functions that use unset variables.
        let _ = writeln!(
            text,
            "set +u\n# shellcheck source=/dev/null\ntype module >/dev/null 2>&1 || . /etc/profile\nmodule load {}\nset -u",
            word(&path_argument(module))?
        );
    }
    Ok(text)
}

/// `apptainer exec ..` in front of the engine's own words, if it comes as an image.
pub(super) fn container(kind: DeviceKind, engine: &Engine) -> Result<String, String> {
    let Some(image) = &engine.image else { return Ok(String::new()) };
    let nv = if kind == DeviceKind::Gpu { "--nv " } else { "" };
    Ok(format!("apptainer exec {nv}--bind \"$JOULEPLAN_DIR\" {} ", word(&path_argument(image))?))
}

pub(super) const CHECK_ENGINE: &str = "command -v -- \"${engine[0]}\" >/dev/null ||\n  \
     die \"${engine[0]} is not on $(uname -n): load it with module or image in engines.toml\" 69\n";

fn command_body(job: &Job<'_>, engine: &Engine, command: &[String]) -> Result<String, String> {
    let mut text = variables(job, engine)?;
    let _ = writeln!(text, "tensor_parallel={}", job.deployment.family.parallel.tensor);
    if command.iter().any(|word| word.contains("{port}")) {
        text.push_str("port=\"$(python3 slurm/run_shard.py free-port)\"\n");
    }
    let words: Result<Vec<String>, String> = command.iter().map(|word| template(word, &PLACEHOLDERS)).collect();
    let words = format!("{}{}", container(job.pool.kind, engine)?, words?.join(" "));
    for shard in job.shards {
        let name = shard.rsplit('/').next().unwrap_or(shard);
        let _ = write!(
            text,
            "\nshard=\"$JOULEPLAN_DIR/{shard}\"\noutput=\"$JOULEPLAN_DIR/results/{name}\"\n[ -e \"$shard\" ] || die \"$shard \
             is not there\" 66\nengine=({words})\n{CHECK_ENGINE}\"${{engine[@]}}\"\n"
        );
    }
    // ShellCheck cannot see which placeholders a command uses.
    Ok(format!("# shellcheck disable=SC2034\n{{\n{text}}}\n"))
}

/// The engine as a server on `$port`; `None` for an engine that is none.
fn server_arguments(job: &Job<'_>, engine: &Engine) -> Result<Option<String>, String> {
    let family = &job.deployment.family;
    let parallel = family.parallel;
    let mut words: Vec<String> = match engine.engine.as_str() {
        "vllm" => {
            // vLLM spreads experts over tensor x data parallel ranks: attention is split over the devices that data and
            // pipeline parallelism leave, even where the family counts its tensor parallel degree as 1.
            let replicas = parallel.data.max(1) * parallel.pipeline.max(1);
            let tensor = if parallel.expert > 1 { (family.devices / replicas).max(1) } else { parallel.tensor };
            let mut words: Vec<String> = [
                "vllm",
                "serve",
                "\"$checkpoint\"",
                "--served-model-name=\"$model\"",
                "--host=127.0.0.1",
                "--port=\"$port\"",
                "--max-num-seqs=\"$max_num_seqs\"",
            ]
            .map(str::to_owned)
            .into();
            words.push(format!("--tensor-parallel-size={tensor}"));
            if parallel.data > 1 {
                words.push(format!("--data-parallel-size={}", parallel.data));
            }
            if parallel.pipeline > 1 {
                words.push(format!("--pipeline-parallel-size={}", parallel.pipeline));
            }
            if parallel.expert > 1 {
                words.push("--enable-expert-parallel".into());
            }
            words
        }
        "llama.cpp" => {
            let source = if engine.checkpoint.ends_with(".gguf") { "--model" } else { "--hf-repo" };
            let mut words: Vec<String> = [
                "llama-server",
                source,
                "\"$checkpoint\"",
                "--alias",
                "\"$model\"",
                "--host",
                "127.0.0.1",
                "--port",
                "\"$port\"",
                "--parallel",
                "\"$max_num_seqs\"",
            ]
            .map(str::to_owned)
            .into();
            if !engine.arguments.iter().any(|argument| ["-c", "--ctx-size"].contains(&argument.as_str())) {
                // llama-server divides its context among the slots.
                let context = (f64::from(job.longest_tokens) * CONTEXT_FACTOR).ceil() + CONTEXT_EXTRA;
                words.push(format!("--ctx-size {}", context * f64::from(job.deployment.max_num_seqs)));
            }
            if let Some(cpus) = job.pool.cpus_per_device.filter(|_| job.pool.kind == DeviceKind::Cpu) {
                words.push(format!(
                    "--threads \"${{SLURM_CPUS_PER_TASK:-{}}}\"",
                    u64::from(cpus) * u64::from(family.devices)
                ));
            }
            words
        }
        _ => return Ok(None),
    };
    for argument in &engine.arguments {
        words.push(word(argument)?);
    }
    Ok(Some(format!("{}{}", container(job.pool.kind, engine)?, words.join(" \\\n  "))))
}

/// Seconds after which an engine that is not ready is given up.
fn ready_timeout(job: &Job<'_>) -> f64 {
    (job.deployment.load_time.0 * READY_FACTOR).max(READY_AT_LEAST_S).ceil()
}

fn server_body(job: &Job<'_>, engine: &Engine, arguments: &str) -> Result<String, String> {
    let ready = ready_timeout(job);
    let mut text = variables(job, engine)?;
    let _ = write!(
        text,
        "\ncommand -v python3 >/dev/null || die \"python3 is not on $(uname -n): it sends the requests\" 69\n\
         port=\"$(python3 slurm/run_shard.py free-port)\"\n\
         engine=({arguments})\n{CHECK_ENGINE}"
    );
    text.push_str(
        r#"
engine_pid='' client_pid=''
# Whatever ends this script also ends the engine with all its processes.
stop() {
  local status=$?
  trap - EXIT TERM INT
  [ -z "$client_pid" ] || kill "$client_pid" 2>/dev/null || true
  if [ -n "$engine_pid" ]; then
    kill -TERM -- "-$engine_pid" 2>/dev/null || true
    for _ in {1..100}; do
      kill -0 "$engine_pid" 2>/dev/null || break
      sleep 0.2
    done
    # What the engine left behind, or the engine if 20 s were not enough.
    kill -KILL -- "-$engine_pid" 2>/dev/null || true
  fi
  exit "$status"
}
trap stop EXIT
trap 'exit 143' TERM INT

# A session of its own, so that one signal reaches the workers of the engine too.
setsid "${engine[@]}" >> "results/$instance.engine.log" 2>&1 < /dev/null &
engine_pid=$!
"#,
    );
    for shard in job.shards {
        let _ = write!(
            text,
            "python3 slurm/run_shard.py run --url \"http://127.0.0.1:$port\" --pid \"$engine_pid\" --ready-timeout {ready} \\\n  \
             --concurrency \"$max_num_seqs\" --output \"results/$instance.jsonl\" --errors \"results/$instance.errors.jsonl\" \\\n  \
             {shard} &\n\
             client_pid=$!\n\
             # In the background and waited for, because bash handles a signal only between commands.\n\
             wait \"$client_pid\"\n"
        );
    }
    Ok(text)
}
