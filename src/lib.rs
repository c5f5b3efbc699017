//! Front door.

pub use aeolian_net as net;
