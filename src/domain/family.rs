//! What one set of coefficients stands for: a model on devices in one arrangement, served by one engine generation.

use std::fmt;

/// Degrees of parallelism. Their product need not be the device count: expert parallel ranks may share the data
/// parallel ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Parallel {
    pub tensor: u32,
    pub expert: u32,
    pub data: u32,
    pub pipeline: u32,
}

impl Parallel {
    pub fn tensor(degree: u32) -> Self {
        Self { tensor: degree, expert: 1, data: 1, pipeline: 1 }
    }
}

impl fmt::Display for Parallel {
    /// `tp2`, `tp1-ep8`: tensor parallel always, the others where they are more than 1.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tp{}", self.tensor)?;
        for (name, degree) in [("ep", self.expert), ("dp", self.data), ("pp", self.pipeline)] {
            if degree > 1 {
                write!(f, "-{name}{degree}")?;
            }
        }
        Ok(())
    }
}

/// The key of a family. Measurements of different engine generations never share a family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FamilyKey {
    pub model: String,
    pub precision: String,
    pub device: String,
    /// Accelerators (or CPU sockets) one instance occupies.
    pub devices: u32,
    pub parallel: Parallel,
    pub kv_cache: bool,
    /// Engine with its version, or with the data set where the version is unknown: `vllm@mlenergy_v3`.
    pub engine: String,
}

impl fmt::Display for FamilyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, precision, device, devices, parallel, kv_cache, engine } = self;
        write!(f, "{model}/{precision}/{device}x{devices}/{parallel}/{engine}")?;
        if !kv_cache {
            f.write_str("/no-kv-cache")?;
        }
        Ok(())
    }
}
