//! The sample program of the demo: a web server that says who and which version it is, and stops when told to.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::error::Result;

/// Flags of `mizzen web`.
#[derive(Debug, clap::Args)]
pub struct WebArgs {
    /// Port to listen on
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Version to answer with
    #[arg(long, default_value = "v1")]
    version: String,
}

/// Connections served at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// Longest wait for a request on an open connection.
const IDLE: Duration = Duration::from_secs(30);

/// Serves until SIGTERM; requests under way are answered.
pub fn run(args: &WebArgs) -> Result<()> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let body: Arc<str> = format!("{host} {}\n", args.version).into();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, args.port))?;
    println!("{host} {} listens on port {}", args.version, args.port);
    let (open, stopping) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (accept_open, accept_stopping) = (Arc::clone(&open), Arc::clone(&stopping));
    std::thread::spawn(move || accept(&listener, &body, &accept_open, &accept_stopping));
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        terminate.recv().await;
        std::io::Result::Ok(())
    })?;
    // New connections still arrive until everybody has heard that this pod is leaving.
    stopping.store(true, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(500));
    for _ in 0..50 {
        if open.load(Ordering::Relaxed) == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn accept(listener: &TcpListener, body: &Arc<str>, open: &Arc<AtomicUsize>, stopping: &Arc<AtomicBool>) {
    for stream in listener.incoming().flatten() {
        while open.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
            std::thread::sleep(Duration::from_millis(1));
        }
        open.fetch_add(1, Ordering::Relaxed);
        let (body, open, stopping) = (Arc::clone(body), Arc::clone(open), Arc::clone(stopping));
        std::thread::spawn(move || {
            // A client that breaks off only ends its own connection.
            let _ = serve(stream, &body, &stopping);
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn serve(stream: TcpStream, body: &str, stopping: &AtomicBool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let (mut lines, mut keep_alive) = (0, true);
        loop {
            let mut line = String::new();
            if std::io::Read::take(&mut reader, 8192).read_line(&mut line)? == 0 {
                return Ok(());
            }
            lines += 1;
            let line = line.trim().to_ascii_lowercase();
            keep_alive &= line != "connection: close" && lines < 100;
            if line.is_empty() {
                break;
            }
        }
        keep_alive &= !stopping.load(Ordering::Relaxed);
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
            body.len()
        );
        writer.write_all(format!("{head}{body}").as_bytes())?;
        if !keep_alive {
            return Ok(());
        }
    }
}
