//! Exit codes and which of them an error means, by its type.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use super::inputs::InputErrors;
use crate::formats::Problems;
use crate::formats::shards::ShardError;
use crate::formats::write::WriteError;
use crate::options::TooManyDeployments;
use crate::report::tables::DirectoryError;
use crate::slurm::SlurmError;
use crate::slurm::collect::CollectError;
use crate::slurm::submit::SubmitError;
use crate::slurm::tools::ToolError;

pub const DONE: u8 = 0;
pub const UNEXPECTED: u8 = 1;
pub const USAGE: u8 = 2;
pub const INFEASIBLE: u8 = 3;
pub const CHECK_FAILED: u8 = 4;
pub const BAD_DATA: u8 = 65;
pub const MISSING_INPUT: u8 = 66;
pub const UNAVAILABLE: u8 = 69;
pub const CANNOT_WRITE: u8 = 73;
pub const PERMISSION: u8 = 77;

/// Ends the program with `code` and a message.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub code: u8,
    pub message: String,
}

impl Failure {
    pub fn usage(message: impl Into<String>) -> anyhow::Error {
        Self { code: USAGE, message: message.into() }.into()
    }

    /// Ends with `code` and says nothing: the command that was run has spoken for itself.
    pub fn silent(code: u8) -> anyhow::Error {
        Self { code, message: String::new() }.into()
    }

    pub fn bad_data(message: impl Into<String>) -> anyhow::Error {
        Self { code: BAD_DATA, message: message.into() }.into()
    }
}

pub fn exit_code(code: u8) -> ExitCode {
    ExitCode::from(code)
}

/// The exit code of an error: that of the outermost cause that has one.
pub fn code_of(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of_cause).unwrap_or(UNEXPECTED)
}

fn code_of_cause(cause: &(dyn Error + 'static)) -> Option<u8> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some(failure.code);
    }
    if let Some(errors) = cause.downcast_ref::<InputErrors>() {
        return Some(errors.code());
    }
    if let Some(error) = cause.downcast_ref::<SubmitError>() {
        return Some(match error {
            SubmitError::Input(problems) => of_problems(problems),
            SubmitError::Write(error) => of_write(error),
            SubmitError::Tool(_) | SubmitError::Refused(_) => UNAVAILABLE,
            SubmitError::State { .. } => MISSING_INPUT,
        });
    }
    if let Some(error) = cause.downcast_ref::<CollectError>() {
        return Some(match error {
            CollectError::Input(problems) => of_problems(problems),
            CollectError::Write(error) => of_write(error),
            CollectError::Read { .. } => MISSING_INPUT,
            CollectError::NotInShard { .. } => BAD_DATA,
        });
    }
    if cause.is::<ToolError>() {
        return Some(UNAVAILABLE);
    }
    if cause.is::<TooManyDeployments>() {
        return Some(BAD_DATA);
    }
    if let Some(problems) = cause.downcast_ref::<Problems>() {
        return Some(of_problems(problems));
    }
    if let Some(error) = cause.downcast_ref::<WriteError>() {
        return Some(of_write(error));
    }
    if let Some(error) = cause.downcast_ref::<DirectoryError>() {
        return Some(match error {
            DirectoryError::Write(error) => of_write(error),
            DirectoryError::Shards(ShardError::Source(problems)) => of_problems(problems),
            DirectoryError::Shards(ShardError::Write(error)) => of_write(error),
            DirectoryError::Scripts(SlurmError::Write(error)) => of_write(error),
            DirectoryError::Scripts(SlurmError::Script { .. }) => BAD_DATA,
        });
    }
    let error = cause.downcast_ref::<io::Error>()?;
    Some(if error.kind() == io::ErrorKind::BrokenPipe { DONE } else { CANNOT_WRITE })
}

pub fn of_problems(problems: &Problems) -> u8 {
    match problems {
        Problems::BadData(_) => BAD_DATA,
        Problems::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => PERMISSION,
        Problems::Unreadable { .. } => MISSING_INPUT,
    }
}

fn of_write(error: &WriteError) -> u8 {
    match error {
        WriteError::Cannot { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => PERMISSION,
        _ => CANNOT_WRITE,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn each_kind_of_error_has_its_code() {
        let unreadable = |kind: io::ErrorKind| Problems::Unreadable { file: PathBuf::from("x"), source: kind.into() };
        let code = |error: anyhow::Error| code_of(&error.context("while testing"));
        assert_eq!(code(unreadable(io::ErrorKind::NotFound).into()), MISSING_INPUT);
        assert_eq!(code(unreadable(io::ErrorKind::PermissionDenied).into()), PERMISSION);
        assert_eq!(code(Problems::BadData(vec![]).into()), BAD_DATA);
        let write = |kind: io::ErrorKind| WriteError::Cannot { path: PathBuf::from("x"), source: kind.into() };
        assert_eq!(code(write(io::ErrorKind::StorageFull).into()), CANNOT_WRITE);
        let nested = DirectoryError::Shards(ShardError::Write(write(io::ErrorKind::PermissionDenied)));
        assert_eq!(code(nested.into()), PERMISSION);
        assert_eq!(code(io::Error::from(io::ErrorKind::BrokenPipe).into()), DONE);
        assert_eq!(code(anyhow::anyhow!("what?")), UNEXPECTED);
    }
}
