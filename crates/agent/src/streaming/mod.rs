//! Streams into pods: exec, attach, run and port-forward, for whoever the kubelet endpoint lets in.
//!
//! [`options`] reads a request, [`negotiate`] settles the protocol, [`websocket`] and [`spdy`] turn an upgraded
//! connection into byte streams, [`process`] connects them to a program and [`port_forward`] to a port. All memory is
//! bounded: who does not read is not read from.

mod descriptor;
mod idle;
mod negotiate;
mod options;
mod port_forward;
mod process;
mod run;
mod session;
mod size;
mod spdy;
mod status;
#[cfg(test)]
mod tests;
mod websocket;

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use mizzen_runtime::driver::ExecSpec;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::kubelet::Body;
use crate::kubelet::routes::{Routes, text};
use negotiate::{Transport, Wanted};
use options::Options;
use port_forward::Pod;
use process::{Action, Target};

/// Owner of the tasks that serve streams.
#[derive(Debug, Clone)]
pub struct Sessions {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Sessions {
    /// Their tasks run in `tasks` and end at `stop`.
    pub fn new(tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { tasks, stop }
    }
}

/// Answers `/exec`, `/attach`, `/run` and `/portForward`; `path` are the segments of the request's path. What is
/// upgraded goes on in a task of `sessions`.
pub async fn handle(routes: &Routes, sessions: &Sessions, path: &[&str], request: Request<Incoming>) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    }
    let answer = match path {
        [verb @ ("exec" | "attach" | "run"), namespace, pod, container] => {
            program(routes, sessions, verb, (namespace, pod, None, container), request).await
        }
        [verb @ ("exec" | "attach" | "run"), namespace, pod, uid, container] => {
            program(routes, sessions, verb, (namespace, pod, Some(uid), container), request).await
        }
        ["portForward", namespace, pod] => forward(routes, sessions, (namespace, pod, None), request).await,
        ["portForward", namespace, pod, uid] => forward(routes, sessions, (namespace, pod, Some(uid)), request).await,
        _ => Err(refuse(StatusCode::NOT_FOUND, "404 page not found\n")),
    };
    answer.unwrap_or_else(|refusal| *refusal)
}

/// The answer to a request that is refused.
type Refused = Box<Response<Body>>;

fn refuse(code: StatusCode, message: impl Into<String>) -> Refused {
    Box::new(text(code, message))
}

type Place<'a> = (&'a str, &'a str, Option<&'a str>, &'a str);

async fn program(
    routes: &Routes,
    sessions: &Sessions,
    verb: &str,
    (namespace, pod, uid, container): Place<'_>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refused> {
    let options = Options::parse(request.uri().query().unwrap_or_default());
    let found = routes.running(namespace, pod, container).await?;
    same_pod(pod, &found.uid, uid)?;
    let target =
        Target { driver: Arc::clone(&routes.ctx.driver), pod_uid: found.uid, container_id: found.container.spec.id };
    if verb == "run" {
        return Ok(run::answer(&target, options).await);
    }
    let action = match verb {
        "exec" => {
            let Options { command, stdin, tty, .. } = &options;
            Action::Exec(ExecSpec { args: command.clone(), tty: *tty, stdin: *stdin })
        }
        _ => Action::Attach,
    };
    open_program(sessions, target, action, options, request)
}

/// Changes over to a stream of exec or attach.
fn open_program(
    sessions: &Sessions,
    target: Target,
    action: Action,
    options: Options,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refused> {
    let exec = matches!(action, Action::Exec(_));
    options.check(exec).map_err(|message| refuse(StatusCode::BAD_REQUEST, message))?;
    let upgrade = negotiate::negotiate(request.headers(), request.method(), Wanted::Program)
        .map_err(|refusal| Box::new(refusal.answer()))?;
    let (answer, transport) = (upgrade.answer(), upgrade.transport);
    sessions.spawn(hyper::upgrade::on(request), move |io, gone| async move {
        match transport {
            Transport::WebSocket(format) => {
                websocket::program::serve(io, format, &target, action, &options, gone).await
            }
            Transport::Spdy(version) => spdy::program::serve(io, version, &target, action, &options, gone).await,
            // Never negotiated for programs.
            Transport::Tunnel | Transport::SpdyForward | Transport::Raw { .. } => {}
        }
    });
    Ok(answer)
}

async fn forward(
    routes: &Routes,
    sessions: &Sessions,
    (namespace, name, uid): (&str, &str, Option<&str>),
    request: Request<Incoming>,
) -> Result<Response<Body>, Refused> {
    let options = Options::parse(request.uri().query().unwrap_or_default());
    let pod = routes.pod(namespace, name)?;
    let actual = pod.metadata.uid.clone().unwrap_or_default();
    same_pod(name, &actual, uid)?;
    let sandbox = routes.ctx.driver.sandbox(&actual).await;
    let sandbox = sandbox.map_err(|e| refuse(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    let pod = Pod { name: format!("{name}_{namespace}"), uid: actual, network: sandbox.network_namespace };
    open_forward(sessions, pod, &options, request)
}

/// Changes over to a stream of port-forward.
fn open_forward(
    sessions: &Sessions,
    pod: Pod,
    options: &Options,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refused> {
    let upgrade = negotiate::negotiate(request.headers(), request.method(), Wanted::Forward)
        .map_err(|refusal| Box::new(refusal.answer()))?;
    // The other protocols name a port with each stream.
    let ports = match upgrade.transport {
        Transport::WebSocket(_) => {
            port_forward::check(&options.ports).map_err(|message| refuse(StatusCode::BAD_REQUEST, message))?
        }
        _ => Vec::new(),
    };
    let (answer, transport) = (upgrade.answer(), upgrade.transport);
    sessions.spawn(hyper::upgrade::on(request), move |io, gone| async move {
        match transport {
            Transport::WebSocket(format) => port_forward::websocket::serve(io, format, &pod, &ports, gone).await,
            Transport::Tunnel => {
                let io = websocket::tunnel::Tunnel::accept(io).await;
                port_forward::spdy::serve(io, pod, gone).await;
            }
            Transport::SpdyForward => port_forward::spdy::serve(io, pod, gone).await,
            // Never negotiated for port-forward.
            Transport::Spdy(_) | Transport::Raw { .. } => {}
        }
    });
    Ok(answer)
}

/// Answers with a log, or changes over to a WebSocket that carries it if that is asked for.
pub fn log(sessions: &Sessions, request: Request<Incoming>, answer: Response<Body>) -> Response<Body> {
    if answer.status() != StatusCode::OK || !negotiate::is_websocket(request.headers()) {
        return answer;
    }
    let upgrade = match negotiate::negotiate(request.headers(), request.method(), Wanted::Log) {
        Ok(upgrade) => upgrade,
        Err(refusal) => return refusal.answer(),
    };
    let base64 = upgrade.transport == Transport::Raw { base64: true };
    sessions.spawn(hyper::upgrade::on(request), move |io, gone| async move {
        tokio::select! {
            () = websocket::body::serve(io, base64, answer.into_body()) => {}
            () = gone.cancelled() => {}
        }
    });
    upgrade.answer()
}

fn same_pod(name: &str, actual: &str, asked: Option<&str>) -> Result<(), Refused> {
    match asked {
        Some(asked) if asked != actual => {
            Err(refuse(StatusCode::NOT_FOUND, format!("pod \"{name}\" has not the uid {asked}")))
        }
        _ => Ok(()),
    }
}
