//! The prompts of a benchmark's data set, where the measurements themselves do not record input lengths.

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
