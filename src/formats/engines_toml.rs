//! engines.toml: how each model is served, and the architecture that memory and estimates rest on.
//!
//! One entry a (model, precision). `profiles/engines.toml` is built in and holds every model of the bundled samples; a
//! site's own file names its checkpoints, modules and images.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::problems::{Collector, Problems};
use super::toml_text;
use crate::domain::{Architecture, Engine};
use crate::units::Seconds;

const BUILTIN: &str = include_str!("../../profiles/engines.toml");

/// Programs that scripts can be written for.
const ENGINES: [&str; 3] = ["vllm", "llama.cpp", "command"];

/// The entries that come with jouleplan.
pub fn builtin() -> Vec<Engine> {
    // A test parses the file; were it broken, no entries make every architecture unknown rather than the program stop.
    parse(BUILTIN, Path::new("engines.toml")).unwrap_or_default()
}

/// Reads an engines file.
///
/// # Errors
/// `Unreadable`, or every problem at once.
pub fn read(path: &Path) -> Result<Vec<Engine>, Problems> {
    parse(&toml_text::load(path)?, path)
}

/// The entry of this model at this precision.
pub fn find<'a>(engines: &'a [Engine], model: &str, precision: &str) -> Option<&'a Engine> {
    engines.iter().find(|engine| engine.model == model && engine.precision == precision)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    engine: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    model: String,
    checkpoint: String,
    precision: String,
    /// Default: the model.
    served_name: Option<String>,
    architecture: ArchitectureEntry,
    engine: String,
    module: Option<String>,
    image: Option<String>,
    #[serde(default)]
    arguments: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    command: Option<Vec<String>>,
    load_seconds: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ArchitectureEntry {
    layers: u32,
    attention_heads: u32,
    kv_heads: u32,
    head_dimension: u32,
    parameters: f64,
    /// Default: all of them.
    active_parameters: Option<f64>,
    kv_bytes_per_token_layer: Option<f64>,
}

fn parse(text: &str, path: &Path) -> Result<Vec<Engine>, Problems> {
    let file: File = toml_text::parse(text, path)?;
    let mut problems = Collector::new(path);
    if file.engine.is_empty() {
        problems.add("", "the file holds no [[engine]]", "add one a model and precision");
    }
    let mut seen = BTreeSet::new();
    let mut engines = Vec::new();
    for (index, entry) in file.engine.into_iter().enumerate() {
        entry.check(index, &mut problems);
        if !seen.insert((entry.model.clone(), entry.precision.clone())) {
            problems.add(
                format!("engine[{index}].model"),
                format!("{} in {} appears twice", entry.model, entry.precision),
                "keep one entry a model and precision",
            );
        }
        engines.push(entry.into_engine());
    }
    problems.finish(engines)
}

impl Entry {
    fn check(&self, index: usize, problems: &mut Collector) {
        let mut refuse = |field: &str, what: String, remedy: &str| {
            problems.add(format!("engine[{index}].{field}"), what, remedy);
        };
        for (field, text) in [
            ("model", Some(&self.model)),
            ("checkpoint", Some(&self.checkpoint)),
            ("precision", Some(&self.precision)),
            ("served_name", self.served_name.as_ref()),
            ("module", self.module.as_ref()),
            ("image", self.image.as_ref()),
        ] {
            if text.is_some_and(|text| text.trim().is_empty() || text.chars().any(char::is_control)) {
                refuse(
                    field,
                    "the text is blank or holds control characters".into(),
                    "write plain text, or drop the key",
                );
            }
        }
        if self.arguments.iter().chain(self.command.iter().flatten()).any(|text| text.contains(['\0', '\n', '\r'])) {
            refuse("arguments", "an argument holds a line break".into(), "write one argument a string");
        }
        for name in self.environment.keys() {
            let sound = name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
                && name.chars().next().is_some_and(|c| !c.is_ascii_digit());
            if !sound {
                refuse("environment", format!("`{name}` is no name of a variable"), "use letters, digits and _");
            }
        }
        if self.environment.values().any(|value| value.contains(['\0', '\n', '\r'])) {
            refuse("environment", "a value holds a line break".into(), "write it on one line");
        }
        if !ENGINES.contains(&self.engine.as_str()) {
            refuse("engine", format!("`{}` is not known", self.engine), "write vllm, llama.cpp or command");
        }
        if self.engine == "command" && self.command.as_ref().is_none_or(Vec::is_empty) {
            refuse(
                "command",
                "the engine is `command`, but there is none".into(),
                "give the program and its arguments",
            );
        }
        if self.load_seconds.is_some_and(|seconds| !(0.0..=86_400.0).contains(&seconds)) {
            refuse("load_seconds", "the figure is out of range".into(), "expected seconds, from 0 to a day");
        }
        let ArchitectureEntry { layers, attention_heads, kv_heads, head_dimension, parameters, .. } = self.architecture;
        for (field, count, most) in [
            ("architecture.layers", layers, 10_000),
            ("architecture.attention_heads", attention_heads, 100_000),
            ("architecture.kv_heads", kv_heads, attention_heads),
            ("architecture.head_dimension", head_dimension, 100_000),
        ] {
            if count == 0 || count > most {
                refuse(
                    field,
                    format!("{count} is out of range"),
                    "expected at least 1; KV heads at most attention heads",
                );
            }
        }
        if !(parameters > 0.0 && parameters <= 1e15) {
            refuse("architecture.parameters", format!("{parameters} is out of range"), "expected a count, as 8.03e9");
        }
        let active = self.architecture.active_parameters;
        if active.is_some_and(|active| !(active > 0.0 && active <= parameters)) {
            refuse("architecture.active_parameters", "out of range".into(), "expected at most `parameters`");
        }
        if self.architecture.kv_bytes_per_token_layer.is_some_and(|bytes| !(bytes > 0.0 && bytes <= 1e9)) {
            refuse("architecture.kv_bytes_per_token_layer", "out of range".into(), "expected bytes, more than 0");
        }
    }

