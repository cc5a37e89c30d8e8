//! Whole streams over real sockets: a real HTTP upgrade, real processes of this machine behind a fake driver.

mod spdy;
mod websocket;
mod world;
