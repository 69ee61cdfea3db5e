//! engines.toml: how each model is served, and the architecture that memory and estimates rest on.
//!
//! One entry a (model, precision). `profiles/engines.toml` is built in and holds every model of the bundled samples; a
//! site's own file names its checkpoints, modules and images.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::problems::Problems;
use super::text::read_text;
use super::toml_document::{Section, read_document};
use crate::domain::{Architecture, Engine};
use crate::units::Seconds;

const BUILTIN: &str = include_str!("../../profiles/engines.toml");

/// Programs that scripts can be written for.
const ENGINES: [&str; 3] = ["vllm", "llama.cpp", "command"];
const MAX_LOAD_SECONDS: f64 = 86_400.0;
const MAX_PARAMETERS: f64 = 1e15;

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
    parse(&read_text(path)?, path)
}

/// The entry of this model at this precision.
pub fn find<'a>(engines: &'a [Engine], model: &str, precision: &str) -> Option<&'a Engine> {
    engines.iter().find(|engine| engine.model == model && engine.precision == precision)
}

fn parse(text: &str, path: &Path) -> Result<Vec<Engine>, Problems> {
    read_document(path, text, |root| {
        let sections = root.sections("engine");
        if sections.is_empty() {
            root.problem("engine", "there is no engine", "add one `[[engine]]` a model and precision");
        }
        let mut seen = BTreeSet::new();
        sections.into_iter().filter_map(|section| entry(section, &mut seen)).collect()
    })
}

fn entry(mut section: Section<'_>, seen: &mut BTreeSet<(String, String)>) -> Option<Engine> {
    for (key, remedy) in [
        ("model", "name the model as the samples do"),
        ("checkpoint", "say what the engine loads"),
        ("precision", "name the precision as the samples do"),
        ("engine", "write vllm, llama.cpp or command"),
        ("architecture", "memory and estimates rest on it"),
    ] {
        section.require(key, remedy);
    }
    let [model, checkpoint, precision, served_name, module, image] =
        ["model", "checkpoint", "precision", "served_name", "module", "image"].map(|key| section.text(key));
    if let (Some(model), Some(precision)) = (&model, &precision)
        && !seen.insert((model.clone(), precision.clone()))
    {
        let what = format!("{model} in {precision} appears twice");
        section.problem("model", what, "keep one entry a model and precision");
    }
    let environment = section.section("environment").map(environment).unwrap_or_default();
    let engine = section.one_of("engine", &ENGINES.map(|name| (name, name)));
    let arguments = section.words("arguments").unwrap_or_default();
    let command = section.words("command");
    if engine == Some("command") && command.as_ref().map_or(!section.has("command"), Vec::is_empty) {
        section.problem("command", "the engine is `command`, but there is none", "give the program and its arguments");
    }
    let load_time = section.number("load_seconds", 0.0, MAX_LOAD_SECONDS).map(Seconds);
    let architecture = section.section("architecture").and_then(architecture);
    section.note_unknown_keys();
    let model = model?;
    Some(Engine {
        served_name: served_name.unwrap_or_else(|| model.clone()),
        model,
        checkpoint: checkpoint?,
        precision: precision?,
        architecture: architecture?,
        engine: engine?.to_owned(),
        module,
        image,
        arguments,
        environment,
        command,
        load_time,
    })
}

/// Whether a shell takes this as the name of a variable.
pub fn is_variable(name: &str) -> bool {
    name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()) && name.starts_with(|c: char| !c.is_ascii_digit())
}

fn environment(mut section: Section<'_>) -> BTreeMap<String, String> {
    let variables: BTreeMap<String, String> = section.named_words().into_iter().collect();
    for name in variables.keys() {
        if !is_variable(name) {
            section.problem(name, format!("`{name}` is no name of a variable"), "use letters, digits and _");
        }
    }
    variables
}

fn architecture(mut section: Section<'_>) -> Option<Architecture> {
    for key in ["layers", "attention_heads", "kv_heads", "head_dimension", "parameters"] {
        section.require(key, "the model's own config.json has it");
    }
    let layers = section.whole("layers", 1, 10_000);
    let attention_heads = section.whole("attention_heads", 1, 100_000);
    // KV heads are at most the attention heads, active parameters at most all.
    let kv_heads = section.whole("kv_heads", 1, attention_heads.unwrap_or(100_000));
    let head_dimension = section.whole("head_dimension", 1, 100_000);
    let parameters = section.number("parameters", f64::MIN_POSITIVE, MAX_PARAMETERS);
    let most = parameters.unwrap_or(MAX_PARAMETERS);
    let active_parameters = section.number("active_parameters", f64::MIN_POSITIVE, most);
    let kv_bytes_per_token_layer = section.number("kv_bytes_per_token_layer", f64::MIN_POSITIVE, 1e9);
    section.note_unknown_keys();
    Some(Architecture {
        layers: layers?,
        attention_heads: attention_heads?,
        kv_heads: kv_heads?,
        head_dimension: head_dimension?,
        parameters: parameters?,
        active_parameters: active_parameters.or(parameters)?,
        kv_bytes_per_token_layer,
    })
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
        let places: Vec<&str> = problems.iter().map(|problem| problem.place.as_str()).collect();
        for key in [
            "engine[1].model)",
            "engine[1].environment.A B)",
            "engine[1].command)",
            "engine[1].load_seconds)",
            "engine[1].architecture.layers)",
            "engine[1].architecture.kv_heads)",
            "engine[1].architecture.parameters)",
        ] {
            assert!(places.iter().any(|place| place.ends_with(key)), "{key} not in {places:?}");
        }
        assert_eq!(places.len(), 7, "{places:?}");
    }

    #[test]
    fn words_of_a_command_stay_as_they_are_and_a_slip_has_its_line() {
        let text = r#"[[engine]]
            model = "m"
            checkpoint = "c"
            precision = "p"
            engine = "command"
            command = ["run", "--sep", " ", ""]
            environment = { A = " 1 " }
            architecture = { layers = 1, attention_heads = 8, kv_heads = 8, head_dimension = 1, parameters = 1_000 }
        "#;
        let engine = &parse(text, Path::new("e.toml")).expect("sound")[0];
        assert_eq!(engine.command.as_deref().expect("there"), ["run", "--sep", " ", ""]);
        assert_eq!((engine.environment["A"].as_str(), engine.architecture.active_parameters), (" 1 ", 1000.0));
        let error =
            parse(&text.replace("\" \", ", "\"\\n\", 3, "), Path::new("e.toml")).expect_err("accepted").to_string();
        assert!(error.contains("line 6, column 40 (engine[1].command): the text holds a line break"), "{error}");
        assert!(error.contains("line 6, column 46 (engine[1].command): a integer"), "{error}");
        let error = parse(&text.replace("\"command\"", "\"comand\""), Path::new("e.toml")).expect_err("accepted");
        assert!(error.to_string().contains("write one of: vllm, llama.cpp, command"), "{error}");
    }

    #[test]
    fn one_entry_a_model_and_precision() {
        let twice = format!("{BUILTIN}\n{BUILTIN}");
        assert!(parse(&twice, Path::new("e.toml")).is_err_and(|error| error.to_string().contains("appears twice")));
        assert!(parse("", Path::new("e.toml")).is_err());
    }
}
