//! `/run`: a command whose output is the answer.

use http::{Response, StatusCode};
use mizzen_runtime::driver::ExecSpec;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio_util::sync::CancellationToken;

use super::options::Options;
use super::process::{self, Action, CHUNK, Client, Output, Target};
use super::status::Outcome;
use crate::kubelet::Body;
use crate::kubelet::routes::text;

/// Most output of each stream that is answered (kubelet's limit).
const OUTPUT_MAX: u64 = 16 << 20;

/// Runs the command and answers what it wrote. If the request is dropped meanwhile, its streams are closed.
pub(super) async fn answer(target: &Target, options: Options) -> Response<Body> {
    let args: Vec<String> = options.cmd.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    if args.is_empty() {
        return text(StatusCode::BAD_REQUEST, "cmd names no command");
    }
    let pipe = || -> (Option<Output>, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(CHUNK);
        (Some(Box::new(theirs)), ours)
    };
    let ((stdout, out), (stderr, err)) = (pipe(), pipe());
    let client = Client { stdin: None, stdout, stderr, sizes: None, gone: CancellationToken::new() };
    let spec = ExecSpec { args, tty: false, stdin: false };
    let (outcome, out, err) =
        tokio::join!(process::run(target, Action::Exec(spec), client), collect(out), collect(err));
    match outcome {
        Outcome::Exited(0) => text(StatusCode::OK, out + &err),
        Outcome::Exited(code) => {
            let message = format!("command exited with {code}: {out}{err}");
            text(StatusCode::INTERNAL_SERVER_ERROR, message)
        }
        Outcome::Failed(message) => text(StatusCode::INTERNAL_SERVER_ERROR, message),
        Outcome::Ended | Outcome::Gone => text(StatusCode::INTERNAL_SERVER_ERROR, "the command was given up"),
    }
}

async fn collect(from: DuplexStream) -> String {
    let mut bytes = Vec::new();
    // What came before an error is kept.
    let _ = from.take(OUTPUT_MAX).read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}
