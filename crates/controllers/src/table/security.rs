//! Controllers of credentials: certificates and tokens.

use std::sync::Arc;

use super::Settings;
use crate::shell::Controller;
use crate::{certificates, tokens};

pub(super) fn controllers(settings: &Settings) -> Vec<Controller> {
    let cluster = tokens::Cluster { ca_pem: settings.root_ca_pem.clone(), server: settings.server.clone() };
    let tokens = tokens::controllers(Arc::clone(&settings.issuer), cluster);
    certificates::controllers(&settings.authority).into_iter().chain(tokens).collect()
}
