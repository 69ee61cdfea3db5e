//! Atomic writing: a reader sees the whole old file, the whole new file or none, never a half.
//!
//! Files are written beside their target and renamed over it. A plan directory is built in a sibling folder and renamed
//! at the end; it replaces only an empty folder or an earlier plan, never a folder that holds anything else. Durability
//! across power cuts (fsync of the parent) is left out, but for measurements: a lost plan is planned again.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::{Builder, TempDir};

use super::problems::Problems;

/// What a plan directory may hold at its top. Anything else in it is the user's, and then it is not replaced.
pub const PLAN_ENTRIES: [&str; 12] = [
    "assignments.csv",
    "frontier.csv",
    "frontier.svg",
    "instances.csv",
    "jobs.csv",
    "nodes.csv",
    "plan.json",
    "report.html",
    "served.csv",
    "shards",
    "slurm",
    "summary.csv",
];

/// Why an output cannot be written (exit code 73; 77 where the source says permission denied).
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("cannot write {}: {source}", path.display())]
    Cannot { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {what}; name a new or empty folder", path.display())]
    Occupied { path: PathBuf, what: String },
}

/// Writes `bytes` to `path`, or leaves what was there.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    write_atomic_with(path, |out| out.write_all(bytes))
}

/// Writes what `fill` writes to `path`, or leaves what was there. A target that is no regular file (a pipe, /dev/null)
/// is written to directly; a symbolic link keeps pointing where it points.
pub fn write_atomic_with(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> Result<(), WriteError> {
    let cannot = |source| WriteError::Cannot { path: path.to_owned(), source };
    let write_all = |file: &mut File| {
        let mut out = BufWriter::new(file);
        fill(&mut out)?;
        out.flush()
    };
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match fs::metadata(&target) {
        Ok(found) if found.is_dir() => return Err(cannot(io::Error::other("it is a folder"))),
        Ok(found) if !found.is_file() => {
            let mut file = File::options().write(true).open(&target).map_err(cannot)?;
            return write_all(&mut file).map_err(cannot);
        }
        _ => {}
    }
    let mut file = builder(0o666).tempfile_in(parent(&target)).map_err(cannot)?;
    write_all(file.as_file_mut()).map_err(cannot)?;
    file.persist(&target).map_err(|failed| cannot(failed.error))?;
    Ok(())
}

/// Writes a file that is not there yet, whole or not at all, and on the disk when this returns: measurements cannot be made
/// again as a plan can.
pub fn create_durably(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let cannot = |source| WriteError::Cannot { path: path.to_owned(), source };
    let mut file = builder(0o666).tempfile_in(parent(path)).map_err(cannot)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(cannot)?;
    file.persist_noclobber(path).map_err(|failed| cannot(failed.error))?;
    File::open(parent(path)).and_then(|folder| folder.sync_all()).map_err(cannot)
}

/// Whether `path` can be written, without touching it. For asking before the work rather than after it.
pub fn check_file(path: &Path) -> Result<(), WriteError> {
    let cannot = |source| WriteError::Cannot { path: path.to_owned(), source };
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match fs::metadata(&target) {
        Ok(found) if found.is_dir() => Err(cannot(io::Error::other("it is a folder"))),
        Ok(found) if !found.is_file() => Ok(()),
        _ => builder(0o666).tempfile_in(parent(&target)).map(drop).map_err(cannot),
    }
}

/// A folder under construction: fill `path()`, then `commit()`. Dropped without commit, nothing of it remains.
#[derive(Debug)]
pub struct DirectoryWriter {
    target: PathBuf,
    /// Folders made on the way to the target, outermost first; removed again if the plan never arrives.
    made: Vec<PathBuf>,
    temp: Option<TempDir>,
}

impl DirectoryWriter {
    /// Starts a folder that will become `target`.
    ///
    /// # Errors
    /// `Occupied` if `target` holds anything but an earlier plan; `Cannot` if its parent cannot be made or written to.
    pub fn create(target: &Path) -> Result<Self, WriteError> {
        check_target(target)?;
        let cannot = |source| WriteError::Cannot { path: target.to_owned(), source };
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        let parent = parent(&target);
        let mut made: Vec<PathBuf> = parent
            .ancestors()
            .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
            .map(Path::to_owned)
            .collect();
        made.reverse();
        let mut writer = Self { target: target.clone(), made, temp: None };
        fs::create_dir_all(parent).map_err(cannot)?;
        writer.temp = Some(builder(0o777).tempdir_in(parent).map_err(cannot)?);
        Ok(writer)
    }

    /// Where to write meanwhile.
    pub fn path(&self) -> &Path {
        // `temp` is set by `create` and taken only by `commit`, which consumes self.
        self.temp.as_ref().map_or(&self.target, TempDir::path)
    }

    /// Puts the folder in place and returns its path. An earlier plan there is removed last, and put back if the new
    /// one cannot take its place.
    pub fn commit(mut self) -> Result<PathBuf, WriteError> {
        check_target(&self.target)?;
        let target = self.target.clone();
        let cannot = |source| WriteError::Cannot { path: target.clone(), source };
        let old = if target.exists() {
            let aside = builder(0o700).tempdir_in(parent(&target)).map_err(cannot)?;
            fs::rename(&target, aside.path().join("plan")).map_err(cannot)?;
            Some(aside)
        } else {
            None
        };
        if let Err(source) = fs::rename(self.path(), &target) {
            if let Some(aside) = old
                && fs::rename(aside.path().join("plan"), &target).is_err()
            {
                // The earlier plan stays where it was put rather than being deleted with the temporary folder.
                let kept = aside.keep();
                return Err(cannot(io::Error::other(format!("{source}; the earlier plan is in {}", kept.display()))));
            }
            return Err(cannot(source));
        }
        if let Some(temp) = self.temp.take() {
            let _ = temp.keep(); // it has been renamed: nothing to delete
        }
        self.made.clear();
        Ok(target)
    }
}

impl Drop for DirectoryWriter {
    fn drop(&mut self) {
        self.temp = None;
        for folder in self.made.iter().rev() {
            let _ = fs::remove_dir(folder); // fails, as it should, where something else moved in
        }
    }
}

/// Whether a plan may be written to `target`: new, empty, or an earlier plan and nothing besides. For asking before the
/// work rather than after it.
pub fn check_target(target: &Path) -> Result<(), WriteError> {
    let occupied = |what: String| Err(WriteError::Occupied { path: target.to_owned(), what });
    let found = match fs::metadata(target) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match target.file_name() {
                Some(_) => Ok(()),
                None => occupied("that names no folder".into()),
            };
        }
        Err(source) => return Err(WriteError::Cannot { path: target.to_owned(), source }),
    };
    if !found.is_dir() {
        return occupied("it is a file".into());
    }
    if fs::canonicalize(target).is_ok_and(|path| std::env::current_dir().is_ok_and(|here| here.starts_with(path))) {
        return occupied("it is the current folder or one above it".into());
    }
    let entries = fs::read_dir(target).map_err(|source| WriteError::Cannot { path: target.to_owned(), source })?;
    let mut names: Vec<String> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into()).collect();
    names.sort();
    if names.is_empty() {
        return Ok(());
    }
    if !names.iter().any(|name| name == "plan.json") {
        return occupied(format!("it holds `{}` and is no earlier plan (no plan.json)", names[0]));
    }
    match names.iter().find(|name| !PLAN_ENTRIES.contains(&name.as_str())) {
        Some(foreign) => occupied(format!("besides an earlier plan it holds `{foreign}`, which would be lost")),
        None => Ok(()),
    }
}

