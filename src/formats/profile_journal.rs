//! What `profile` writes as it goes: the samples CSV, a row a trial, and beside it `<out>.journal`, a JSON line a note.
//!
//! The CSV alone says which trials there are. It comes into being whole, with its first row, and a row counts once its
//! newline is on the disk: what stands behind the last newline was torn off by a crash and is cut away. The journal holds
//! what no row can: the seed, failed trials, and the process a killed study left running. Its lock keeps two studies off
//! one file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::problems::{Collector, Problems};
use super::sample_row::{COLUMNS, write_row};
use super::samples_csv;
use super::write::{WriteError, create_durably};
use crate::domain::{FamilyKey, Sample};

pub const SCHEMA_VERSION: u32 = 1;

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    Study(StudyRecord),
    Failed(FailedRecord),
    Running(RunningRecord),
}

/// A run of the study began, the first one or one that resumed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StudyRecord {
    pub schema_version: u32,
    /// Of the order of trials and of prompts.
    pub seed: u64,
}

/// A trial that is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailedRecord {
    pub input_tokens: u32,
    pub output_tokens: u32,
    pub batch: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sm_clock_mhz: Option<u32>,
    pub kind: String,
    pub what: String,
}

/// A process group that a trial started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningRecord {
    pub pid: u32,
    /// When it started, in ticks since boot: another process may have its id by now.
    pub started: u64,
}

/// What a program reports behind `end`: what it really did, per request where it is a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegionReport {
    pub requests: Option<u32>,
    pub input_tokens: Option<u32>,
    pub output_tokens: Option<u32>,
    /// Mean running batch.
    pub batch_size: Option<f64>,
    pub ttft_s: Option<f64>,
    pub ttft_p99_s: Option<f64>,
    pub tbt_p50_s: Option<f64>,
    pub tbt_p99_s: Option<f64>,
}

/// What there was before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past {
    pub samples: Vec<Sample>,
    pub failed: Vec<FailedRecord>,
    pub running: Option<RunningRecord>,
    /// Bytes of a row that was torn off, and cut away.
    pub torn: u64,
    pub seed: u64,
    /// How often the study was begun or resumed.
    pub runs: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(transparent)]
    Problems(#[from] Problems),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("{}: there are samples already; go on with --resume, or name another file", .0.display())]
    Exists(PathBuf),
    #[error("{}: another profile is writing to it", .0.display())]
    Locked(PathBuf),
    #[error("{}: {what}", path.display())]
    Differs { path: PathBuf, what: String },
}

/// The two files, open.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// `None` before the first row.
    samples: Option<File>,
    length: u64,
    pub notes: Notes,
}

/// The journal beside the samples, open.
#[derive(Debug)]
pub struct Notes {
    path: PathBuf,
    file: File,
}

impl Notes {
    /// Adds a note; on the disk when this returns.
    ///
    /// # Errors
    /// That it could not be written.
    pub fn add(&mut self, record: &Record) -> Result<(), WriteError> {
        let mut write = || {
            let mut line = serde_json::to_vec(record)?;
            line.push(b'\n');
            self.file.write_all(&line)?;
            self.file.sync_data()
        };
        write().map_err(|source| WriteError::Cannot { path: self.path.clone(), source })
    }

    /// Another hand on the same journal.
    ///
    /// # Errors
    /// That of the system.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { path: self.path.clone(), file: self.file.try_clone()? })
    }
}

impl Journal {
    /// Begins `path`, or with `resume` goes on where it ended. `seed`: as asked for, else as recorded, else 0. All rows that
    /// are there must be of `family`: figures of two are not one study.
    ///
    /// # Errors
    /// Samples that are there without `resume`, are of another family or seed, or cannot be read; a file that cannot be
    /// written; another study at work on it.
    pub fn open(
        path: &Path,
        family: &FamilyKey,
        seed: Option<u64>,
        resume: bool,
    ) -> Result<(Self, Past), JournalError> {
        let cannot = |source| WriteError::Cannot { path: path.to_owned(), source };
        match fs::metadata(path) {
            Ok(found) if !found.is_file() => return Err(cannot(io::Error::other("it is no file")).into()),
            Ok(_) if !resume => return Err(JournalError::Exists(path.to_owned())),
            _ => {}
        }
        let mut past = Past::default();
        let mut notes = open_notes(path)?;
        let recorded = read_notes(path, &mut notes, resume, &mut past)?;
        past.seed = match (seed, recorded) {
            (Some(asked), Some(recorded)) if asked != recorded => {
                let what = format!("its order was drawn with seed {recorded}, not {asked}; leave --seed out");
                return Err(JournalError::Differs { path: path.to_owned(), what });
            }
            (asked, recorded) => asked.or(recorded).unwrap_or(0),
        };
        let notes = Notes { path: notes_path(path), file: notes };
        let mut journal = Self { path: path.to_owned(), samples: None, length: 0, notes };
        if path.exists() {
            journal.read_samples(family, &mut past)?;
        }
        journal.notes.add(&Record::Study(StudyRecord { schema_version: SCHEMA_VERSION, seed: past.seed }))?;
        Ok((journal, past))
    }

