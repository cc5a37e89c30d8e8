//! mizzen-scheduler.
