//! Exec and attach over SPDY: the client opens a stream for each of its ends.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::super::negotiate::Version;
use super::super::options::Options;
use super::super::process::{self, Action, Client, Input, Output, Target};
use super::super::size::{Size, Sizes};
use super::super::status::Wording;
use super::{Accepted, Opened, ResetStatus, StreamWriter};

/// How long a client may take to open its streams.
const STREAMS_WITHIN: Duration = Duration::from_secs(30);

/// The streams of a client, by their type.
#[derive(Default)]
struct Streams {
    error: Option<StreamWriter>,
    stdin: Option<DuplexStream>,
    stdout: Option<StreamWriter>,
    stderr: Option<StreamWriter>,
    resize: Option<DuplexStream>,
    /// Our halves of streams that only the client writes to.
    unused: Vec<StreamWriter>,
}

impl Streams {
    /// Whether all that belong to these options are there.
    fn complete(&self, options: &Options, version: Version) -> bool {
        let resizes = options.tty && version >= Version::V3;
        self.error.is_some()
            && self.stdin.is_some() >= options.stdin
            && self.stdout.is_some() >= options.stdout
            && self.stderr.is_some() >= options.stderr
            && self.resize.is_some() >= resizes
    }

    /// Takes a stream in; `Err` if it has no place here.
    fn add(&mut self, opened: Opened) -> Result<(), StreamWriter> {
        let Opened { headers, reader, writer, .. } = opened;
        let output = match headers.get("streamtype") {
            Some("error") => &mut self.error,
            Some("stdout") => &mut self.stdout,
            Some("stderr") => &mut self.stderr,
            Some(input @ ("stdin" | "resize")) => {
                let input = if input == "stdin" { &mut self.stdin } else { &mut self.resize };
                if input.is_some() {
                    return Err(writer);
                }
                *input = Some(reader);
                self.unused.push(writer);
                return Ok(());
            }
            _ => return Err(writer),
        };
        if output.is_some() {
            return Err(writer);
        }
        *output = Some(writer);
        Ok(())
    }
}

/// Serves an upgraded connection.
pub(in super::super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    version: Version,
    target: &Target,
    action: Action,
    options: &Options,
    gone: CancellationToken,
) {
    super::serve(io, gone.clone(), |mut accepted| async move {
        let collected = tokio::time::timeout(STREAMS_WITHIN, collect(&mut accepted, options, version)).await;
        match collected {
            Ok(Some(streams)) => session(streams, version, target, action, gone).await,
            Ok(None) => {}
            Err(_) => tracing::debug!("a SPDY client has not opened all its streams in time"),
        }
    })
    .await;
}

async fn collect(accepted: &mut Accepted, options: &Options, version: Version) -> Option<Streams> {
    let mut streams = Streams::default();
    while !streams.complete(options, version) {
        if let Err(stray) = streams.add(accepted.next().await?) {
            stray.reset(ResetStatus::RefusedStream).await;
        }
    }
    Some(streams)
}

async fn session(streams: Streams, version: Version, target: &Target, action: Action, gone: CancellationToken) {
    let Streams { error, stdin, stdout, stderr, resize, unused } = streams;
    let (sender, sizes) = watch::channel(None);
    let client = Client {
        stdin: stdin.map(|reader| -> Input { Box::new(reader) }),
        stdout: stdout.map(|writer| -> Output { Box::new(writer) }),
        stderr: stderr.map(|writer| -> Output { Box::new(writer) }),
        sizes: Some(sizes),
        gone,
    };
    let resizing = async {
        if let Some(resize) = resize {
            read_sizes(resize, sender).await;
        }
        std::future::pending().await
    };
    let outcome = tokio::select! {
        outcome = process::run(target, action, client) => outcome,
        () = resizing => return,
    };
    let wording = if version >= Version::V4 { Wording::Status } else { Wording::Text };
    if let Some(mut error) = error {
        // A client that has gone need not be told.
        if let Some(words) = outcome.wording(wording) {
            let _ = error.write_all(&words).await;
        }
        let _ = error.shutdown().await;
    }
    for mut writer in unused {
        let _ = writer.shutdown().await;
    }
}

async fn read_sizes(mut from: DuplexStream, to: watch::Sender<Option<Size>>) {
    let (mut sizes, mut buffer) = (Sizes::default(), [0; 1024]);
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if let Some(size) = sizes.push(&buffer[..count]) {
            to.send_replace(Some(size));
        }
    }
}
