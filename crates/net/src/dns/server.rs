//! The server: sockets and tasks around `reply` and `forward`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::Name;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::forward::Forwarder;
use super::names::Names;
use super::reply::{self, Request, Step, Transport};
use super::zone::Zone;

/// Questions under way to upstream servers; more are answered with a failure at once, so that names of the cluster
/// are served whatever happens outside.
const FORWARDED_MAX: usize = 1_000;
/// Connections at a time.
const CONNECTIONS_MAX: usize = 256;
/// A connection without a question is closed after this.
const IDLE: Duration = Duration::from_secs(10);
/// A pause after the system refused a connection or datagram, as it does when descriptors run out.
const PAUSE: Duration = Duration::from_millis(50);
/// Requests are short; a longer datagram is cut, and then refused as malformed.
const REQUEST_BYTES_MAX: usize = 4_096;

/// How the server is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster domain, `cluster.local`.
    pub domain: String,
    /// Who is asked for all other names, in this order. None: such names are refused.
    pub upstreams: Vec<SocketAddr>,
    /// How long answers may be kept, 5 to 30 seconds.
    pub ttl_seconds: u32,
}

/// The server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster domain is no DNS name.
    #[error("{domain:?} is not a DNS name")]
    Domain {
        /// The domain.
        domain: String,
    },
    /// An address cannot be used.
    #[error("cannot serve DNS at {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// A running server. Dropping it ends all of its tasks.
#[derive(Debug)]
pub struct DnsServer {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    domain: Name,
    ttl_seconds: u32,
    /// `None` until the first zone is set: then names of the cluster fail, and nobody concludes that there are none.
    names: ArcSwapOption<Names>,
    forwarder: Forwarder,
    forwarded: Semaphore,
}

impl DnsServer {
    /// Listens at these addresses, by UDP and TCP, and serves. Port 0 takes a free one, the same for both.
    ///
    /// # Errors
    /// An address cannot be used, or the domain is none.
    pub async fn bind(addresses: &[SocketAddr], config: Config) -> Result<Self, Error> {
        let domain = Name::from_ascii(format!("{}.", config.domain.trim_end_matches('.')));
        let shared = Arc::new(Shared {
            domain: domain.map_err(|_| Error::Domain { domain: config.domain })?,
            ttl_seconds: config.ttl_seconds,
            names: ArcSwapOption::empty(),
            forwarder: Forwarder::new(config.upstreams),
            forwarded: Semaphore::new(FORWARDED_MAX),
        });
        let mut tasks = JoinSet::new();
        let mut bound = Vec::new();
        for address in addresses {
            let failed = |source| Error::Bind { address: *address, source };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let actual = listener.local_addr().map_err(failed)?;
            let socket = UdpSocket::bind(actual).await.map_err(failed)?;
            tasks.spawn(serve_datagrams(Arc::clone(&shared), Arc::new(socket)));
            tasks.spawn(serve_connections(Arc::clone(&shared), listener));
            bound.push(actual);
        }
        Ok(Self { shared, addresses: bound, _tasks: tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Changes what the names of the cluster mean. Questions under way get the old or the new answer.
    pub fn set_zone(&self, zone: Arc<Zone>) {
        self.shared.names.store(Some(Arc::new(Names::new(zone, self.shared.ttl_seconds))));
    }
}

impl Shared {
    fn step(&self, bytes: &[u8], transport: Transport) -> Step {
        let names = self.names.load();
        reply::step(bytes, transport, names.as_deref(), |query| self.domain.zone_of(query.name()))
    }

    /// Replies that need no waiting.
    fn quick(&self, step: Step) -> Result<Option<Vec<u8>>, Pending> {
        match step {
            Step::Send(bytes) => Ok(Some(bytes)),
            Step::Ignore => Ok(None),
            Step::Forward { request, query, aliases } => {
                let signatures = request.wants_signatures();
                let remembered = self.forwarder.remembered(&query, signatures);
                let pending = Pending { request, query, aliases };
                match remembered {
                    Some(answer) => Ok(sent(pending.request.forwarded(pending.aliases, Some(answer)))),
                    None if !self.forwarder.has_servers() => {
                        Ok(sent(pending.request.failed(pending.aliases, ResponseCode::Refused)))
                    }
                    None => Err(pending),
                }
            }
        }
    }

    async fn ask_upstream(&self, pending: Pending) -> Option<Vec<u8>> {
        let answer = match self.forwarded.try_acquire() {
            Ok(_permit) => self.forwarder.ask(&pending.query, pending.request.wants_signatures()).await,
            Err(_) => None,
        };
        sent(pending.request.forwarded(pending.aliases, answer))
    }
}

/// A question that upstream must answer.
struct Pending {
    request: Box<Request>,
    query: Query,
    aliases: Vec<hickory_proto::rr::Record>,
}

fn sent(step: Step) -> Option<Vec<u8>> {
    match step {
        Step::Send(bytes) => Some(bytes),
        Step::Ignore | Step::Forward { .. } => None,
    }
}

/// Removes tasks that ended.
fn reap(tasks: &mut JoinSet<()>) {
    while tasks.try_join_next().is_some() {}
}

async fn serve_datagrams(shared: Arc<Shared>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; REQUEST_BYTES_MAX];
    let mut waiting = JoinSet::new();
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "cannot receive a DNS request");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        reap(&mut waiting);
        match shared.quick(shared.step(&buffer[..length], Transport::Udp)) {
            Ok(reply) => send_datagram(&socket, reply, client).await,
            Err(pending) if waiting.len() < FORWARDED_MAX => {
                let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
                waiting.spawn(async move {
                    let reply = shared.ask_upstream(pending).await;
                    send_datagram(&socket, reply, client).await;
                });
            }
            Err(pending) => {
                let reply = sent(pending.request.failed(pending.aliases, ResponseCode::ServFail));
                send_datagram(&socket, reply, client).await;
            }
        }
    }
}

async fn send_datagram(socket: &UdpSocket, reply: Option<Vec<u8>>, client: SocketAddr) {
    if let Some(reply) = reply
        && let Err(error) = socket.send_to(&reply, client).await
    {
        tracing::debug!(%error, %client, "cannot send a DNS reply");
    }
}

async fn serve_connections(shared: Arc<Shared>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                reap(&mut connections);
                if connections.len() < CONNECTIONS_MAX {
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move {
                        if let Err(error) = serve_connection(&shared, stream).await {
                            tracing::debug!(%error, %client, "a DNS connection ended");
                        }
                    });
                }
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept a DNS connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// One question after the other; the length of each comes before it.
async fn serve_connection(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let request = timeout(IDLE, async {
            let length = stream.read_u16().await?;
            let mut request = vec![0; usize::from(length)];
            stream.read_exact(&mut request).await?;
            Ok::<_, io::Error>(request)
        });
        let request = match request.await {
            Ok(Ok(request)) => request,
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        let reply = match shared.quick(shared.step(&request, Transport::Tcp)) {
            Ok(reply) => reply,
            Err(pending) => shared.ask_upstream(pending).await,
        };
        // Who sends what deserves no reply is not spoken to any longer.
        let Some(reply) = reply else { return Ok(()) };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        timeout(IDLE, stream.write_all(&[&length.to_be_bytes(), &reply[..]].concat())).await??;
    }
}
