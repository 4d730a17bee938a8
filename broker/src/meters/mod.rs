//! What is measured: every family of metrics with its meaning, and the figures by queue, which are
//! counted here since the recorder keeps each sample of a histogram until somebody looks.

mod families;
mod histogram;
mod process;
mod queues;
#[cfg(test)]
mod reference;
mod text;

pub use self::{
    families::{FAMILIES, Family, Kind, Label},
    histogram::Histogram,
    process::{open_descriptors, resident_bytes},
    queues::{Meters, QueueMeter},
    text::by_queue,
};
