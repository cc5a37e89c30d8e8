//! What can be wrong with keys and certificates.

use std::path::PathBuf;

/// Why keys or certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file or folder cannot be read or written.
    #[error("{path}: cannot {action}")]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried: `read`, `write`, …
        action: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A file that cannot be made anew (the CA or the token keys) does not hold what it should.
    #[error("{path}: {problem}; restore the file from a backup, or remove {dir} to start with a new identity")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
        /// The folder of all keys.
        dir: PathBuf,
    },
    /// The system's random number generator failed.
    #[error("no random numbers from the system")]
    Random,
    /// A certificate cannot be made.
    #[error("the certificate {name:?} cannot be issued")]
    Issue {
        /// Which certificate.
        name: &'static str,
        /// The cause.
        #[source]
        source: rcgen::Error,
    },
    /// A key cannot be used for TLS.
    #[error("the certificate {name:?} cannot be used for TLS")]
    Tls {
        /// Which certificate.
        name: &'static str,
        /// The cause.
        #[source]
        source: rustls::Error,
    },
    /// The CA cannot be used to verify clients.
    #[error("the CA cannot be used to verify client certificates")]
    Verifier {
        /// The cause.
        #[source]
        source: rustls::server::VerifierBuilderError,
    },
}