/// SHA-256 of a file in lower-case hex, read in pieces.
pub fn sha256_file(path: &Path) -> Result<String, Problems> {
    let unreadable = |source| Problems::Unreadable { file: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            read => digest.update(&buffer[..read]),
        }
    }
    Ok(hex(&digest.finalize()))
}

/// SHA-256 of bytes in lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Temporary names that say whose they are, with the rights the final file should have (less the umask).
fn builder(mode: u32) -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(".jouleplan-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        write_atomic(&path, b"old").unwrap();
        let failed = write_atomic_with(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("full"))
        });
        assert!(failed.unwrap_err().to_string().contains("out.csv: full"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(entries(folder.path()), ["out.csv"]);
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_plan_folder_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("runs/night/plan");
        let writer = DirectoryWriter::create(&target).unwrap();
        fs::write(writer.path().join("plan.json"), "{}").unwrap();
        assert!(!target.exists());
        drop(writer);
        assert!(entries(folder.path()).is_empty(), "folders on the way are removed too");

        let writer = DirectoryWriter::create(&target).unwrap();
        fs::write(writer.path().join("plan.json"), "1").unwrap();
        fs::create_dir(writer.path().join("slurm")).unwrap();
        assert_eq!(writer.commit().unwrap(), target);
        assert_eq!(entries(target.parent().unwrap()), ["plan"]);

        let writer = DirectoryWriter::create(&target).unwrap();
        fs::write(writer.path().join("plan.json"), "2").unwrap();
        writer.commit().unwrap();
        assert_eq!(entries(target.parent().unwrap()), ["plan"]);
        assert_eq!(entries(&target), ["plan.json"], "the earlier plan is replaced, not merged");
    }

    #[test]
    fn folders_of_others_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| DirectoryWriter::create(path).unwrap_err().to_string();
        fs::write(folder.path().join("thesis.tex"), "x").unwrap();
        assert!(message(folder.path()).contains("thesis.tex"));
        assert!(message(&folder.path().join("thesis.tex")).contains("a file"));
        fs::write(folder.path().join("plan.json"), "{}").unwrap();
        assert!(message(folder.path()).contains("would be lost"));
        assert!(message(Path::new(".")).contains("current folder"));
        assert_eq!(entries(folder.path()), ["plan.json", "thesis.tex"]);
    }

    #[test]
    fn sha256_is_the_published_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, "abc").unwrap();
        let digest = sha256_file(&path).unwrap();
        assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(matches!(sha256_file(Path::new("/nowhere")), Err(Problems::Unreadable { .. })));
    }
}
