//! What a data set's rows do not say themselves: its prompts, where input lengths are not recorded, and how far off rows
//! may be that are estimates.

use super::provenance::Provenance;

/// Mean prompt length of all data sets whose name starts with `name_prefix`; the longest prefix that fits decides.
#[derive(Clone, Debug, PartialEq)]
pub struct DataSetPrompts {
    pub name_prefix: String,
    pub mean_input_tokens: f64,
    /// Range of that mean.
    pub low: f64,
    pub high: f64,
    pub provenance: Provenance,
    pub source: String,
    /// Factors on energy and time between which the truth is to lie, where the rows themselves are estimates.
    pub estimate_range: Option<(f64, f64)>,
}

impl DataSetPrompts {
    /// The entry for a data set, if any.
    pub fn find<'a>(table: &'a [Self], data_set: &str) -> Option<&'a Self> {
        table
            .iter()
            .filter(|entry| data_set.starts_with(&entry.name_prefix))
            .max_by_key(|entry| entry.name_prefix.len())
    }
}