    /// Adds a row; on the disk when this returns.
    ///
    /// # Errors
    /// That it could not be written. What was written of it is taken back.
    pub fn append(&mut self, sample: &Sample) -> Result<(), WriteError> {
        let cannot = |source| WriteError::Cannot { path: self.path.clone(), source };
        let row = csv_line(&write_row(sample)).map_err(cannot)?;
        let Some(file) = &mut self.samples else {
            let whole = [csv_line(&COLUMNS.map(str::to_owned)).map_err(cannot)?, row].concat();
            create_durably(&self.path, &whole)?;
            self.samples = Some(OpenOptions::new().append(true).open(&self.path).map_err(cannot)?);
            self.length = whole.len() as u64;
            return Ok(());
        };
        if let Err(source) = file.write_all(&row).and_then(|()| file.sync_data()) {
            let _ = file.set_len(self.length); // if that fails too, the torn row is cut away on resume
            return Err(cannot(source));
        }
        self.length += row.len() as u64;
        Ok(())
    }

    fn read_samples(&mut self, family: &FamilyKey, past: &mut Past) -> Result<(), JournalError> {
        let path = self.path.clone();
        let unreadable = |source| Problems::Unreadable { file: path.clone(), source };
        let cannot = |source| WriteError::Cannot { path: path.clone(), source };
        let mut bytes = fs::read(&path).map_err(unreadable)?;
        let whole = whole_lines(&bytes);
        past.torn = (bytes.len() - whole) as u64;
        bytes.truncate(whole);
        let header = csv_line(&COLUMNS.map(str::to_owned)).map_err(cannot)?;
        if !bytes.starts_with(&header) {
            let what =
                "its columns are not those that profile writes, so nothing is added to it; name another file".into();
            return Err(JournalError::Differs { path, what });
        }
        past.samples = if bytes == header { Vec::new() } else { samples_csv::parse(bytes, &path)? };
        if let Some(other) = past.samples.iter().map(Sample::family).find(|other| other != family) {
            let what = format!("it holds samples of {other}, and this would add some of {family}; name another file");
            return Err(JournalError::Differs { path, what });
        }
        let file = OpenOptions::new().append(true).open(&path).map_err(cannot)?;
        if past.torn > 0 {
            file.set_len(whole as u64).and_then(|()| file.sync_data()).map_err(cannot)?;
        }
        self.length = whole as u64;
        self.samples = Some(file);
        Ok(())
    }
}

/// The journal of a samples file.
pub fn notes_path(samples: &Path) -> PathBuf {
    let mut name = samples.as_os_str().to_owned();
    name.push(".journal");
    PathBuf::from(name)
}

fn open_notes(samples: &Path) -> Result<File, JournalError> {
    let path = notes_path(samples);
    let cannot = |source| WriteError::Cannot { path: path.clone(), source };
    let notes = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(cannot)?;
    match notes.try_lock() {
        Ok(()) => Ok(notes),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked(samples.to_owned())),
        Err(TryLockError::Error(source)) => Err(cannot(source).into()),
    }
}

/// The recorded seed. Without `resume` nothing was before.
fn read_notes(samples: &Path, notes: &mut File, resume: bool, past: &mut Past) -> Result<Option<u64>, JournalError> {
    let path = notes_path(samples);
    let cannot = |source| WriteError::Cannot { path: path.clone(), source };
    if !resume {
        notes.set_len(0).map_err(cannot)?;
    }
    let mut bytes = Vec::new();
    notes.seek(SeekFrom::Start(0)).and_then(|_| notes.read_to_end(&mut bytes)).map_err(cannot)?;
    let whole = whole_lines(&bytes);
    if whole < bytes.len() {
        notes.set_len(whole as u64).map_err(cannot)?;
    }
    let mut problems = Collector::new(&path);
    let mut seed = None;
    for (index, line) in bytes[..whole].split(|byte| *byte == b'\n').enumerate() {
        match serde_json::from_slice(line) {
            _ if line.is_empty() => {}
            Ok(Record::Study(study)) if study.schema_version == SCHEMA_VERSION => {
                seed = Some(study.seed);
                past.runs += 1;
            }
            Ok(Record::Study(study)) => {
                let what = format!("schema_version {} is not known", study.schema_version);
                problems.add(format!("line {}", index + 1), what, "go on with the version that began this study");
            }
            Ok(Record::Failed(failed)) => past.failed.push(failed),
            Ok(Record::Running(running)) => past.running = Some(running),
            Err(error) => {
                let remedy = "remove the line: the samples do not depend on it";
                problems.add(format!("line {}", index + 1), error.to_string(), remedy);
            }
        }
    }
    Ok(problems.finish(seed)?)
}

