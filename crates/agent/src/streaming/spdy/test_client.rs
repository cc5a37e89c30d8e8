//! A client, for tests.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::frame::{HEAD, Head};
use super::headers::{Deflate, Inflate};

/// What a server sends.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Got {
    Reply(u32),
    Data { stream: u32, fin: bool, data: Vec<u8> },
    Reset(u32),
    Ping(u32),
    GoAway,
    WindowUpdate { stream: u32, delta: u32 },
    End,
}

/// A client over a connection.
pub(in super::super) struct SpdyClient<S> {
    pub(in super::super) io: S,
    deflate: Deflate,
    inflate: Inflate,
}

impl<S: AsyncRead + AsyncWrite + Unpin> SpdyClient<S> {
    pub(in super::super) fn new(io: S) -> Self {
        Self { io, deflate: Deflate::new(), inflate: Inflate::new() }
    }

    async fn control(&mut self, kind: u16, flags: u8, payload: &[u8]) {
        let mut frame = BytesMut::new();
        frame.put_u16(0x8003);
        frame.put_u16(kind);
        frame.put_u8(flags);
        frame.put_uint(payload.len() as u64, 3);
        frame.put_slice(payload);
        self.io.write_all(&frame).await.unwrap();
        self.io.flush().await.unwrap();
    }

    pub(in super::super) async fn open(&mut self, stream: u32, headers: &[(&str, &str)], fin: bool) {
        let mut payload = stream.to_be_bytes().to_vec();
        payload.extend([0; 6]);
        payload.extend(self.deflate.headers(headers));
        self.control(1, u8::from(fin), &payload).await;
    }

    pub(in super::super) async fn reset(&mut self, stream: u32) {
        self.control(3, 0, &[stream.to_be_bytes(), 5u32.to_be_bytes()].concat()).await;
    }

    pub(in super::super) async fn ping(&mut self, id: u32) {
        self.control(6, 0, &id.to_be_bytes()).await;
    }

    pub(in super::super) async fn data(&mut self, stream: u32, data: &[u8], fin: bool) {
        let mut frame = BytesMut::new();
        frame.put_u32(stream);
        frame.put_u8(u8::from(fin));
        frame.put_uint(data.len() as u64, 3);
        frame.put_slice(data);
        self.io.write_all(&frame).await.unwrap();
        self.io.flush().await.unwrap();
    }

    pub(in super::super) async fn next(&mut self) -> Got {
        let mut head = [0; HEAD];
        if self.io.read_exact(&mut head).await.is_err() {
            return Got::End;
        }
        let head = Head::parse(head).unwrap();
        let (Head::Data { length, .. } | Head::Control { length, .. }) = head;
        let mut payload = vec![0; length];
        self.io.read_exact(&mut payload).await.unwrap();
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match head {
            Head::Data { stream, fin, .. } => Got::Data { stream, fin, data: payload },
            Head::Control { kind: 2, .. } => {
                assert!(self.inflate.headers(&payload[4..]).is_ok(), "replies are compressed in step");
                Got::Reply(number(0))
            }
            Head::Control { kind: 3, .. } => Got::Reset(number(0)),
            Head::Control { kind: 6, .. } => Got::Ping(number(0)),
            Head::Control { kind: 7, .. } => Got::GoAway,
            Head::Control { kind: 9, .. } => Got::WindowUpdate { stream: number(0), delta: number(4) },
            Head::Control { kind, .. } => panic!("a frame of type {kind}"),
        }
    }

    /// Reads until these streams are ended or reset; what each carried, and `None` for those that were reset first.
    pub(in super::super) async fn finish(&mut self, streams: &[u32]) -> BTreeMap<u32, Option<String>> {
        let mut carried: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let mut done: BTreeMap<u32, Option<String>> = BTreeMap::new();
        while !streams.iter().all(|stream| done.contains_key(stream)) {
            match self.next().await {
                Got::Data { stream, fin, data } => {
                    let all = carried.entry(stream).or_default();
                    all.extend(data);
                    if fin {
                        done.insert(stream, Some(String::from_utf8_lossy(all).into_owned()));
                    }
                }
                Got::Reset(stream) => drop(done.entry(stream).or_insert(None)),
                Got::End => panic!("ended early: {carried:?} {done:?}"),
                _ => {}
            }
        }
        done
    }
}
