//! The engine of a group: its variables, its container, and its words as a server.

use std::fmt::Write;

use super::super::jobs::Group;
use super::super::quote::{path_argument, word};
use crate::domain::{DeviceKind, Engine};
use crate::formats::engines_toml::is_variable;

/// Context of a slot beyond the longest planned request: chat templates add tokens, and counts may be estimates.
const CONTEXT_FACTOR: f64 = 1.25;
const CONTEXT_EXTRA: f64 = 256.0;

/// Names and numbers that the rest of the script and the placeholders of a command refer to.
pub fn variables(group: &Group<'_>, engine: &Engine) -> Result<String, String> {
    let mut text = format!(
        "model={}\ncheckpoint={}\nmax_num_seqs={}\n",
        word(&engine.served_name)?,
        word(&path_argument(&engine.checkpoint))?,
        group.deployment.max_num_seqs,
    );
    text.push_str(&environment(engine)?);
    Ok(text)
}

/// What an engine needs before it starts: its environment, and its module.
///
/// # Errors
/// A name that is none, or a value that no program can be given.
pub fn environment(engine: &Engine) -> Result<String, String> {
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
pub fn container(kind: DeviceKind, engine: &Engine) -> Result<String, String> {
    let Some(image) = &engine.image else { return Ok(String::new()) };
    let nv = if kind == DeviceKind::Gpu { "--nv " } else { "" };
    Ok(format!("apptainer exec {nv}--bind \"$JOULEPLAN_DIR\" {} ", word(&path_argument(image))?))
}

/// The engine as a server on `$port`; `None` for an engine that is none.
pub fn server_arguments(group: &Group<'_>, engine: &Engine) -> Result<Option<String>, String> {
    let family = &group.deployment.family;
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
                let context = (f64::from(group.longest_tokens) * CONTEXT_FACTOR).ceil() + CONTEXT_EXTRA;
                words.push(format!("--ctx-size {}", context * f64::from(group.deployment.max_num_seqs)));
            }
            if let Some(cpus) = group.pool.cpus_per_device.filter(|_| group.pool.kind == DeviceKind::Cpu) {
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
    Ok(Some(format!("{}{}", container(group.pool.kind, engine)?, words.join(" \\\n  "))))
}