/// Bytes up to and with the last newline.
fn whole_lines(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

fn csv_line(cells: &[String]) -> io::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells).map_err(io::Error::other)?;
    writer.into_inner().map_err(|error| io::Error::other(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Measurement, Provenance};
    use crate::units::Seconds;

    fn sample(trial: u32) -> Sample {
        Sample {
            model: "a, \"b\"".into(),
            precision: "bfloat16".into(),
            device: "H100".into(),
            runtime: Some(Seconds(1.5)),
            trial: Some(trial),
            provenance: Provenance::Measured,
            measured_at: Some("2026-01-31T12:00:00Z".into()),
            ..Sample::empty(Measurement::Trial)
        }
    }

    fn open(path: &Path, seed: Option<u64>, resume: bool) -> Result<(Journal, Past), JournalError> {
        Journal::open(path, &sample(0).family(), seed, resume)
    }

    #[test]
    fn whatever_is_torn_off_loses_that_row_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.csv");
        let (mut journal, past) = open(&path, Some(7), true).unwrap();
        assert_eq!((past.samples.len(), past.seed, path.exists()), (0, 7, false));
        (0..3).for_each(|trial| journal.append(&sample(trial)).unwrap());
        drop(journal);
        let whole = fs::read(&path).unwrap();
        let last = whole_lines(&whole[..whole.len() - 1]);
        for cut in last..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (mut journal, past) = open(&path, None, true).unwrap();
            assert_eq!((past.samples.len(), past.torn, past.seed), (2, (cut - last) as u64, 7));
            journal.append(&sample(2)).unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole, "cut at {cut}");
        }
        assert_eq!(samples_csv::read(&path).unwrap().len(), 3);
    }

    #[test]
    fn another_study_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.csv");
        let (mut journal, _) = open(&path, Some(7), false).unwrap();
        journal.append(&sample(0)).unwrap();
        assert!(matches!(open(&path, None, true), Err(JournalError::Locked(_))));
        drop(journal);
        assert!(matches!(open(&path, None, false), Err(JournalError::Exists(_))));
        assert!(matches!(open(&path, Some(8), true), Err(JournalError::Differs { .. })));
        let other = FamilyKey { model: "other".into(), ..sample(0).family() };
        let error = Journal::open(&path, &other, None, true).unwrap_err();
        assert!(error.to_string().contains("other"), "{error}");
        fs::write(&path, "model,precision\nm,p\n").unwrap();
        assert!(matches!(open(&path, None, true), Err(JournalError::Differs { .. })));
    }

    #[test]
    fn failures_and_what_runs_are_remembered_and_a_torn_note_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.csv");
        let failed = FailedRecord {
            input_tokens: 8,
            output_tokens: 16,
            batch: 1,
            sm_clock_mhz: None,
            kind: "status_429".into(),
            what: "too many\nrequests".into(),
        };
        let running = RunningRecord { pid: 5, started: 77 };
        let (mut journal, _) = open(&path, None, true).unwrap();
        journal.notes.add(&Record::Failed(failed.clone())).unwrap();
        journal.notes.add(&Record::Running(running)).unwrap();
        drop(journal);
        let notes = notes_path(&path);
        let text = fs::read(&notes).unwrap();
        fs::write(&notes, [&text[..], b"{\"record\":\"fail"].concat()).unwrap();
        let (journal, past) = open(&path, None, true).unwrap();
        assert_eq!((past.failed, past.running, past.runs), (vec![failed], Some(running), 1));
        drop(journal);
        assert!(fs::read(&notes).unwrap().starts_with(&text));
        let (_, past) = open(&path, None, false).unwrap();
        assert!(past.failed.is_empty(), "a new study has no past");
    }
}
