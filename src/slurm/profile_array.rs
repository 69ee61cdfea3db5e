//! `profile` on a cluster: a job array a pool, a task a model, so that every node type measures every model.
//!
//! A task starts the model's server as engines.toml has it, on a free loopback port, and `jouleplan profile` loads it,
//! waiting until it is ready; a requeued task resumes its own samples. Whether a model fits the devices is left to the
//! engine: a task that cannot start it fails alone. Which files belong together is for `profile merge`.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::quote::{job_name, path_argument, plain, word};
use super::script::{CHECK_ENGINE, container, environment, gres};
use super::{SlurmError, write_program};
use crate::domain::{Cluster, DeviceKind, Engine, Pool};
use crate::formats::write::WriteError;

/// Context of a slot beyond the longest request: start tokens and templates.
const CONTEXT_EXTRA: u64 = 64;
/// Minutes beside the budget: loading the model, and its first trials.
const BESIDE_BUDGET: u64 = 30;

/// What every task runs.
#[derive(Clone, Debug)]
pub struct ArrayStudy<'a> {
    pub cluster: &'a Cluster,
    pub models: Vec<ArrayModel<'a>>,
    /// Arguments of `profile` that are the same for all tasks.
    pub arguments: Vec<String>,
    /// Devices of one task.
    pub devices: u32,
    pub tensor_parallel: u32,
    pub max_batch: u32,
    /// Largest input + output.
    pub longest_tokens: u32,
    pub budget_minutes: Option<u64>,
}

/// A model, and what serves it; without an engine, the command among the arguments does the work.
#[derive(Clone, Copy, Debug)]
pub struct ArrayModel<'a> {
    pub model: &'a str,
    pub precision: &'a str,
    pub engine: Option<&'a Engine>,
}

/// Writes `profile-<pool>.sbatch` for each pool that has the devices, and `submit.sh`, under `dir`. Returns the scripts.
///
/// # Errors
/// `Script` where a value cannot be written into a script safely or a pool lacks what a job must ask for; `Write`.
pub fn write(dir: &Path, study: &ArrayStudy<'_>) -> Result<Vec<PathBuf>, SlurmError> {
    fs::create_dir_all(dir).map_err(|source| WriteError::Cannot { path: dir.to_owned(), source })?;
    let mut written = Vec::new();
    let mut submit = String::from(SUBMIT);
    for pool in study.cluster.pools.iter().filter(|pool| pool.devices_per_node >= study.devices) {
        let refused = |what: String| SlurmError::Script { instance: format!("array of pool {}", pool.name), what };
        let name = format!("profile-{}.sbatch", job_name(&pool.name));
        let (text, quoted) = script(pool, study).map_err(refused)?;
        let path = dir.join(&name);
        write_program(&path, &text)?;
        let _ = writeln!(submit, "sbatch {quoted}-- {}", word(&name).map_err(refused)?);
        written.push(path);
    }
    write_program(&dir.join("submit.sh"), &submit)?;
    Ok(written)
}

const SUBMIT: &str = "#!/bin/bash\n# Submits every array; afterwards `jouleplan profile merge *.csv --out samples.csv`.\n\
                      set -euo pipefail\ncd -- \"$(dirname -- \"${BASH_SOURCE[0]}\")\"\n";

const HEAD: &str = r#"# Quoted names are data: nothing in them shall expand.
# shellcheck disable=SC2016,SC1112,SC2034
set -euo pipefail
die() { printf 'jouleplan: %s\n' "$1" >&2; exit "$2"; }
JOULEPLAN_DIR="${SLURM_SUBMIT_DIR:-$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)}"
export JOULEPLAN_DIR
cd -- "$JOULEPLAN_DIR" || die "cannot enter $JOULEPLAN_DIR" 66
command -v jouleplan >/dev/null || die "jouleplan is not on $(uname -n): put it on the PATH of the job" 69
port=$((15000 + ${SLURM_JOB_ID:-$$} % 20000))
while (exec 3<>/dev/tcp/127.0.0.1/"$port") 2>/dev/null; do port=$((port + 1)); done
engine=()
"#;

const SERVE: &str = r#"
engine_pid='' profile_pid=''
# Whatever ends this script also ends the engine with all its processes.
stop() {
  local status=$?
  trap - EXIT TERM INT
  [ -z "$profile_pid" ] || { kill "$profile_pid" 2>/dev/null && wait "$profile_pid"; } || true
  if [ -n "$engine_pid" ]; then
    kill -TERM -- "-$engine_pid" 2>/dev/null || true
    for _ in {1..100}; do
      kill -0 "$engine_pid" 2>/dev/null || break
      sleep 0.2
    done
    kill -KILL -- "-$engine_pid" 2>/dev/null || true
  fi
  exit "$status"
}
trap stop EXIT
trap 'exit 143' TERM INT
if [ "${#engine[@]}" -gt 0 ]; then
"#;

const START: &str = r#"  # A session of its own, so that one signal reaches the workers of the engine too.
  setsid "${engine[@]}" >> "$samples.engine.log" 2>&1 < /dev/null &
  engine_pid=$!
  study+=(--endpoint "http://127.0.0.1:$port" "--served-model=$served")
fi
"#;

