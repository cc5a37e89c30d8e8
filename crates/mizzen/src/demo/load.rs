//! Requests through the Service, each on a connection of its own, counted by who answered.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::Result;

/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Clients under load at a time.
const CLIENTS: usize = 8;

/// Answers by host name, by version, and failures.
#[derive(Debug, Default)]
pub struct Tally {
    /// By the pod that answered.
    pub hosts: BTreeMap<String, u32>,
    /// By version.
    pub versions: BTreeMap<String, u32>,
    /// What went wrong, each different thing once.
    pub failures: BTreeMap<String, u32>,
}

impl Tally {
    fn count(&mut self, answer: Result<(String, String)>) {
        match answer {
            Ok((host, version)) => {
                *self.hosts.entry(host).or_default() += 1;
                *self.versions.entry(version).or_default() += 1;
            }
            Err(error) => *self.failures.entry(error.to_string()).or_default() += 1,
        }
    }

    fn add(&mut self, other: Self) {
        for (mine, theirs) in
            [(&mut self.hosts, other.hosts), (&mut self.versions, other.versions), (&mut self.failures, other.failures)]
        {
            for (key, count) in theirs {
                *mine.entry(key).or_default() += count;
            }
        }
    }

    /// Requests answered.
    pub fn answered(&self) -> u32 {
        self.versions.values().sum()
    }

    /// Requests failed.
    pub fn failed(&self) -> u32 {
        self.failures.values().sum()
    }
}

/// Sends `count` requests, one after the other.
pub async fn requests(address: SocketAddr, count: u32) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..count {
        tally.count(request(address).await);
    }
    tally
}

/// Keeps several clients busy until `stop`.
pub async fn under_load(address: SocketAddr, stop: CancellationToken) -> Tally {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let stop = stop.clone();
        clients.spawn(async move {
            let mut tally = Tally::default();
            while !stop.is_cancelled() {
                tally.count(request(address).await);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            tally
        });
    }
    let mut total = Tally::default();
    while let Some(tally) = clients.join_next().await {
        total.add(tally.unwrap_or_default());
    }
    total
}

/// One request; who answered, and in which version.
async fn request(address: SocketAddr) -> Result<(String, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.take(64 << 10).read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(ANSWER_MAX, exchange).await.map_err(|_| "no answer within 3 s")??;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).ok_or("the answer is cut off")?;
    let (host, version) = body.trim().split_once(' ').ok_or("the answer is not the sample's")?;
    Ok((host.to_string(), version.to_string()))
}

/// Asks the cluster's DNS for an address of a name.
pub async fn look_up(server: IpAddr, name: &str) -> Result<IpAddr> {
    let mut query = Query::new();
    query.set_name(Name::from_ascii(name)?);
    query.set_query_type(RecordType::A);
    let mut message = Message::query();
    message.add_query(query);
    let socket = UdpSocket::bind("0.0.0.0:0").await?;
    socket.connect((server, 53)).await?;
    socket.send(&message.to_vec()?).await?;
    let mut buffer = [0; 1500];
    let length =
        tokio::time::timeout(ANSWER_MAX, socket.recv(&mut buffer)).await.map_err(|_| "no answer within 3 s")??;
    let answer = Message::from_vec(&buffer[..length])?;
    let address = answer.answers.iter().find_map(|record| match &record.data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        _ => None,
    });
    Ok(address.ok_or_else(|| format!("{name} has no address"))?)
}
