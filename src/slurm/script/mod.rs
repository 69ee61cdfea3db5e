//! The batch script of a group of alike instances.
//!
//! It runs in three turns: by Slurm, which sees to the lock, the step and the clocks; within the step, under `jouleplan
//! meter`; and there as what serves. Server engines (vllm, llama.cpp) take one path: start in the background on a free
//! loopback port, wait for `/health`, send what has no answer yet with as many requests in flight as `max_num_seqs`, stop
//! the whole process group whatever happened. An engine with a `command` of its own is simply run on the shard. What cannot
//! be run (a shard of lengths for a server, a model without an entry in engines.toml) says so and exits with 78.

mod directives;
mod engine;

use std::fmt::Write;

use super::RESULTS;
use super::jobs::Group;
use super::quote::{plain, template, word};
use crate::domain::{DeviceKind, Engine};

pub use directives::{directives, gres, time_limit_minutes};
pub use engine::{container, environment};

use engine::{server_arguments, variables};

/// Loading may take this many times as long as planned before the script gives up, and never less than ten minutes.
const READY_FACTOR: f64 = 4.0;
const READY_AT_LEAST_S: f64 = 600.0;

/// Replaced in the `command` of an engine by the shell variables of the same names.
const PLACEHOLDERS: [&str; 8] =
    ["shard", "output", "model", "checkpoint", "port", "max_num_seqs", "tensor_parallel", "instance"];

/// Seconds after which an engine that is not ready is given up.
pub fn ready_timeout(group: &Group<'_>) -> f64 {
    (group.deployment.load_time.0 * READY_FACTOR).max(READY_AT_LEAST_S).ceil()
}

/// The text of a group's batch script.
///
/// # Errors
/// What cannot be written into a script.
pub fn script(group: &Group<'_>) -> Result<String, String> {
    let mut text = String::from("#!/bin/bash\n");
    for (option, value) in directives(group)? {
        if value.is_empty() {
            let _ = writeln!(text, "#SBATCH --{option}");
        } else if plain(&value) {
            let _ = writeln!(text, "#SBATCH --{option}={value}");
        } else {
            // A comment must stay a comment, whatever the value holds.
            let _ = writeln!(text, "# --{option} is given by `jouleplan submit`: its value needs quoting");
        }
    }
    let ids: Vec<&str> = group.members.iter().map(|member| member.id.as_str()).collect();
    let _ = write!(
        text,
        "# Alike instances of a plan; `jouleplan submit` says which task of an array is which, on what node and when.\n\
         # Quoted names are data: nothing in them shall expand.\n\
         # shellcheck disable=SC2016,SC1112,SC2317\n\
         set -euo pipefail\n\n\
         instances=({})\n",
        ids.join(" ")
    );
    text.push_str(HEAD);
    let _ = write!(text, "\n# What the step does, under the meter.\nserve() {{\n{}}}\n", body(group)?);
    text.push_str(&turns(group));
    Ok(text)
}

const HEAD: &str = r#"instance="${instances[${JOULEPLAN_OFFSET:-0} + ${SLURM_ARRAY_TASK_ID:-0}]:-}"
die() { printf 'jouleplan: %s\n' "$1" >&2; exit "$2"; }
[ -n "$instance" ] || die 'this array has no such task' 64

# `jouleplan submit` says where the plan is; run by hand, the script looks beside itself.
JOULEPLAN_DIR="${JOULEPLAN_DIR:-${SLURM_SUBMIT_DIR:-$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)}}"
export JOULEPLAN_DIR
cd -- "$JOULEPLAN_DIR" || die "cannot enter $JOULEPLAN_DIR" 66
[ -e plan.json ] || die "$JOULEPLAN_DIR is no plan directory: set JOULEPLAN_DIR" 66
mkdir -p results
jouleplan="${JOULEPLAN_BIN:-jouleplan}"
# One file of each kind a run: a job that is requeued does not overwrite what its first run measured.
export JOULEPLAN_RUN="${JOULEPLAN_RUN:-$instance.${SLURM_JOB_ID:-$$}.${SLURM_RESTART_COUNT:-0}}"
record="results/$JOULEPLAN_RUN"
"#;