    fn into_engine(self) -> Engine {
        let architecture = Architecture {
            layers: self.architecture.layers,
            attention_heads: self.architecture.attention_heads,
            kv_heads: self.architecture.kv_heads,
            head_dimension: self.architecture.head_dimension,
            parameters: self.architecture.parameters,
            active_parameters: self.architecture.active_parameters.unwrap_or(self.architecture.parameters),
            kv_bytes_per_token_layer: self.architecture.kv_bytes_per_token_layer,
        };
        Engine {
            served_name: self.served_name.unwrap_or_else(|| self.model.clone()),
            model: self.model,
            checkpoint: self.checkpoint,
            precision: self.precision,
            architecture,
            engine: self.engine,
            module: self.module,
            image: self.image,
            arguments: self.arguments,
            environment: self.environment,
            command: self.command,
            load_time: self.load_seconds.map(Seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_entries_are_sound() {
        let engines = parse(BUILTIN, Path::new("engines.toml")).expect("profiles/engines.toml is sound");
        assert_eq!(engines, builtin());
        let llama = find(&engines, "meta-llama/Llama-3.1-8B-Instruct", "bfloat16").expect("there");
        // 2 * 8 heads * 128 * 2 bytes * 32 layers = 128 KiB a token, as the model's card implies.
        let Architecture { layers, kv_heads, head_dimension, .. } = llama.architecture;
        assert_eq!(2 * kv_heads * head_dimension * 2 * layers, 131_072);
        assert_eq!(llama.served_name, llama.model);
        assert!(find(&engines, "meta-llama/Llama-3.1-8B-Instruct", "fp4").is_none());
    }

    #[test]
    fn every_problem_of_an_entry_is_named() {
        let text = r#"
            [[engine]]
            model = " "
            checkpoint = "c"
            precision = "p"
            engine = "command"
            load_seconds = -1.0
            environment = { "A B" = "x" }
            architecture = { layers = 0, attention_heads = 8, kv_heads = 16, head_dimension = 1, parameters = nan }
        "#;
        let Err(Problems::BadData(problems)) = parse(text, Path::new("e.toml")) else { panic!("accepted") };
        let fields: Vec<&str> =
            problems.iter().filter_map(|problem| problem.place.strip_prefix("engine[0].")).collect();
        assert_eq!(
            fields,
            [
                "model",
                "environment",
                "command",
                "load_seconds",
                "architecture.layers",
                "architecture.kv_heads",
                "architecture.parameters"
            ]
        );
    }

    #[test]
    fn one_entry_a_model_and_precision() {
        let twice = format!("{BUILTIN}\n{BUILTIN}");
        assert!(parse(&twice, Path::new("e.toml")).is_err_and(|error| error.to_string().contains("appears twice")));
        assert!(parse("", Path::new("e.toml")).is_err());
    }
}
