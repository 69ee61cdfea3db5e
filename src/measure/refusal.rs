//! Why a figure is absent. A meter that cannot say a number says this instead, never 0.

use std::fmt;
use std::io;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// Nothing there to measure with: no driver, no library, no counter.
    Absent,
    /// There, and this user may not read or set it.
    Permission,
    /// There, and this hardware or driver cannot do it.
    Unsupported,
    /// The device fell off the bus.
    Lost,
    /// The counter went back, or may have gone round unseen: what it counted meanwhile is unknown.
    Reset,
    /// The region is shorter than the meter can resolve.
    TooShort,
    /// No sample for longer than the interval explains.
    Gap,
    /// The answer makes no sense, or reading failed in another way.
    Unreadable,
}

impl RefusalKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Permission => "permission",
            Self::Unsupported => "unsupported",
            Self::Lost => "lost",
            Self::Reset => "reset",
            Self::TooShort => "too_short",
            Self::Gap => "gap",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What is refused, why, and what to do about it (empty where nothing can be done).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    pub what: String,
    pub remedy: String,
}

impl Refusal {
    pub fn new(kind: RefusalKind, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind, what: what.into(), remedy: remedy.into() }
    }

    /// A file that could not be read; `remedy` is for a permission that is missing.
    pub fn of_io(what: &str, error: &io::Error, remedy: impl Into<String>) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => {
                Self::new(RefusalKind::Permission, format!("{what}: permission denied"), remedy)
            }
            io::ErrorKind::NotFound => Self::new(RefusalKind::Absent, format!("{what} is not there"), ""),
            _ => Self::new(RefusalKind::Unreadable, format!("{what}: {error}"), ""),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
