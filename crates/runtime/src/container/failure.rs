//! Why a container or exec did not start, as it travels from the child to the shim to the driver.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::driver::DriverError;

/// See [`DriverError::Create`] and [`DriverError::Start`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// The container's surroundings could not be made.
    Create {
        /// What was being done, on which object.
        step: String,
        /// The kernel's words.
        message: String,
    },
    /// No such container, or it does not run.
    NoContainer {
        /// The container.
        id: String,
    },
    /// Its program could not be executed.
    Start {
        /// As runc words it.
        message: String,
    },
}

impl Failure {
    pub(crate) fn create(step: impl Into<String>, message: impl Display) -> Self {
        Failure::Create { step: step.into(), message: message.to_string() }
    }
}

impl From<Failure> for DriverError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Create { step, message } => DriverError::Create { step, message },
            Failure::NoContainer { id } => DriverError::NoContainer { id },
            Failure::Start { message } => DriverError::Start { message },
        }
    }
}

/// Names the step in which something failed.
pub(crate) trait Step<T> {
    /// `step` is only built on failure.
    fn step<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T, Failure>;
}

impl<T, E: Into<std::io::Error>> Step<T> for Result<T, E> {
    fn step<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T, Failure> {
        self.map_err(|error| Failure::create(step(), plain(&error.into())))
    }
}

/// The error in the kernel's words, without Rust's ` (os error 2)`.
pub(crate) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}
