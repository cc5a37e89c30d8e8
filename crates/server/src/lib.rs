//! mizzen-server.