/// What each of the three turns does.
fn turns(group: &Group<'_>) -> String {
    let (binding, reset) = match group.pool.kind {
        DeviceKind::Gpu => ("cores", RESET_CLOCKS),
        DeviceKind::Cpu => ("sockets", ""),
    };
    let set = group.deployment.sm_clock_mhz.filter(|_| group.pool.clock_control);
    let wanted = set.map_or_else(String::new, |clock| format!("clock_mhz={clock}\n"));
    let reset = if group.pool.kind == DeviceKind::Gpu { format!("{wanted}{reset}") } else { String::new() };
    format!(
        r#"
if [ "${{1:-}}" = serve ]; then
  serve
  exit
fi

if [ "${{1:-}}" = measure ]; then
  status=0
  "$jouleplan" meter --out "$record.meter.json" --marks "$record.marks" -- \
    "$BASH" "${{BASH_SOURCE[0]}}" serve &
  meter_pid=$!
  # Bash handles a signal only between commands, so the meter runs in the background and is told.
  trap 'kill -TERM "$meter_pid" 2>/dev/null || true' TERM INT
  wait "$meter_pid" || status=$?
  while kill -0 "$meter_pid" 2>/dev/null; do wait "$meter_pid" || status=$?; done
  # Nothing was measured and nothing was run: a node without meters still serves.
  if [ "$status" -eq 69 ] && [ ! -e "$record.meter.json" ]; then
    printf 'jouleplan: %s has no meter; the energy of this run is not known\n' "$(uname -n)" >&2
    serve
    exit
  fi
  exit "$status"
fi

"$jouleplan" --version >/dev/null 2>&1 ||
  die "$jouleplan does not run on $(uname -n): put one that does on shared storage and set JOULEPLAN_BIN" 69

# Two runs of an instance would ask twice; one that is dying may take a while.
if command -v flock >/dev/null; then
  exec 9>> "results/$instance.lock"
  flock -w 60 9 || die "another job serves $instance" 75
fi
{reset}
step=()
if [ -n "${{SLURM_JOB_ID:-}}" ] && [ -z "${{JOULEPLAN_LOCAL:-}}" ]; then
  # A step of its own, because Slurm counts the energy of steps.
  step=(srun --nodes=1 --ntasks=1 "--cpus-per-task=${{SLURM_CPUS_PER_TASK:-1}}" --cpu-bind={binding})
fi
status=0
"${{step[@]}}" "$BASH" "${{BASH_SOURCE[0]}}" measure 9>&- &
step_pid=$!
trap 'kill -TERM "$step_pid" 2>/dev/null || true' TERM INT
wait "$step_pid" || status=$?
while kill -0 "$step_pid" 2>/dev/null; do wait "$step_pid" || status=$?; done
exit "$status"
"#
    )
}

/// Of whatever this job may have set, whichever way it ends.
const RESET_CLOCKS: &str = r#"
reset_clocks() {
  local status=$?
  trap - EXIT
  "$jouleplan" --quiet doctor --restore >/dev/null 2>&1 || true
  if [ -n "${clock_mhz:-}" ] && [ -n "${CUDA_VISIBLE_DEVICES:-}" ] && command -v nvidia-smi >/dev/null; then
    nvidia-smi "--id=$CUDA_VISIBLE_DEVICES" --reset-gpu-clocks >/dev/null 2>&1 || true
  fi
  exit "$status"
}
trap reset_clocks EXIT
"#;

