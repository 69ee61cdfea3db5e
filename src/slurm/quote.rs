//! Everything that reaches a script, quoted. Names are data: nothing in a model's name, a path or a node may execute.
//!
//! In the body of a script `shlex` quotes for the shell. An `#SBATCH` line has a parser of its own, so only values
//! without blanks, quotes, backslashes and `#` are written there; others go to the command line of `sbatch`, quoted.

/// A shell word that expands to `text`, whatever it holds.
///
/// # Errors
/// A NUL byte, which no argument of a program can hold.
pub fn word(text: &str) -> Result<String, String> {
    match shlex::try_quote(text) {
        Ok(quoted) => Ok(quoted.into_owned()),
        Err(_) => Err(format!("`{}` holds a NUL byte, which no program can be given", text.escape_debug())),
    }
}

/// A word in which `{name}` is replaced by the shell variable of that name, for the `names` given; other braces stay.
///
/// # Errors
/// As for `word`.
pub fn template(text: &str, names: &[&str]) -> Result<String, String> {
    let mut out = String::new();
    let mut literal_from = 0;
    let mut at = 0;
    while let Some(open) = text[at..].find('{').map(|found| at + found) {
        let name =
            names.iter().find(|name| text[open + 1..].strip_prefix(**name).is_some_and(|rest| rest.starts_with('}')));
        at = open + 1;
        if let Some(name) = name {
            if literal_from < open {
                out.push_str(&word(&text[literal_from..open])?);
            }
            out.push_str(&format!("\"${name}\""));
            at = open + name.len() + 2;
            literal_from = at;
        }
    }
    if literal_from < text.len() || out.is_empty() {
        out.push_str(&word(&text[literal_from..])?);
    }
    Ok(out)
}

/// Whether a value may stand in an `#SBATCH` line as it is.
pub fn plain(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+/:=,@%&|*()[]".contains(c);
    !value.is_empty() && value.chars().all(plain)
}

/// A job name from any text: runs of other characters become one `_`.
pub fn job_name(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || ".-".contains(c) {
            name.push(c);
        } else if !name.ends_with('_') {
            name.push('_');
        }
    }
    name.truncate(48);
    name
}

/// A path that a program cannot take for an option.
pub fn path_argument(path: &str) -> String {
    if path.starts_with('-') { format!("./{path}") } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const HOSTILE: [&str; 12] = [
        "",
        "plain",
        "two words",
        "it's",
        "a \"b\"",
        "$(touch pwned)`touch pwned`",
        "-rf",
        "line\nbreak",
        "'; touch pwned; '",
        "back\\slash!#*?[x]{a,b}~",
        "日本 — “smart” ’",
        "\u{1b}[31m\t",
    ];

    fn echoed(script: &str) -> String {
        let output = Command::new("bash").args(["-c", script]).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn the_shell_gives_back_what_was_quoted() {
        for text in HOSTILE {
            assert_eq!(echoed(&format!("printf %s {}", word(text).unwrap())), text);
        }
        assert!(word("a\0b").unwrap_err().contains("NUL"));
    }

    #[test]
    fn templates_replace_their_names_and_nothing_else() {
        for text in HOSTILE {
            let filled = template(&format!("{text}{{shard}}{text}{{other}}"), &["shard"]).unwrap();
            let expected = format!("{text}a b{text}{{other}}");
            assert_eq!(echoed(&format!("shard='a b'; printf %s {filled}")), expected);
        }
        assert_eq!(echoed(&format!("printf '<%s>' {}", template("", &["shard"]).unwrap())), "<>");
        assert_eq!(template("{shard}", &["shard"]).unwrap(), "\"$shard\"");
    }

    #[test]
    fn only_harmless_values_are_plain() {
        assert!(plain("gpu:h100:2") && plain("(hopper|ada)&nvlink") && plain("n[1-2]"));
        assert!(HOSTILE.iter().filter(|text| plain(text)).eq(["plain", "-rf"].iter()));
        assert_eq!(job_name("a$(b)\n c/é"), "a_b_c_");
    }
}
