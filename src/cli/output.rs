//! stdout for data, stderr for everything else. Nothing here panics on a closed pipe, as `println!` would.

use std::io::{self, Write};
use std::path::Path;

use serde_json::Value;

use crate::formats::write::{WriteError, write_atomic};
use crate::report::text::plain;

#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub quiet: bool,
}

impl Output {
    /// Data, as they are.
    ///
    /// # Errors
    /// Those of stdout; a broken pipe among them ends the program with 0.
    pub fn data(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// One JSON object.
    ///
    /// # Errors
    /// As `data`.
    pub fn json(&self, value: &Value) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
        text.push('\n');
        self.data(text.as_bytes())
    }

    /// Something to know besides the result; silent with `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "{}", text.trim_end());
        }
    }

    pub fn warn(&self, text: &str) {
        self.note(&format!("warning: {}", plain(text)));
    }

    /// Why the program ends. Messages quote files, so control characters are written out line by line.
    pub fn error(&self, error: &anyhow::Error) {
        let mut text = error.to_string();
        // Some errors quote their cause themselves.
        for cause in error.chain().skip(1).map(|cause| cause.to_string()) {
            if !text.contains(&cause) {
                text = format!("{text}: {cause}");
            }
        }
        if text.is_empty() {
            return;
        }
        let lines: Vec<String> = text.lines().map(plain).collect();
        let _ = writeln!(io::stderr(), "jouleplan: {}", lines.join("\n"));
    }

    /// `bytes` into a file, or to stdout for `-`.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn file(&self, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        if path == Path::new("-") {
            return Ok(self.data(bytes)?);
        }
        write_atomic(path, bytes).map_err(|error: WriteError| error.into())
    }
}
