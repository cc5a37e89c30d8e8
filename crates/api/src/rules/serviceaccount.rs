//! core/v1 ServiceAccount. Its token requests are answered by the server's token issuer.

use crate::kind::Rules;
use crate::rules::plain::PLAIN;

/// Rules of ServiceAccounts.
pub static RULES: Rules = Rules { returns_deleted: true, ..PLAIN };
