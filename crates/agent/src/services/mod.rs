//! The node's view of Services: what leads where ([`table`]), what names mean ([`zone`]), pushed to the network by
//! [`view`].

pub mod endpoints;
pub mod table;
pub mod view;
pub mod zone;
