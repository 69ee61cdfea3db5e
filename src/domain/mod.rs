//! What the planner talks about: requests, jobs, clusters, models, deployments, schedules.
//!
//! Plain values with the rules that hold for them by themselves. No I/O, no serde (that is `formats`), no solver.

pub mod clock;
pub mod cluster;
pub mod correction;
pub mod data_set;
pub mod deployment;
pub mod engine;
pub mod family;
pub mod features;
pub mod model;
pub mod option_table;
pub mod power;
pub mod provenance;
pub mod request_ids;
pub mod sample;
pub mod schedule;
pub mod slurm_node;
pub mod steps;
pub mod workload;

pub use clock::{ClockPoint, ClockTable, Phase, PhaseFactors};
pub use cluster::{Cluster, DeviceKind, DeviceType, Goal, Pool, Site, SlurmTarget};
pub use correction::Correction;
pub use data_set::DataSetPrompts;
pub use deployment::{Deployment, Rates};
pub use engine::{Architecture, Engine};
pub use family::{FamilyKey, Parallel};
pub use features::{Feature, Features, Moments, dot, features};
pub use model::{BatchPoint, Box2, FamilyModel, Form, Quality, Term};
pub use option_table::{Choice, OptionClass, OptionTable, ServiceOption};
pub use power::{Channel, Reading, Scope, Timestamp, Trace};
pub use provenance::{Figure, Provenance};
pub use request_ids::{IdSource, IdsUnavailable, Names, RequestIds};
pub use sample::{Measurement, Sample};
pub use schedule::{Instance, PoweredInterval, Schedule};
pub use slurm_node::{Gres, SlurmJob, SlurmNode};
pub use steps::Steps;
pub use workload::{AccuracyRule, AccuracyTable, Floor, Group, Job, OutputSpread, Requests, Workload};
