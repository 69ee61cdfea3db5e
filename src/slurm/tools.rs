//! Slurm's own programs, run as they are: every word an argument, never a shell.

use std::io::{self, Write};
use std::process::{Command, Stdio};

#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    #[error("{program} cannot be run: {source}; run this on a login node of the cluster")]
    Absent { program: String, source: io::Error },
    #[error("{command} failed: {said}")]
    Failed { command: String, said: String },
}

/// What a program printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub stdout: String,
    pub stderr: String,
}

/// Runs a program that must succeed.
///
/// # Errors
/// `Absent`; `Failed` with what it printed on stderr.
pub fn run(program: &str, arguments: &[&str]) -> Result<Said, ToolError> {
    run_with(program, arguments, &[], "")
}

/// As `run`, with more in its environment and `input` on its stdin.
///
/// # Errors
/// As `run`.
pub fn run_with(
    program: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
    input: &str,
) -> Result<Said, ToolError> {
    let absent = |source| ToolError::Absent { program: program.to_owned(), source };
    let mut child = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(absent)?;
    let stdin = child.stdin.take();
    // Beside reading, because a program may answer before it has read everything.
    let output = std::thread::scope(|scope| {
        if let Some(mut stdin) = stdin {
            // A program that does not read its stdin closes it.
            scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
        }
        child.wait_with_output()
    })
    .map_err(absent)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = Said { stdout: text(&output.stdout), stderr: text(&output.stderr) };
    if output.status.success() {
        return Ok(said);
    }
    let reason = if said.stderr.trim().is_empty() { &said.stdout } else { &said.stderr };
    let command = [&[program], arguments].concat().join(" ");
    Err(ToolError::Failed { command, said: reason.trim().to_owned() })
}