fn body(group: &Group<'_>) -> Result<String, String> {
    let family = &group.deployment.family;
    let model = word(&family.model)?;
    let Some(engine) = group.engine else {
        return Ok(format!(
            "model={model}\ndie \"engines.toml has no entry for $model: add one and make the plan again\" 78\n"
        ));
    };
    if let Some(command) = engine.command.as_deref().filter(|command| !command.is_empty()) {
        return command_body(group, engine, command);
    }
    if group.suffixes().contains(&"csv") {
        return Ok(format!(
            "model={model}\ndie \"shards/$instance.csv holds lengths only, no text to send to a server: give $model a command \
             of its own in engines.toml, or plan from OpenAI batch JSONL\" 78\n"
        ));
    }
    match server_arguments(group, engine)? {
        Some(arguments) => server_body(group, engine, &arguments),
        None => Ok(format!(
            "engine={}\ndie \"engine $engine of engines.toml is neither vllm nor llama.cpp and has no command\" 78\n",
            word(&engine.engine)?
        )),
    }
}

pub const CHECK_ENGINE: &str = "command -v -- \"${engine[0]}\" >/dev/null ||\n  \
     die \"${engine[0]} is not on $(uname -n): load it with module or image in engines.toml\" 69\n";

fn command_body(group: &Group<'_>, engine: &Engine, command: &[String]) -> Result<String, String> {
    let mut text = variables(group, engine)?;
    let _ = writeln!(text, "tensor_parallel={}", group.deployment.family.parallel.tensor);
    if command.iter().any(|word| word.contains("{port}")) {
        text.push_str("port=\"$(python3 slurm/run_shard.py free-port)\"\n");
    }
    let words: Result<Vec<String>, String> = command.iter().map(|word| template(word, &PLACEHOLDERS)).collect();
    let words = format!("{}{}", container(group.pool.kind, engine)?, words?.join(" "));
    for suffix in group.suffixes() {
        // A shard that was done before is not done again; one that was begun is begun anew.
        let _ = write!(
            text,
            "\nshard=\"$JOULEPLAN_DIR/shards/$instance.{suffix}\"\noutput=\"$JOULEPLAN_DIR/{RESULTS}/$instance.{suffix}\"\n\
             if [ ! -e \"$output.done\" ]; then\n[ -e \"$shard\" ] || die \"$shard is not there\" 66\nengine=({words})\n\
             {CHECK_ENGINE}\"${{engine[@]}}\"\ntouch -- \"$output.done\"\nfi\n"
        );
    }
    // ShellCheck cannot see which placeholders a command uses.
    Ok(format!("# shellcheck disable=SC2034\n{{\n{text}}}\n"))
}

fn server_body(group: &Group<'_>, engine: &Engine, arguments: &str) -> Result<String, String> {
    let ready = ready_timeout(group);
    let mut text = format!(
        "command -v python3 >/dev/null || die \"python3 is not on $(uname -n): it sends the requests\" 69\n\
         shard=\"shards/$instance.jsonl\" output=\"{RESULTS}/$instance.jsonl\"\n\
         if [ \"$(python3 slurm/run_shard.py left --output \"$output\" \"$shard\")\" = 0 ]; then\n  \
         printf 'jouleplan: every request of %s is answered\\n' \"$instance\" >&2\n  return 0\nfi\n"
    );
    text.push_str(&variables(group, engine)?);
    let _ = write!(
        text,
        "port=\"$(python3 slurm/run_shard.py free-port)\"\n\
         engine=({arguments})\n{CHECK_ENGINE}"
    );
    text.push_str(
        r#"
engine_pid='' client_pid=''
# Whatever ends this also ends the engine with all its processes.
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
setsid "${engine[@]}" >> "results/$instance.engine.log" 2>&1 < /dev/null 9>&- &
engine_pid=$!
"#,
    );
    let _ = write!(
        text,
        "python3 slurm/run_shard.py run --url \"http://127.0.0.1:$port\" --pid \"$engine_pid\" --ready-timeout {ready} \\\n  \
         --concurrency \"$max_num_seqs\" --name \"$instance\" --output \"$output\" \\\n  \
         --errors \"{RESULTS}/$instance.errors.jsonl\" --record \"$record.run.json\" --marks \"$record.marks\" \"$shard\" &\n\
         client_pid=$!\n\
         # In the background and waited for, because bash handles a signal only between commands.\n\
         wait \"$client_pid\"\n"
    );
    Ok(text)
}
