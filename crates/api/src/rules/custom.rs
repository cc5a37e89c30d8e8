//! The rules of custom resources, as far as all of them are alike; the rest is in [`crate::crd::Custom`].

use crate::kind::{Generation, Rules};
use crate::rules::plain::PLAIN;

/// Rules of custom resources.
pub static CUSTOM: Rules = Rules { generation: Generation::Content, unconditional_update: false, ..PLAIN };
