//! mizzen-agent.
