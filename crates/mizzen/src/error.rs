//! Errors at the edge: one line that says what failed and what to do.

use std::error::Error;

/// Why a command failed, for people.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command needs root.
    #[error(
        "{command} must run as root, for it makes namespaces, mounts and network interfaces; try: sudo mizzen {command}"
    )]
    NotRoot {
        /// The command.
        command: &'static str,
    },
    /// The address of the API is taken.
    #[error("the address {address} is in use by another program; stop it, or choose another with --listen")]
    AddressInUse {
        /// The address.
        address: std::net::SocketAddr,
    },
    /// Something cannot listen.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The kernel lacks something.
    #[error("this kernel lacks {feature} ({reason}); mizzen cannot run here without it")]
    Kernel {
        /// What.
        feature: String,
        /// How it showed.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("{action} {path}")]
    File {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A setting is wrong.
    #[error("{setting}: {message}")]
    Setting {
        /// The flag or key.
        setting: String,
        /// What is wrong with it.
        message: String,
    },
    /// A part did not do what it should within the time allowed.
    #[error("{what} did not happen within {seconds} s; {hint}")]
    TooLate {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
        /// Where to look.
        hint: String,
    },
    /// A part stopped by itself.
    #[error("{part} stopped: {reason}")]
    Stopped {
        /// Which part.
        part: &'static str,
        /// Why.
        reason: String,
    },
}

impl CommandError {
    /// A file error, for `map_err`.
    pub fn file(action: &'static str, path: impl Into<std::path::PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| CommandError::File { action, path, source }
    }
}

/// What commands answer with; the edge prints the chain.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The error and its causes in one line, each said once.
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_one_line() {
        let source = std::io::Error::other("disk on fire");
        let error = CommandError::File { action: "reading", path: "/x".into(), source };
        assert_eq!(one_line(&error), "reading /x: disk on fire");
    }
}
