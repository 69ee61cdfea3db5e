//! `meter` and `doctor` as shipped, on scripted hardware: a fake NVML that is loaded like the real one, and a fake sysfs.

mod devices;
mod doctor;
mod operating_points;
mod processors;
mod recording;
mod rig;
mod running;
