//! A plan directory appears whole or not at all: it is made beside its place and renamed into it.
//!
//! An earlier plan is replaced; anything else, and a plan whose results are already there, is left alone.

use std::fs;
use std::path::{Path, PathBuf};

use super::{PLAN_JSON, WriteError};

/// A directory under construction; dropped before `commit`, it leaves nothing behind.
#[derive(Debug)]
pub struct Staging {
    temporary: tempfile::TempDir,
    out: PathBuf,
}

impl Staging {
    /// Makes a temporary directory beside `out`, whose parent directories are made as needed.
    ///
    /// # Errors
    /// `Occupied` if `out` is not an empty directory, not a plan or a plan that has run; `Io`.
    pub fn new(out: &Path) -> Result<Self, WriteError> {
        refuse_occupied(out)?;
        let parent = match out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(WriteError::io(parent))?;
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As `mkdir` makes it, the caller's umask deciding: nodes and colleagues must be able to read a plan.
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        let temporary = builder.prefix(".jouleplan-").tempdir_in(parent).map_err(WriteError::io(parent))?;
        Ok(Self { temporary, out: out.to_owned() })
    }

    /// Where to write to meanwhile.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Puts the directory in its place.
    ///
    /// # Errors
    /// As for `new`.
    pub fn commit(self) -> Result<(), WriteError> {
        let Self { temporary, out } = self;
        refuse_occupied(&out)?;
        let mut earlier = None;
        if out.exists() {
            // Beside the new one, so that at every moment one whole plan exists under one name or the other.
            let mut aside = temporary.path().as_os_str().to_owned();
            aside.push(".old");
            fs::rename(&out, &aside).map_err(WriteError::io(&out))?;
            earlier = Some(PathBuf::from(aside));
        }
        if let Err(source) = fs::rename(temporary.path(), &out) {
            if let Some(earlier) = &earlier {
                // Best effort: the error that matters is the one above.
                let _ = fs::rename(earlier, &out);
            }
            return Err(WriteError::Io { file: out, source });
        }
        // Its content has moved; there is nothing left to remove.
        let _ = temporary.keep();
        match earlier {
            Some(earlier) => fs::remove_dir_all(&earlier).map_err(WriteError::io(&earlier)),
            None => Ok(()),
        }
    }
}

fn refuse_occupied(out: &Path) -> Result<(), WriteError> {
    let occupied = |what: &str| Err(WriteError::Occupied { dir: out.to_owned(), what: what.to_owned() });
    let mut entries = match fs::read_dir(out) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return occupied("a file of that name exists; name another directory");
        }
        Err(source) => return Err(WriteError::Io { file: out.to_owned(), source }),
    };
    if entries.next().is_none() {
        return Ok(());
    }
    if !out.join(PLAN_JSON).is_file() {
        return occupied("the directory holds something other than a plan; name another or empty it");
    }
    if out.join("results").exists() || out.join("slurm/submitted.csv").exists() {
        return occupied("that plan has been submitted; name another directory or remove it first");
    }
    Ok(())
}
