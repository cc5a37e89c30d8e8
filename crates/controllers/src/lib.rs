//! mizzen-controllers.
