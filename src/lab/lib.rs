//! Judging and reporting from artifacts on disk alone: nothing here trains, and nothing here knows the engine.

pub mod live;
pub mod report;
pub mod schemas;
pub mod scorecard;
pub mod verify;