/// The text, and the options that only the command line of sbatch can take, quoted.
fn script(pool: &Pool, study: &ArrayStudy<'_>) -> Result<(String, String), String> {
    let (mut text, mut quoted) = (String::from("#!/bin/bash\n"), String::new());
    for (option, value) in directives(pool, study)? {
        if value.is_empty() {
            let _ = writeln!(text, "#SBATCH --{option}");
        } else if plain(&value) {
            let _ = writeln!(text, "#SBATCH --{option}={value}");
        } else {
            let _ = write!(quoted, "{} ", word(&format!("--{option}={value}"))?);
        }
    }
    text.push_str(HEAD);
    text.push_str("case \"${SLURM_ARRAY_TASK_ID:-0}\" in\n");
    for (index, model) in study.models.iter().enumerate() {
        let _ = write!(text, "{index})\n{}", task(pool, study, index, model)?);
        text.push_str(";;\n");
    }
    text.push_str("*) die \"no model has the number $SLURM_ARRAY_TASK_ID\" 64 ;;\nesac\n");
    let arguments: Result<Vec<String>, String> = study.arguments.iter().map(|argument| word(argument)).collect();
    let _ = write!(
        text,
        "study=(--model \"$model\" --precision \"$precision\" --device {} --out \"$samples\" --resume\n  {})\n",
        word(&pool.device)?,
        arguments?.join(" ")
    );
    text.push_str(SERVE);
    // CHECK_ENGINE is written for the top of a script; here it stands in a block.
    let _ = write!(text, "  {}{START}", CHECK_ENGINE.replace('\n', "\n  ").trim_end_matches(' '));
    text.push_str(
        "jouleplan profile \"${study[@]}\" &\nprofile_pid=$!\n\
         # In the background and waited for, because bash handles a signal only between commands.\n\
         wait \"$profile_pid\"\n",
    );
    Ok((text, quoted))
}

/// An option without a value has none.
fn directives(pool: &Pool, study: &ArrayStudy<'_>) -> Result<Vec<(&'static str, String)>, String> {
    let slurm = &pool.slurm;
    let mut options = vec![
        ("job-name", job_name(&format!("jp-profile-{}", pool.name))),
        ("array", format!("0-{}", study.models.len().saturating_sub(1))),
    ];
    let given = [
        ("partition", &slurm.partition),
        ("account", &slurm.account),
        ("qos", &slurm.qos),
        ("constraint", &slurm.constraint),
    ];
    let given = given.into_iter().filter_map(|(option, value)| Some((option, value.clone()?)));
    options.extend(given.filter(|(_, value)| !value.is_empty()));
    options.push(("nodes", "1".into()));
    options.push(("ntasks", "1".into()));
    if pool.kind == DeviceKind::Gpu {
        options.push(("gres", gres(slurm.gres.as_deref(), study.devices)));
        if let Some(cpus) = pool.cpus_per_device {
            options.push(("cpus-per-task", (u64::from(study.devices) * u64::from(cpus)).to_string()));
        }
    } else {
        // A package's counter has no owner: what else runs on the node would be measured too.
        options.push(("exclusive", String::new()));
    }
    if let Some(minutes) = study.budget_minutes {
        options.push(("time", (minutes + BESIDE_BUDGET).to_string()));
    }
    options.push(("output", format!("profile-{}-%a-%j.log", job_name(&pool.name))));
    options.push(("open-mode", "append".into()));
    options.push(("requeue", String::new()));
    Ok(options)
}

/// Names of one task, and its engine.
fn task(pool: &Pool, study: &ArrayStudy<'_>, index: usize, model: &ArrayModel<'_>) -> Result<String, String> {
    let mut text = format!(
        "model={}\nprecision={}\nsamples={}\n",
        word(model.model)?,
        word(model.precision)?,
        word(&format!("{}-{index}-{}.csv", job_name(&pool.name), job_name(model.model)))?,
    );
    let Some(engine) = model.engine else { return Ok(text) };
    let _ = write!(
        text,
        "served={}\ncheckpoint={}\n{}",
        word(&engine.served_name)?,
        word(&path_argument(&engine.checkpoint))?,
        environment(engine)?
    );
    match server(pool, study, engine)? {
        Some(words) => {
            let _ = writeln!(text, "engine=({}{words})", container(pool.kind, engine)?);
        }
        None => {
            let _ = writeln!(
                text,
                "die {} 78",
                word(&format!("engine {} is no server that profile can start: use --command", engine.engine))?
            );
        }
    }
    Ok(text)
}

/// The engine as a server on `$port`, its prompt cache off; `None` for an engine that is none.
fn server(pool: &Pool, study: &ArrayStudy<'_>, engine: &Engine) -> Result<Option<String>, String> {
    let ArrayStudy { max_batch, tensor_parallel, longest_tokens, devices, .. } = *study;
    let mut words = match engine.engine.as_str() {
        "vllm" => format!(
            "vllm serve \"$checkpoint\" --served-model-name=\"$served\" --host=127.0.0.1 --port=\"$port\" \
             --max-num-seqs={max_batch} --tensor-parallel-size={tensor_parallel} --no-enable-prefix-caching"
        ),
        "llama.cpp" => {
            let source = if engine.checkpoint.ends_with(".gguf") { "--model" } else { "--hf-repo" };
            let context = (u64::from(longest_tokens) + CONTEXT_EXTRA) * u64::from(max_batch);
            let mut words = format!(
                "llama-server {source} \"$checkpoint\" --alias \"$served\" --host 127.0.0.1 --port \"$port\" \
                 --parallel {max_batch} --ctx-size {context}"
            );
            if let Some(cpus) = pool.cpus_per_device.filter(|_| pool.kind == DeviceKind::Cpu) {
                let _ =
                    write!(words, " --threads \"${{SLURM_CPUS_PER_TASK:-{}}}\"", u64::from(cpus) * u64::from(devices));
            }
            words
        }
        _ => return Ok(None),
    };
    for argument in &engine.arguments {
        let _ = write!(words, " {}", word(argument)?);
    }
    Ok(Some(words))
}
