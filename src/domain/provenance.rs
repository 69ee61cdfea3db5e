//! Where a number comes from. Every figure a plan rests on carries this; an unknown figure is absent, never 0.

use std::fmt;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Provenance {
    /// By jouleplan's own meters.
    Measured,
    /// By others, with their source named.
    Imported,
    /// From hardware figures or neighbours, not from a measurement of the thing itself.
    Estimated,
    /// Not known.
    Missing,
}

impl Provenance {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Imported => "imported",
            Self::Estimated => "estimated",
            Self::Missing => "missing",
        }
    }

    /// The weaker of two: what a number made from both may claim.
    pub fn weaker(self, other: Self) -> Self {
        self.max(other)
    }
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Provenance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Measured, Self::Imported, Self::Estimated, Self::Missing]
            .into_iter()
            .find(|provenance| provenance.as_str() == text)
            .ok_or_else(|| format!("`{text}` is none of measured, imported, estimated, missing"))
    }
}

/// A known value and where it comes from. An unknown one is `Option::None`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure<T> {
    pub value: T,
    pub provenance: Provenance,
}

impl<T> Figure<T> {
    pub fn new(value: T, provenance: Provenance) -> Self {
        Self { value, provenance }
    }

    pub fn estimated(value: T) -> Self {
        Self::new(value, Provenance::Estimated)
    }

    pub fn is_estimated(&self) -> bool {
        self.provenance == Provenance::Estimated
    }
}
