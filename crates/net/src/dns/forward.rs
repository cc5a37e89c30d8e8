//! Questions to upstream servers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::cache::{self, Cache};
use super::reply::EDNS_BYTES_MAX;

/// One try at one server. Resolvers give up after five seconds, so two servers get their chance before.
const TRY: Duration = Duration::from_millis(2_000);
/// Servers asked for one question, in their order, like those of resolv.conf.
const SERVERS_MAX: usize = 3;
/// The largest datagram.
const UDP_BYTES_MAX: usize = 65_535;

/// Asks upstream servers, and remembers their answers.
#[derive(Debug)]
pub struct Forwarder {
    servers: Vec<SocketAddr>,
    cache: Mutex<Cache>,
}

impl Forwarder {
    /// Asks these servers.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, cache: Mutex::default() }
    }

    /// Whether there is anybody to ask.
    pub fn has_servers(&self) -> bool {
        !self.servers.is_empty()
    }

    /// The answer that is remembered.
    pub fn remembered(&self, query: &Query, signatures: bool) -> Option<Message> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(&cache::key(query, signatures), Instant::now())
    }

    /// Asks one server after the other until one answers.
    pub async fn ask(&self, query: &Query, signatures: bool) -> Option<Message> {
        let mut last = None;
        for server in self.servers.iter().take(SERVERS_MAX) {
            match timeout(TRY, exchange(*server, query, signatures)).await {
                Ok(Ok(answer)) => {
                    // Another server may be able to answer what this one is not.
                    if matches!(answer.metadata.response_code, ResponseCode::ServFail | ResponseCode::Refused) {
                        last = Some(answer);
                        continue;
                    }
                    let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
                    cache.put(cache::key(query, signatures), &answer, Instant::now());
                    return Some(answer);
                }
                Ok(Err(error)) => tracing::debug!(%server, %error, "no answer from an upstream DNS server"),
                Err(_) => tracing::debug!(%server, "no answer from an upstream DNS server in time"),
            }
        }
        last
    }
}

async fn exchange(server: SocketAddr, query: &Query, signatures: bool) -> io::Result<Message> {
    let mut request = Message::query();
    request.metadata.recursion_desired = true;
    request.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(EDNS_BYTES_MAX);
    edns.set_dnssec_ok(signatures);
    request.set_edns(edns);
    let bytes = request.to_vec().map_err(io::Error::other)?;
    let answer = by_datagram(server, &bytes, &request).await?;
    if answer.metadata.truncation { by_connection(server, &bytes, &request).await } else { Ok(answer) }
}

/// A new socket for each question: its random port, with the random id, is what a forger would have to guess.
async fn by_datagram(server: SocketAddr, bytes: &[u8], request: &Message) -> io::Result<Message> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; UDP_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What does not belong to the question is waited out, not taken for a failure.
        if let Some(answer) = answer_to(request, &buffer[..length]) {
            return Ok(answer);
        }
    }
}

async fn by_connection(server: SocketAddr, bytes: &[u8], request: &Message) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    answer_to(request, &buffer).ok_or_else(|| io::Error::other("the answer does not belong to the question"))
}

fn answer_to(request: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let belongs = answer.metadata.id == request.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == request.queries;
    belongs.then_some(answer)
}
