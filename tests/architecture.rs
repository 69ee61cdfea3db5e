//! The order of the modules and what each must never do (`src/lib.rs`), read from the sources themselves.
//!
//! A module may import only modules to its left. Tests inside the sources are held to the same rules, except that they
//! may print what they measured.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Left to right: a module may import those before it.
const ORDER: [&str; 15] = [
    "units",
    "domain",
    "stats",
    "formats",
    "measure",
    "fit",
    "telemetry",
    "forecast",
    "options",
    "plan",
    "check",
    "simulate",
    "slurm",
    "report",
    "cli",
];

/// (module, module it must not import although the order would allow it, why).
const NEVER: [(&str, &str, &str); 3] = [
    ("plan", "formats", "the maths knows no files"),
    ("check", "formats", "the maths knows no files"),
    ("check", "plan", "the checker is independent of the solver"),
];

/// (words, modules that must not contain them, why).
const FORBIDDEN: [(&[&str], Where, &str); 7] = [
    (&["serde", "std::fs", "std::net", "std::process"], Where::In(&["units", "domain"]), "domain is plain values"),
    (&["anyhow"], Where::Outside(CLI), "library errors are typed"),
    (&["clap::"], Where::Outside(CLI), "only cli knows the command line"),
    (&["std::process::exit", "process::exit("], Where::Outside(CLI), "only cli exits"),
    (&["println!", "eprintln!", "print!(", "dbg!("], Where::Outside(CLI), "only cli prints"),
    (&["nvml_wrapper", "\"/sys", "\"/dev"], Where::Outside(&["measure"]), "only measure touches hardware"),
    (&["std::fs", "clap", "slurm"], Where::In(&["plan", "check"]), "plan and check read no files and know no Slurm"),
];

enum Where {
    In(&'static [&'static str]),
    Outside(&'static [&'static str]),
}

const CLI: &[&str] = &["cli", "main"];

struct Source {
    path: PathBuf,
    module: String,
    /// Without comments; with `#[cfg(test)]` parts blanked in `code`.
    text: String,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    assert!(found.len() > 20, "the sources were found");
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root).unwrap();
            let first = relative.components().next().unwrap().as_os_str().to_string_lossy();
            let module = first.trim_end_matches(".rs").to_owned();
            let text = without_comments(&fs::read_to_string(&path).unwrap());
            let is_test_file = relative.file_name().is_some_and(|name| name == "tests.rs");
            let code = if is_test_file { String::new() } else { without_tests(&text) };
            found.push(Source { path: relative.to_owned(), module, text, code });
        }
    }
}

fn without_comments(text: &str) -> String {
    let code = |line: &str| if line.trim_start().starts_with("//") { String::new() } else { line.to_owned() };
    text.lines().map(code).collect::<Vec<_>>().join("\n")
}

/// Tests stand at the end of a file here: all from the first `#[cfg(test)] mod` on is theirs.
fn without_tests(text: &str) -> String {
    text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned()
}

/// The top-level modules that a source names: `crate::plan::..` and each of `crate::{domain::.., units}`.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => found.extend([name(rest)]),
            Some(list) => {
                let mut depth = 0;
                let mut start = 0;
                for (end, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        ',' | '}' if depth == 0 => {
                            found.extend([name(list[start..end].trim())]);
                            start = end + 1;
                            if c == '}' {
                                break;
                            }
                        }
                        '}' => depth -= 1,
                        _ => {}
                    }
                }
            }
        }
    }
    found.remove("");
    found
}

/// Whether a chain of `super::` climbs out of its top-level module, past what `imports` sees.
fn climbs_out(source: &Source) -> bool {
    let is_module_root = source.path.ends_with("mod.rs");
    let depth = source.path.components().count() - usize::from(is_module_root);
    source.code.contains(&"super::".repeat(depth))
}

fn name(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn place(module: &str) -> Option<usize> {
    ORDER.iter().position(|candidate| *candidate == module)
}

#[test]
fn modules_import_only_to_their_left() {
    let mut wrong = Vec::new();
    for source in sources() {
        if ["lib", "main"].contains(&source.module.as_str()) {
            continue;
        }
        if climbs_out(&source) {
            wrong.push(format!("{} climbs to the root with super::; write crate::", source.path.display()));
        }
        let here =
            place(&source.module).unwrap_or_else(|| panic!("module {} has no place in the order", source.module));
        for import in imports(&source.text) {
            match place(&import) {
                None => wrong.push(format!("{} imports {import}, which has no place", source.path.display())),
                Some(there) if there > here => wrong.push(format!("{} imports {import}", source.path.display())),
                Some(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "imports against the order:\n{}", wrong.join("\n"));
}

#[test]
fn plan_and_check_stand_apart() {
    let mut wrong = Vec::new();
    for source in sources() {
        let imported = imports(&source.code);
        for (module, never, why) in NEVER {
            if source.module == module && imported.contains(never) {
                wrong.push(format!("{} imports {never}: {why}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_module_keeps_to_its_trade() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (words, place, why) in FORBIDDEN {
            let applies = match place {
                Where::In(modules) => modules.contains(&source.module.as_str()),
                Where::Outside(modules) => !modules.contains(&source.module.as_str()),
            };
            if !applies {
                continue;
            }
            for word in words {
                if source.code.contains(word) {
                    wrong.push(format!("{} has `{word}`: {why}", source.path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sources_hold_no_unsafe_and_open_with_what_they_are() {
    for source in sources() {
        assert!(!source.code.contains("unsafe "), "{} has unsafe code", source.path.display());
        let whole = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(&source.path)).unwrap();
        let opens = whole.starts_with("//!") || source.path.ends_with("tests.rs") || source.module == "main";
        assert!(opens || source.module == "lib", "{} does not say what it is", source.path.display());
    }
}

#[test]
fn the_scanner_sees_what_it_should() {
    let text = "use crate::domain::Job;\nuse crate::{units, formats::{a, b}, plan};\nlet x = crate::slurm::write;\nmycrate::no";
    let expected = ["domain", "formats", "plan", "slurm", "units"].map(str::to_owned);
    assert_eq!(imports(text), BTreeSet::from(expected));
    assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests {\n println!()\n}"), "a\n");
}
