//! Exec and attach over WebSocket.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::super::options::Options;
use super::super::process::{self, Action, Client, Input, Output, Target};
use super::format::Format;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// Serves an upgraded connection.
pub(in super::super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    format: Format,
    target: &Target,
    action: Action,
    options: &Options,
    gone: CancellationToken,
) {
    super::serve(io, format, gone.clone(), |channels| {
        let output = |channel| -> Output { Box::new(channels.writer(channel)) };
        let (stdout, stderr) = (options.stdout.then(|| output(STDOUT)), options.stderr.then(|| output(STDERR)));
        let lowest = if options.stdout {
            STDOUT
        } else if options.stderr {
            STDERR
        } else {
            ERROR
        };
        let (mut first, mut error) = (channels.writer(lowest), channels.writer(ERROR));
        let stdin = options.stdin.then(|| -> Input { Box::new(channels.reader(STDIN)) });
        let sizes = options.tty.then(|| channels.sizes(RESIZE));
        async move {
            // Tells the client that the connection stands.
            let stands = first.message(&[]).await;
            drop(first);
            if stands.is_err() {
                return;
            }
            let outcome = process::run(target, action, Client { stdin, stdout, stderr, sizes, gone }).await;
            if let Some(words) = outcome.wording(format.wording) {
                // A client that has gone need not be told.
                let _ = error.message(&words).await;
            }
        }
    })
    .await;
}
